"""Watches tell every change once, and say when they cannot."""

import json

import pytest
from kubernetes import watch as kubernetes_watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from definemed_pipeline_tests.kubernetes_server import KubernetesServer, store
from definemed_pipeline_tests.kubernetes_server.conftest import NAMESPACE, Client, conditions, job
from definemed_pipeline_tests.kubernetes_server.connections import WATCHES


def opened(kubernetes, **options):
    return kubernetes.batch.list_namespaced_job(NAMESPACE, watch=True, _preload_content=False, **options)


def events(response):
    return (json.loads(line) for line in response)


def paused(name="train", **labels):
    made = job("exit 0", name, suspend=True)
    made["metadata"]["labels"] = labels
    return made


def test_a_watch_tells_first_what_is_there_and_then_what_happens(server, kubernetes):
    kubernetes.create(paused("a"))
    server.wait_for(lambda: "Suspended" in conditions(server.job("a")))
    following = events(opened(kubernetes))
    assert (first := next(following))["type"] == "ADDED"
    assert first["object"]["kind"] == "Job"
    kubernetes.create(paused("b"))
    kinds = [next(following) for _ in range(2)]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in kinds] == [("ADDED", "b"), ("MODIFIED", "b")]
    kubernetes.delete("a", "Background")
    assert (gone := next(following))["type"] == "DELETED"
    assert int(gone["object"]["metadata"]["resourceVersion"]) > int(first["object"]["metadata"]["resourceVersion"])


def test_a_watch_goes_on_from_the_version_of_a_list(server, kubernetes):
    kubernetes.create(paused("a"))
    server.wait_for(lambda: "Suspended" in conditions(server.job("a")))
    version = kubernetes.ask(kubernetes.batch.list_namespaced_job, NAMESPACE)["metadata"]["resourceVersion"]
    kubernetes.create(paused("b"))
    assert next(events(opened(kubernetes, resource_version=version)))["object"]["metadata"]["name"] == "b"


def test_versions_increase_through_a_jobs_life(server, kubernetes):
    response = opened(kubernetes)
    kubernetes.create(job("exit 0"))
    versions = []
    for event in events(response):
        versions.append(int(event["object"]["metadata"]["resourceVersion"]))
        if "Complete" in conditions(event["object"]):
            break
    assert len(versions) > 2
    assert versions == sorted(set(versions))


def test_what_comes_under_a_selector_is_added_and_what_leaves_it_deleted(kubernetes):
    following = events(opened(kubernetes, label_selector="run=1"))
    kubernetes.create(paused("a", run="2"))
    kubernetes.patch("a", {"metadata": {"labels": {"run": "1"}}})
    assert next(following)["type"] == "ADDED"
    kubernetes.patch("a", {"metadata": {"labels": {"run": "3"}}})
    assert next(event["type"] for event in following if event["type"] != "MODIFIED") == "DELETED"


def test_a_watch_ends_after_the_time_it_was_given_with_a_bookmark_if_asked(kubernetes):
    (bookmark,) = events(opened(kubernetes, timeout_seconds=1, allow_watch_bookmarks=True))
    assert bookmark["type"] == "BOOKMARK"
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) > 0


def test_an_expired_watch_ends_with_an_error_and_no_earlier_version_is_taken(server, kubernetes):
    made = kubernetes.create(paused())
    following = events(opened(kubernetes))
    next(following)
    server.expire_watches()
    last = [event for event in following if event["type"] == "ERROR"]
    assert [(event["object"]["code"], event["object"]["reason"]) for event in last] == [(410, "Expired")]
    (refused,) = events(opened(kubernetes, resource_version=made["metadata"]["resourceVersion"]))
    assert (refused["type"], refused["object"]["code"]) == ("ERROR", 410)
    assert next(events(opened(kubernetes)))["type"] == "ADDED"


def test_a_version_that_is_older_than_the_history_has_expired(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LONGEST_HISTORY", 5)
    with KubernetesServer(tmp_path) as server, Client(server).api:
        kubernetes = Client(server)
        version = kubernetes.create(paused())["metadata"]["resourceVersion"]
        for number in range(6):
            kubernetes.patch("train", {"metadata": {"labels": {"count": str(number)}}})
        (expired,) = events(opened(kubernetes, resource_version=version))
        assert (expired["type"], expired["object"]["code"]) == ("ERROR", 410)


def test_the_clients_own_watch_raises_when_it_has_expired(server, kubernetes):
    made = kubernetes.create(paused())
    server.expire_watches()
    following = kubernetes_watch.Watch().stream(
        kubernetes.batch.list_namespaced_job, NAMESPACE, resource_version=made["metadata"]["resourceVersion"], timeout_seconds=5
    )
    with pytest.raises(ApiException) as expired:
        list(following)
    assert expired.value.status == 410


def test_watches_can_be_cut(server, kubernetes):
    kubernetes.create(paused())
    following = events(opened(kubernetes))
    next(following)
    server.cut_watches()
    with pytest.raises(ProtocolError):
        list(following)
    server.wait_for(lambda: server.listener.count(WATCHES) == 0)


def test_a_client_that_hangs_up_is_forgotten(server, kubernetes):
    response = opened(kubernetes)
    server.wait_for(lambda: server.listener.count(WATCHES) == 1)
    response.close()
    server.wait_for(lambda: server.listener.count(WATCHES) == 0)

"""Each thing that can happen to a cluster, or between it and its clients, looks as it does in a real one."""

import time

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from definemed_pipeline_tests.kubernetes_server.conftest import (
    NAMESPACE,
    conditions,
    container_state,
    finished,
    job,
    running,
)
from definemed_pipeline_tests.kubernetes_server.connections import LOGS

STAY = "echo up; exec sleep 60"
IGNORING = {
    "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]},
    "podReplacementPolicy": "Failed",
    "backoffLimit": 0,
}


def reason_for_waiting(server):
    """Return why the first pod's container waits."""
    for pod in server.pods():
        if "containerStatuses" in pod["status"]:
            kind, told = container_state(pod)
            return told["reason"] if kind == "waiting" else ""
    return ""


def last_seen(server, pod, version):
    """Wait until a pod is gone; return it as it was last."""
    server.wait_for(lambda: pod not in [one["metadata"]["name"] for one in server.pods()])
    changes = server.store.since("pods", version)
    return next(one.before for one in changes if one.after is None and one.before["metadata"]["name"] == pod)


def test_an_image_that_cannot_be_pulled_is_tried_again_and_again(server, kubernetes):
    server.cannot_pull_image()
    kubernetes.create(job("exit 0"))
    for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull"):
        server.wait_for(lambda reason=reason: reason_for_waiting(server) == reason)
    assert "example/payload:1: not found" in container_state(server.pods()[0])[1]["message"]
    assert server.pods()[0]["status"]["phase"] == "Pending"
    server.can_pull_image()
    finished(server)


@pytest.mark.parametrize("image", ["Example/Payload", "example/payload:", "example payload", "example/payload:a:b"])
def test_a_name_that_is_no_images_is_told_as_such(server, kubernetes, image):
    kubernetes.create(job("exit 0", container={"image": image}))
    server.wait_for(lambda: reason_for_waiting(server) == "InvalidImageName")


@pytest.mark.parametrize("image", ["payload", "ghcr.io/example/payload:1.0", "localhost:5000/payload@sha256:" + "0" * 64])
def test_other_names_are_images(server, kubernetes, image):
    kubernetes.create(job("exit 0", container={"image": image}))
    assert "Complete" in conditions(finished(server))


def test_a_large_image_takes_its_time(server, kubernetes):
    server.pull_slowly()
    kubernetes.create(job("exit 0"))
    server.wait_for(lambda: reason_for_waiting(server) == "ContainerCreating")
    server.finish_pulling()
    finished(server)


def test_a_pod_that_fits_nowhere_waits_and_says_why(server, kubernetes):
    server.unschedulable()
    kubernetes.create(job("exit 0"))
    pod = server.wait_for(lambda: [pod for pod in server.pods() if pod["status"].get("conditions")])[0]
    (scheduled,) = pod["status"]["conditions"]
    assert (scheduled["type"], scheduled["status"], scheduled["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in scheduled["message"]
    assert [event["reason"] for event in server.events(pod["metadata"]["name"])] == ["FailedScheduling"]
    server.schedulable()
    finished(server)


def test_a_job_whose_pods_are_forbidden_says_why_and_tries_again(server, kubernetes):
    server.forbid_pods()
    kubernetes.create(job("exit 0"))
    server.wait_for(lambda: any(event["count"] > 1 for event in server.events("train")))
    (event,) = server.events("train")
    assert (event["type"], event["reason"]) == ("Warning", "FailedCreate")
    assert 'pods "train-" is forbidden: exceeded quota' in event["message"]
    assert server.pods() == []
    server.allow_pods()
    assert "Complete" in conditions(finished(server))


def test_a_pod_without_a_node_is_deleted_at_once(server, kubernetes):
    server.unschedulable()
    kubernetes.create(job("exit 0"))
    server.wait_for(server.pods)
    kubernetes.delete("train")
    server.wait_for(lambda: not server.jobs() and not server.pods())


@pytest.mark.parametrize(
    ("method", "reason", "message"),
    [
        ("evict", "EvictionByEvictionAPI", "Eviction API: evicting"),
        ("preempt", "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"),
    ],
)
def test_a_disrupted_pod_says_by_whom_and_is_ended(server, kubernetes, method, reason, message):
    kubernetes.create(job(STAY, **IGNORING))
    (name,) = running(server, says="up")
    version = server.store.version
    getattr(server, method)(name)
    pod = last_seen(server, name, version)
    assert conditions(pod)["DisruptionTarget"] == (reason, message)
    assert (pod["status"]["phase"], container_state(pod)[1]["exitCode"]) == ("Failed", 143)
    assert running(server) != [name]


def test_a_pod_can_be_evicted_before_its_start(server, kubernetes):
    server.pull_slowly()
    kubernetes.create(job("exit 0", **IGNORING))
    server.wait_for(lambda: reason_for_waiting(server) == "ContainerCreating")
    (name,) = [pod["metadata"]["name"] for pod in server.pods()]
    version = server.store.version
    server.evict(name)
    pod = last_seen(server, name, version)
    kind, told = container_state(pod)
    assert (pod["status"]["phase"], kind, told["exitCode"], told["reason"]) == (
        "Failed",
        "terminated",
        137,
        "ContainerStatusUnknown",
    )
    server.finish_pulling()
    assert "Complete" in conditions(finished(server))


def test_an_evicted_pod_may_say_nothing_about_its_containers(server, kubernetes):
    kubernetes.create(job(STAY, **IGNORING))
    (name,) = running(server, says="up")
    version = server.store.version
    server.evict(name, container_statuses=False)
    pod = last_seen(server, name, version)
    assert pod["status"]["phase"] == "Failed"
    assert "containerStatuses" not in pod["status"]
    running(server)


def test_a_pod_on_a_lost_node_stays_and_its_process_works_on(server, kubernetes, tmp_path):
    kubernetes.create(job(f"echo up; while ! test -e {tmp_path}/go; do sleep 0.02; done; touch {tmp_path}/done", **IGNORING))
    (name,) = running(server, says="up")
    server.lose_node(name)
    (tmp_path / "go").touch()
    server.wait_for((tmp_path / "done").exists)
    server.wait_for(lambda: server.job("train")["status"]["terminating"] == 1)
    (pod,) = server.pods("train")
    assert pod["metadata"]["deletionTimestamp"]
    assert pod["status"]["phase"] == "Running"
    assert conditions(pod)["DisruptionTarget"][0] == "DeletionByTaintManager"
    with pytest.raises(ApiException, match="i/o timeout"):
        kubernetes.log(name)


def test_a_pod_is_replaced_once_its_lost_node_is_removed(server, kubernetes):
    kubernetes.create(job(STAY, **IGNORING))
    (name,) = running(server, says="up")
    server.lose_node(name)
    version = server.store.version
    server.node_gone(name)
    pod = last_seen(server, name, version)
    assert pod["status"]["phase"] == "Failed"
    assert conditions(pod)["DisruptionTarget"] == ("DeletionByPodGC", "PodGC: node no longer exists")
    assert running(server) != [name]


def test_a_lost_node_that_returns_ends_the_pod_it_should_have(server, kubernetes):
    kubernetes.create(job(STAY, **IGNORING))
    (name,) = running(server, says="up")
    server.lose_node(name)
    version = server.store.version
    server.node_returns(name)
    assert container_state(last_seen(server, name, version))[1]["exitCode"] == 143
    running(server)


def test_a_job_with_a_pod_on_a_lost_node_can_only_be_deleted_with_force(server, kubernetes):
    kubernetes.create(job(STAY))
    (name,) = running(server, says="up")
    server.lose_node(name)
    kubernetes.delete("train")
    server.wait_for(lambda: server.job("train")["metadata"].get("deletionTimestamp"))
    server.delete_pod(name, grace=0)
    server.wait_for(lambda: not server.jobs())


def test_a_pod_that_is_deleted_by_hand_counts_as_a_failure(server, kubernetes):
    kubernetes.create(job(STAY, podReplacementPolicy="Failed"))
    (name,) = running(server, says="up")
    server.delete_pod(name)
    assert running(server) != [name]
    assert server.job("train")["status"]["failed"] == 1


def test_a_job_that_is_deleted_by_hand_is_gone_with_its_pods(server, kubernetes):
    kubernetes.create(job(STAY))
    running(server, says="up")
    server.delete_job("train")
    with pytest.raises(ApiException):
        kubernetes.job("train")
    server.wait_for(lambda: not server.pods())


def test_running_out_of_memory_is_told_as_such(server, kubernetes):
    kubernetes.create(job(STAY, backoffLimit=0))
    (name,) = running(server, says="up")
    server.out_of_memory(name)
    finished(server)
    _, told = container_state(server.pod(name))
    assert (told["exitCode"], told["reason"]) == (137, "OOMKilled")


def test_a_clock_that_is_wrong_is_wrong_in_every_timestamp(server, kubernetes):
    server.skew_clock(-7200)
    kubernetes.create(job("echo up"))
    done = finished(server)
    (pod,) = server.pods()
    stamp = kubernetes.log(pod["metadata"]["name"], timestamps=True)[:19]
    for text in (done["metadata"]["creationTimestamp"], done["status"]["startTime"], stamp):
        assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 7300)) < text[:19]
        assert text[:19] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 7100))


def test_requests_fail_as_often_as_asked(server, kubernetes):
    kubernetes.create(job(STAY))
    server.fail_requests(500, times=2, verb="get", path_contains="/jobs/")
    for _ in range(2):
        with pytest.raises(ApiException) as failed:
            kubernetes.job("train")
        assert failed.value.status == 500
        assert kubernetes.pods() is not None
    assert kubernetes.job("train")


def test_a_busy_server_says_when_to_come_again(server, kubernetes):
    server.fail_requests(429, retry_after=3)
    kubernetes.api.rest_client.pool_manager.connection_pool_kw["retries"] = False
    with pytest.raises(ApiException) as busy:
        kubernetes.pods()
    assert (busy.value.status, busy.value.headers["Retry-After"]) == (429, "3")


@pytest.mark.parametrize("after_the_deed", [False, True])
def test_a_connection_may_break_before_or_after_the_deed(server, kubernetes, after_the_deed):
    server.drop_connections(verb="create", after_the_deed=after_the_deed)
    kubernetes.api.rest_client.pool_manager.connection_pool_kw["retries"] = False
    with pytest.raises(urllib3.exceptions.ProtocolError):
        kubernetes.create(job(STAY))
    assert len(server.jobs()) == after_the_deed


def test_a_fault_of_a_verb_that_does_not_exist_is_a_mistake_of_the_test(server):
    with pytest.raises(ValueError, match="POST is no verb of Kubernetes"):
        server.drop_connections(verb="POST")


def test_trouble_ends(server, kubernetes):
    server.fail_requests(503, times=1000)
    server.slow(60)
    server.refuse_access()
    server.end_trouble()
    assert kubernetes.pods() == []


def test_everyone_can_be_refused(server, kubernetes):
    server.refuse_access()
    with pytest.raises(ApiException) as refused:
        kubernetes.pods()
    assert refused.value.status == 401


def test_a_slow_server_lets_every_request_wait(server, kubernetes):
    server.slow(0.3)
    begun = time.monotonic()
    kubernetes.pods()
    assert time.monotonic() - begun > 0.3


def test_a_log_that_is_followed_can_be_cut(server, kubernetes):
    kubernetes.create(job(STAY))
    (name,) = running(server, says="up")
    response = kubernetes.core.read_namespaced_pod_log(name, NAMESPACE, follow=True, _preload_content=False)
    lines = iter(response)
    assert next(lines) == b"up\n"
    server.wait_for(lambda: server.listener.count(LOGS) == 1)
    server.cut_logs()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(lines)
    assert server.pod(name)["status"]["phase"] == "Running"


def test_waiting_in_vain_tells_how_the_cluster_stands(server, kubernetes):
    kubernetes.create(job(STAY))
    running(server)
    with pytest.raises(AssertionError, match=r"Job train: .*active.*\nPod train-.*Running"):
        server.wait_for(lambda: False, seconds=0.1)

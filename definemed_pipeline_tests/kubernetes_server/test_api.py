"""The API keeps, finds, changes and removes objects as the real one does."""

from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from kubernetes.client.exceptions import ApiException

from definemed_pipeline_tests.kubernetes_server.conftest import NAMESPACE, conditions, finished, job, pod_spec, running

STAY = "echo up; sleep 60 & wait"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def refusal(status, request, *arguments, **options):
    with pytest.raises(ApiException) as refused:
        request(*arguments, **options)
    assert refused.value.status == status
    return refused.value


def names(items):
    return [one["metadata"]["name"] for one in items]


def service(name, owner=None):
    metadata = {"name": name, "ownerReferences": [owner]} if owner else {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": "None", "ports": [{"port": 29400}]},
    }


def owned_by(one, **more):
    return {
        "apiVersion": one["apiVersion"],
        "kind": one["kind"],
        "name": one["metadata"]["name"],
        "uid": one["metadata"]["uid"],
        **more,
    }


def paused(name="train", **metadata):
    made = job("exit 0", name, suspend=True)
    made["metadata"].update(metadata)
    return made


def test_a_job_is_returned_with_what_the_server_gives_it(kubernetes):
    made = kubernetes.create(job("exit 0"))
    assert {"uid", "creationTimestamp", "resourceVersion", "generation", "namespace"} <= made["metadata"].keys()
    assert (made["spec"]["parallelism"], made["spec"]["completions"], made["spec"]["backoffLimit"]) == (1, 1, 6)
    assert made["spec"]["podReplacementPolicy"] == "TerminatingOrFailed"
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": made["metadata"]["uid"]}}
    assert kubernetes.job("train")["metadata"]["uid"] == made["metadata"]["uid"]


def test_the_unmodified_client_reads_what_it_is_sent(server, kubernetes):
    kubernetes.create(job("exit 0"))
    finished(server)
    read = kubernetes.batch.read_namespaced_job("train", NAMESPACE)
    assert [one.type for one in read.status.conditions] == ["SuccessCriteriaMet", "Complete"]
    (pod,) = kubernetes.core.list_namespaced_pod(NAMESPACE).items
    assert pod.status.container_statuses[0].state.terminated.exit_code == 0
    assert {event.reason for event in kubernetes.core.list_namespaced_event(NAMESPACE).items} >= {"Scheduled", "Completed"}


def test_a_name_is_given_once(kubernetes):
    kubernetes.create(paused())
    assert "already exists" in refusal(409, kubernetes.create, paused()).body


def test_what_is_not_there_is_not_found(kubernetes):
    assert 'jobs.batch \\"train\\" not found' in refusal(404, kubernetes.job, "train").body
    refusal(404, kubernetes.delete, "train")
    refusal(404, kubernetes.patch, "train", {})
    elsewhere = refusal(404, kubernetes.batch.create_namespaced_job, "nowhere", job("exit 0"))
    assert 'namespaces \\"nowhere\\" not found' in elsewhere.body


def test_verbs_that_are_not_served_are_refused(kubernetes):
    refusal(404, kubernetes.core.list_node)
    refusal(405, kubernetes.batch.replace_namespaced_job, "train", NAMESPACE, job("exit 0"))


def test_who_has_no_token_is_refused(server):
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{server.url}/version")
    assert refused.value.code == 401


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("asset=cpt", {"a", "b"}),
        ("asset==cpt,run=1", {"a"}),
        ("asset!=cpt", {"c", "d"}),
        ("run in (1, 3)", {"a", "c"}),
        ("run notin (1,2),asset", {"c"}),
        ("run", {"a", "b", "c"}),
        ("!run", {"d"}),
        ("", {"a", "b", "c", "d"}),
    ],
)
def test_labels_select(kubernetes, selector, found):
    for name, labels in {
        "a": {"asset": "cpt", "run": "1"},
        "b": {"asset": "cpt", "run": "2"},
        "c": {"asset": "merge", "run": "3"},
        "d": {},
    }.items():
        kubernetes.create(paused(name, labels=labels))
    listed = kubernetes.ask(kubernetes.batch.list_namespaced_job, NAMESPACE, label_selector=selector)
    assert set(names(listed["items"])) == found


def test_fields_select(server, kubernetes):
    for name in ("a", "b"):
        kubernetes.create(paused(name))
        server.wait_for(lambda name=name: "Suspended" in conditions(server.job(name)))
    by_name = kubernetes.ask(kubernetes.batch.list_namespaced_job, NAMESPACE, field_selector="metadata.name=b")
    assert names(by_name["items"]) == ["b"]
    about = kubernetes.ask(
        kubernetes.core.list_namespaced_event, NAMESPACE, field_selector="involvedObject.name=a,reason=Suspended"
    )
    assert [event["involvedObject"]["name"] for event in about["items"]] == ["a"]
    refusal(400, kubernetes.batch.list_namespaced_job, NAMESPACE, field_selector="spec.suspend=true")


def test_objects_of_all_namespaces_are_listed_together(kubernetes):
    kubernetes.create(paused())
    kubernetes.ask(kubernetes.batch.create_namespaced_job, "default", paused("other"))
    listed = kubernetes.ask(kubernetes.batch.list_job_for_all_namespaces)
    assert names(listed["items"]) == ["train", "other"]
    assert "kind" not in listed["items"][0]


def test_a_merge_patch_replaces_lists_and_removes_nulls(kubernetes):
    kubernetes.create(paused(labels={"a": "1", "b": "2"}, finalizers=["example.org/one"]))
    patch = {"metadata": {"labels": {"a": None, "c": "3"}, "finalizers": ["example.org/two"]}}
    metadata = kubernetes.patch("train", patch, MERGE)["metadata"]
    assert (metadata["labels"], metadata["finalizers"]) == ({"b": "2", "c": "3"}, ["example.org/two"])


def test_a_strategic_patch_merges_lists_by_their_key(kubernetes):
    owner = owned_by(kubernetes.create(paused("run-1")))
    other = owned_by(kubernetes.create(paused("run-2")))
    kubernetes.create(paused(ownerReferences=[owner], finalizers=["example.org/one"]))
    patch = {"metadata": {"ownerReferences": [other], "finalizers": ["example.org/two"], "annotations": {"settled": "yes"}}}
    metadata = kubernetes.patch("train", patch, STRATEGIC)["metadata"]
    assert [one["name"] for one in metadata["ownerReferences"]] == ["run-1", "run-2"]
    assert metadata["finalizers"] == ["example.org/one", "example.org/two"]
    gone = {
        "metadata": {
            "ownerReferences": [{"$patch": "delete", "uid": owner["uid"]}],
            "$deleteFromPrimitiveList/finalizers": ["example.org/one"],
        }
    }
    metadata = kubernetes.patch("train", gone, STRATEGIC)["metadata"]
    assert ([one["name"] for one in metadata["ownerReferences"]], metadata["finalizers"]) == (["run-2"], ["example.org/two"])


def test_the_clients_own_patches_are_strategic(kubernetes):
    kubernetes.create(paused(labels={"a": "1"}))
    assert kubernetes.patch("train", {"metadata": {"labels": {"b": "2"}}})["metadata"]["labels"] == {"a": "1", "b": "2"}


def test_a_patch_that_changes_nothing_is_no_new_version(server, kubernetes):
    kubernetes.create(paused(labels={"a": "1"}))
    server.wait_for(lambda: "Suspended" in conditions(server.job("train")))
    before = kubernetes.job("train")["metadata"]["resourceVersion"]
    assert kubernetes.patch("train", {"metadata": {"labels": {"a": "1"}}})["metadata"]["resourceVersion"] == before


def test_a_patch_of_an_outdated_version_is_a_conflict(kubernetes):
    made = kubernetes.create(paused())
    kubernetes.patch("train", {"metadata": {"labels": {"a": "1"}}})
    outdated = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"], "labels": {"a": "2"}}}
    assert "the object has been modified" in refusal(409, kubernetes.patch, "train", outdated).body


def test_a_patch_leaves_what_belongs_to_the_server(server, kubernetes):
    made = kubernetes.create(paused())
    after = kubernetes.patch("train", {"metadata": {"uid": "mine", "name": "other"}, "status": {"succeeded": 7}})
    assert (after["metadata"]["uid"], after["metadata"]["name"]) == (made["metadata"]["uid"], "train")
    assert "succeeded" not in after["status"]


def test_the_generation_counts_changes_of_the_spec_only(kubernetes):
    kubernetes.create(paused())
    assert kubernetes.patch("train", {"metadata": {"labels": {"a": "1"}}})["metadata"]["generation"] == 1
    assert kubernetes.patch("train", {"spec": {"backoffLimit": 2}})["metadata"]["generation"] == 2


def test_a_job_deleted_in_the_foreground_stays_until_its_pods_are_gone(server, kubernetes):
    kubernetes.create(job("trap 'sleep 0.3; exit 1' TERM; echo up; while :; do sleep 0.02; done"))
    running(server, says="up")
    answer = kubernetes.delete("train")
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert answer["metadata"]["deletionTimestamp"]
    server.wait_for(lambda: server.pods()[0]["metadata"].get("deletionTimestamp"))
    assert names(server.jobs()) == ["train"]
    assert refusal(409, kubernetes.create, paused())
    server.wait_for(lambda: not server.jobs())
    assert server.pods() == []


def test_a_job_deleted_in_the_background_goes_before_its_pods(server, kubernetes):
    kubernetes.create(job("trap 'sleep 0.3; exit 1' TERM; echo up; while :; do sleep 0.02; done"))
    running(server, says="up")
    assert kubernetes.delete("train", "Background")["status"] == "Success"
    assert server.jobs() == []
    assert len(server.pods()) == 1
    server.wait_for(lambda: not server.pods())


@pytest.mark.parametrize("policy", ["Orphan", None])
def test_a_job_deleted_without_a_word_about_its_pods_leaves_them_at_work(server, kubernetes, policy):
    kubernetes.create(job(STAY))
    (name,) = running(server)
    kubernetes.delete("train", policy)
    server.wait_for(lambda: not server.jobs())
    server.wait_for(lambda: "ownerReferences" not in server.pod(name)["metadata"])
    server.wait_for(lambda: not server.pod(name)["metadata"]["finalizers"])
    assert server.pod(name)["status"]["phase"] == "Running"


def test_a_service_goes_with_the_job_that_owns_it(server, kubernetes):
    made = kubernetes.create(job(STAY))
    running(server)
    kubernetes.core.create_namespaced_service(NAMESPACE, service("train", owned_by(made, blockOwnerDeletion=True)))
    kubernetes.delete("train")
    server.wait_for(lambda: not server.jobs())
    assert (server.services(), server.pods()) == ([], [])


def test_what_has_another_owner_stays(server, kubernetes):
    first, second = kubernetes.create(paused("run-1")), kubernetes.create(paused("run-2"))
    kubernetes.create(paused(ownerReferences=[owned_by(first), owned_by(second)]))
    kubernetes.delete("run-1", "Background")
    server.wait_for(lambda: [one["name"] for one in server.job("train")["metadata"]["ownerReferences"]] == ["run-2"])
    kubernetes.delete("run-2", "Background")
    server.wait_for(lambda: not server.jobs())


def test_an_owner_that_is_long_gone_takes_the_object_with_it(server, kubernetes):
    gone = {"apiVersion": "batch/v1", "kind": "Job", "name": "run", "uid": "2f1c7c5e-0000-4000-8000-000000000000"}
    kubernetes.create(paused(ownerReferences=[gone]))
    server.wait_for(lambda: not server.jobs())


def test_owners_of_kinds_that_are_not_served_are_left_alone(server, kubernetes):
    gone = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "run", "uid": "2f1c7c5e-0000-4000-8000-000000000000"}
    kubernetes.create(paused(ownerReferences=[gone]))
    server.wait_for(lambda: "Suspended" in conditions(server.job("train")))
    assert names(server.jobs()) == ["train"]


def test_a_deletion_can_be_for_one_object_only(kubernetes):
    made = kubernetes.create(paused())
    options = {"preconditions": {"uid": "another"}, "propagationPolicy": "Background"}
    refusal(409, kubernetes.batch.delete_namespaced_job, "train", NAMESPACE, body=options)
    options["preconditions"]["uid"] = made["metadata"]["uid"]
    kubernetes.batch.delete_namespaced_job("train", NAMESPACE, body=options)
    refusal(404, kubernetes.job, "train")


def test_all_selected_objects_are_deleted_together(server, kubernetes):
    for name in ("a", "b", "c"):
        kubernetes.create(paused(name, labels={"asset": "cpt"} if name != "c" else {}))
    kubernetes.batch.delete_collection_namespaced_job(NAMESPACE, label_selector="asset=cpt", propagation_policy="Background")
    server.wait_for(lambda: names(server.jobs()) == ["c"])


def test_a_bare_pod_runs_and_is_deleted(server, kubernetes):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "bare-"}, "spec": pod_spec("echo up")}
    name = kubernetes.ask(kubernetes.core.create_namespaced_pod, NAMESPACE, pod)["metadata"]["name"]
    server.wait_for(lambda: server.pod(name)["status"]["phase"] == "Succeeded")
    assert kubernetes.log(name) == "up\n"
    kubernetes.delete_pod(name)
    assert server.pods() == []


def test_requests_are_counted_by_verb_and_path(server, kubernetes):
    kubernetes.create(paused())
    kubernetes.job("train")
    kubernetes.job("train")
    kubernetes.pods()
    assert server.count_requests("get", "/jobs/train") == 2
    assert (server.count_requests("create"), server.count_requests("list", "pods"), server.count_requests()) == (1, 1, 4)

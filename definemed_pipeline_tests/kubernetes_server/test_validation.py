"""Objects that Kubernetes would refuse are refused, with its status and in its words; what this server cannot do is not ignored."""

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from kubernetes.client.exceptions import ApiException

from definemed_pipeline_tests.kubernetes_server.conftest import NAMESPACE, conditions, finished, job, pod_spec, running
from definemed_pipeline_tests.kubernetes_server.validation import validate_schema


def without(container=None, pod=None, **spec):
    return job("exit 0", container=container, pod=pod, **spec)


def named(name, **metadata):
    made = job("exit 0", suspend=True)
    made["metadata"] = {"name": name, **metadata}
    return made


def policy(*rules, **spec):
    return without(podFailurePolicy={"rules": list(rules)}, **spec)


EXIT_64 = {"containerName": "payload", "operator": "In", "values": [64]}
REFUSED = {
    "a field that is none": (without(backofflimit=3), "backofflimit"),
    "a field that is none, deep down": (without(container={"imagePolicy": "Always"}), "imagePolicy"),
    "a value of another type": (without(backoffLimit="3"), "is not of type 'integer'"),
    "a value that is no string": (without(container={"env": [{"name": "NODES", "value": 2}]}), "is not of type 'string'"),
    "a missing template": ({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": {}}, "'template'"),
    "a name in capitals": (named("Train"), "RFC 1123"),
    "a name with an underscore": (named("cpt_checkpoints"), "RFC 1123"),
    "a name too long for its pods' labels": (named("a" * 64), "must be no more than 63 characters"),
    "a label too long": (named("train", labels={"partition": "a" * 64}), "a valid label must be"),
    "a label with a colon": (named("train", labels={"partition": "a:b"}), "a valid label must be"),
    "a label's name with two slashes": (named("train", labels={"a/b/c": "d"}), "a qualified name must consist"),
    "annotations that are too long": (named("train", annotations={"spec": "a" * 262145}), "may not be more than 262144 bytes"),
    "a pod that restarts for ever": (without(pod={"restartPolicy": "Always"}), "restartPolicy"),
    "no container": (without(pod={"containers": []}), "containers"),
    "two containers of one name": (without(pod={"containers": pod_spec("exit 0")["containers"] * 2}), "Duplicate value"),
    "no image": (without(container={"image": ""}), "image: Required value"),
    "a mount of no volume": (without(container={"volumeMounts": [{"name": "lake", "mountPath": "/lake"}]}), "Not found: 'lake'"),
    "a volume of no type": (without(pod={"volumes": [{"name": "lake"}]}), "must specify exactly one volume type"),
    "a quantity that is none": (without(container={"resources": {"limits": {"memory": "16 GB"}}}), "quantities must match"),
    "a request above its limit": (
        without(container={"resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}}}),
        "must be less than or equal to memory limit",
    ),
    "fewer GPUs asked for than are the limit": (
        without(container={"resources": {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}}}),
        "must be equal to nvidia.com/gpu limit",
    ),
    "a deadline of no time": (without(activeDeadlineSeconds=0), "activeDeadlineSeconds"),
    "a negative limit": (without(backoffLimit=-1), "must be greater than or equal to 0"),
    "indexes without a number of completions": (
        without(completionMode="Indexed", parallelism=2),
        "spec.completions: Required value",
    ),
    "a replacement that the failure policy rules out": (
        policy({"action": "FailJob", "onExitCodes": EXIT_64}, podReplacementPolicy="TerminatingOrFailed"),
        "podReplacementPolicy",
    ),
    "an action that is none": (policy({"action": "Stop", "onExitCodes": EXIT_64}), "action"),
    "a rule about nothing": (policy({"action": "FailJob"}), "exactly one of OnExitCodes and OnPodConditions"),
    "a rule about no container": (
        policy({"action": "FailJob", "onExitCodes": {**EXIT_64, "containerName": "main"}}),
        "must be one of the container",
    ),
    "exit codes in disorder": (
        policy({"action": "FailJob", "onExitCodes": {**EXIT_64, "values": [3, 2]}}),
        "must be ordered and unique",
    ),
    "success as a failure": (policy({"action": "FailJob", "onExitCodes": {**EXIT_64, "values": [0]}}), "must not be 0"),
    "a field that pods do not tell": (
        without(container={"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.owner"}}}]}),
        "error converting fieldPath",
    ),
    "a variable told twice over": (
        without(container={"env": [{"name": "X", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        "may not be specified when `value` is not empty",
    ),
}


def post(server, wrong):
    """Send a Job as it is: the client's own models would stop some of what is wrong."""
    url, token = f"{server.url}/apis/batch/v1/namespaces/{NAMESPACE}/jobs", {"Authorization": f"Bearer {server.token}"}
    with pytest.raises(HTTPError) as error:
        urlopen(Request(url, json.dumps(wrong).encode(), token))
    return error.value.code, json.loads(error.value.read())


def refused(status, request, *arguments):
    with pytest.raises(ApiException) as error:
        request(*arguments)
    assert error.value.status == status
    return error.value.body


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused(server, what):
    wrong, words = REFUSED[what]
    code, status = post(server, wrong)
    assert words in status["message"]
    assert (code, status["kind"], status["status"], status["reason"], status["code"]) == (
        422,
        "Status",
        "Failure",
        "Invalid",
        422,
    )
    assert server.jobs() == []


def test_everything_that_is_wrong_is_told_at_once(kubernetes):
    body = refused(422, kubernetes.create, named("Train", labels={"partition": "a:b"}))
    assert "RFC 1123" in body
    assert "a valid label must be" in body


def test_what_is_no_object_is_refused(server):
    assert post(server, ["a", "list"])[0] == 415
    assert post(server, {"metadata": "train", "spec": 3})[0] == 422
    assert post(server, {**job("exit 0"), "kind": "Pod"})[0] == 400


def test_a_patch_is_held_to_the_same_rules(kubernetes):
    kubernetes.create(named("train"))
    assert "a valid label must be" in refused(422, kubernetes.patch, "train", {"metadata": {"labels": {"run": "a:b"}}})
    assert "parallelism" in refused(422, kubernetes.patch, "train", {"spec": {"parallelism": -1}})


def test_what_a_job_runs_cannot_be_changed(server, kubernetes):
    kubernetes.create(job("echo up; sleep 60 & wait"))
    running(server)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "payload", "image": "other:2"}]}}}}
    assert "field is immutable" in refused(422, kubernetes.patch, "train", image)
    assert "spec.completions" in refused(422, kubernetes.patch, "train", {"spec": {"completions": 2}})
    kubernetes.patch("train", {"spec": {"backoffLimit": 2, "activeDeadlineSeconds": 60}})


def test_where_a_job_runs_can_be_changed_while_it_waits(server, kubernetes):
    kubernetes.create(named("train"))
    kubernetes.patch("train", {"spec": {"template": {"spec": {"nodeSelector": {"gpu": "h100"}}}}})
    kubernetes.patch("train", {"spec": {"suspend": False}})
    finished(server)
    assert server.pods("train")[0]["spec"]["nodeSelector"] == {"gpu": "h100"}


@pytest.mark.parametrize(
    "unserved",
    [
        without(backoffLimitPerIndex=1, completions=2, completionMode="Indexed"),
        without(pod={"restartPolicy": "OnFailure"}),
        without(pod={"initContainers": pod_spec("exit 0")["containers"]}),
        without(pod={"volumes": [{"name": "lake", "nfs": {"server": "nas", "path": "/lake"}}]}),
        without(container={"command": []}),
        without(container={"envFrom": [{"configMapRef": {"name": "lake"}}]}),
    ],
    ids=["backoff limit per index", "restarts in place", "init containers", "NFS", "an image's own command", "config maps"],
)
def test_what_this_server_does_not_do_is_said(kubernetes, unserved):
    assert "this server" in refused(501, kubernetes.create, unserved)


def test_a_services_name_begins_with_a_letter(kubernetes):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "1st"}, "spec": {"clusterIP": "None"}}
    assert "DNS-1035" in refused(422, kubernetes.core.create_namespaced_service, NAMESPACE, service)


def test_an_object_that_is_too_large_is_refused(kubernetes):
    assert "Request entity too large" in refused(413, kubernetes.create, without(container={"args": ["a" * 3_200_000]}))


def test_what_the_server_itself_writes_fits_the_schemas(server, kubernetes):
    kubernetes.create(named("waiting"))
    kubernetes.create(job("exit 3", "failing", backoffLimit=1))
    kubernetes.create(job("exit 0", "indexed", completions=2, parallelism=2, completionMode="Indexed"))
    kubernetes.create(job("echo up; sleep 60 & wait", "disrupted"))
    server.evict(*running(server, "disrupted"), container_statuses=False)
    server.lose_node(*running(server, "disrupted"))
    finished(server, "failing")
    finished(server, "indexed")
    server.wait_for(lambda: "Suspended" in conditions(server.job("waiting")))
    for plural, objects in (("jobs", server.jobs()), ("pods", server.pods()), ("events", server.events())):
        assert objects
        for one in objects:
            validate_schema(plural, one)

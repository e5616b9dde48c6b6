"""Pods are processes that see what their spec gives them, say what they say, and end as containers end."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from definemed_pipeline_tests.kubernetes_server.conftest import (
    NAMESPACE,
    conditions,
    container_state,
    finished,
    job,
    pod_spec,
    running,
)

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def said(server, kubernetes, script, **spec):
    """Run a Job and return what its pod said."""
    kubernetes.create(job(script, **spec))
    finished(server)
    return server.log(server.pods("train")[0]["metadata"]["name"])


def test_a_pod_goes_from_pending_over_running_to_its_end(server, kubernetes):
    kubernetes.create(job("echo up; read _ < /dev/null; sleep 0.2"))
    (name,) = running(server)
    pod = server.pod(name)
    assert {"PodScheduled", "Initialized", "ContainersReady", "Ready"} <= conditions(pod).keys()
    assert container_state(pod)[0] == "running"
    assert pod["spec"]["nodeName"] == "node-1"
    finished(server)
    pod = server.pod(name)
    kind, told = container_state(pod)
    assert (pod["status"]["phase"], kind, told["exitCode"], told["reason"]) == ("Succeeded", "terminated", 0, "Completed")
    assert told["startedAt"] <= told["finishedAt"]
    assert "Ready" not in conditions(pod)


def test_a_failure_tells_its_exit_code(server, kubernetes):
    kubernetes.create(job("exit 7", backoffLimit=0))
    finished(server)
    (pod,) = server.pods("train")
    assert (pod["status"]["phase"], container_state(pod)[1]["exitCode"], container_state(pod)[1]["reason"]) == (
        "Failed",
        7,
        "Error",
    )


def test_a_command_that_is_not_there_cannot_start(server, kubernetes):
    kubernetes.create(job("", container={"command": ["no-such-command"]}, backoffLimit=0))
    finished(server)
    kind, told = container_state(server.pods("train")[0])
    assert (kind, told["exitCode"], told["reason"]) == ("terminated", 128, "StartError")
    assert "no-such-command" in told["message"]


def bare_pod(name, script, *, grace=5):
    spec = {**pod_spec(script), "terminationGracePeriodSeconds": grace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(("script", "code"), [("echo up; exec sleep 60", 143), (STUBBORN, 137)])
def test_a_pod_ended_by_its_deletion_says_by_which_signal(server, kubernetes, script, code):
    kubernetes.create(job(script, podReplacementPolicy="Failed", pod={"terminationGracePeriodSeconds": 1}))
    (name,) = running(server, says="up")
    version = server.store.version
    server.delete_pod(name)
    server.wait_for(lambda: name not in [pod["metadata"]["name"] for pod in server.pods()])
    (last,) = [one.before for one in server.store.since("pods", version) if one.after is None]
    assert last["status"]["phase"] == "Failed"
    assert container_state(last)[1]["exitCode"] == code


def test_force_ends_a_pod_at_once(server, kubernetes):
    kubernetes.ask(kubernetes.core.create_namespaced_pod, NAMESPACE, bare_pod("stubborn", STUBBORN, grace=60))
    server.wait_for(lambda: server.pod("stubborn")["status"]["phase"] == "Running")
    kubernetes.delete_pod("stubborn", grace_period_seconds=0)
    assert server.pods() == []


def test_whatever_a_container_started_ends_with_it(server, kubernetes, tmp_path):
    script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & while ! test -s {tmp_path}/pid; do sleep 0.01; done"
    kubernetes.create(job(script))
    finished(server)
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_python_is_the_interpreter_of_the_tests(server, kubernetes):
    container = {"command": ["python", "-c"], "args": ["import sys; print(sys.executable)"]}
    assert said(server, kubernetes, "", container=container) == f"{sys.executable}\n"


def test_a_process_sees_its_own_environment_and_none_of_the_tests(server, kubernetes, monkeypatch):
    monkeypatch.setenv("OF_THE_TESTS", "1")
    names = {line.partition("=")[0] for line in said(server, kubernetes, "env").splitlines()}
    assert "OF_THE_TESTS" not in names
    assert names >= {"PATH", "HOSTNAME"}


def test_fields_of_the_pod_are_told_through_the_environment(server, kubernetes):
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "JOB", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}},
        {"name": "BOTH", "value": "$(JOB) in $(WHERE), $$(JOB) and $(NOTHING) stay"},
    ]
    text = said(server, kubernetes, 'echo "$NAME: $BOTH"', container={"env": env})
    assert text == f"{server.pods('train')[0]['metadata']['name']}: train in definemed, $(JOB) and $(NOTHING) stay\n"


def test_arguments_are_expanded_too(server, kubernetes):
    container = {"command": ["echo"], "args": ["$(WORD)", "$$(WORD)"], "env": [{"name": "WORD", "value": "found"}]}
    assert said(server, kubernetes, "", container=container) == "found $(WORD)\n"


def test_a_secret_is_told_by_reference(server, kubernetes):
    server.secrets["lake"] = {"KEY": "k", "OTHER": "o"}
    one = {"name": "ONE", "valueFrom": {"secretKeyRef": {"name": "lake", "key": "OTHER"}}}
    container = {"envFrom": [{"secretRef": {"name": "lake"}}], "env": [one]}
    assert said(server, kubernetes, 'echo "$KEY $ONE"', container=container) == "k o\n"


def test_a_secret_that_is_missing_holds_the_container_until_it_is_made(server, kubernetes):
    kubernetes.create(job("echo $KEY", container={"envFrom": [{"secretRef": {"name": "lake"}}]}))
    waiting = server.wait_for(
        lambda: [w for pod in server.pods() if (w := waiting_for(pod)).get("reason") == "CreateContainerConfigError"]
    )
    assert waiting[0]["message"] == 'secret "lake" not found'
    server.secrets["lake"] = {"KEY": "k"}
    finished(server)
    assert server.log(server.pods("train")[0]["metadata"]["name"]) == "k\n"


def waiting_for(pod):
    if "containerStatuses" not in pod["status"]:
        return {}
    kind, told = container_state(pod)
    return told if kind == "waiting" else {}


def test_an_empty_volume_is_a_folder_that_goes_with_the_pod(server, kubernetes):
    pod = {"volumes": [{"name": "scratch", "emptyDir": {}}]}
    container = {
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "env": [{"name": "SCRATCH", "value": "/scratch/run"}],
        "args": ["sh", "/scratch/argument"],
    }
    text = said(server, kubernetes, 'mkdir "$SCRATCH"; echo "$SCRATCH $1"', pod=pod, container=container)
    path, argument = text.split()
    assert path.endswith("/scratch/run")
    assert argument == path.replace("/run", "/argument")
    assert not os.path.exists(path)


def test_only_whole_names_of_folders_are_taken_for_a_mount_path(server, kubernetes):
    container = {
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "env": [{"name": "PATHS", "value": "/scratches s3://scratch /scratch"}],
    }
    text = said(server, kubernetes, 'echo "$PATHS"', pod={"volumes": [{"name": "scratch", "emptyDir": {}}]}, container=container)
    assert text == "/scratches s3://scratch /scratch\n"


def test_a_claim_is_one_folder_for_all_its_pods(server, kubernetes, tmp_path):
    server.claims["shared"] = tmp_path / "disk"
    pod = {"volumes": [{"name": "lake", "persistentVolumeClaim": {"claimName": "shared"}}]}
    container = {"volumeMounts": [{"name": "lake", "mountPath": "/lake"}], "env": [{"name": "LAKE", "value": "/lake"}]}
    kubernetes.create(
        job("touch $LAKE/$JOB_COMPLETION_INDEX", pod=pod, container=container, completions=2, completionMode="Indexed")
    )
    finished(server)
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["0", "1"]


def test_a_claim_that_is_missing_leaves_the_pod_unscheduled(server, kubernetes, tmp_path):
    pod = {"volumes": [{"name": "lake", "persistentVolumeClaim": {"claimName": "shared"}}]}
    kubernetes.create(job("exit 0", pod=pod))
    server.wait_for(lambda: any(event["reason"] == "FailedScheduling" for event in server.events()))
    assert 'persistentvolumeclaim "shared" not found' in server.events()[-1]["message"]
    server.claims["shared"] = tmp_path / "disk"
    finished(server)


def test_a_mount_path_of_the_tests_own_folder_is_really_there(server, kubernetes, tmp_path):
    scratch = tmp_path / "scratch"
    pod = {"volumes": [{"name": "scratch", "emptyDir": {}}]}
    container = {"volumeMounts": [{"name": "scratch", "mountPath": str(scratch)}]}
    text = said(server, kubernetes, f"echo written > {scratch}/file; cat {scratch}/file", pod=pod, container=container)
    assert text == "written\n"
    assert not scratch.exists()


def test_pods_of_a_service_find_each_other_by_name(server, kubernetes):
    env = [
        {"name": "MEET", "value": "train-0.train:29400"},
        {"name": "HOSTS", "value": "train-0.train,train-1.train.definemed.svc"},
    ]
    pod = {"subdomain": "train"}
    kubernetes.create(
        job('echo "$MEET $HOSTS"', pod=pod, container={"env": env}, completions=2, parallelism=2, completionMode="Indexed")
    )
    finished(server)
    told = {server.log(pod["metadata"]["name"]) for pod in server.pods("train")}
    assert len(told) == 1
    assert re.fullmatch(r"127\.0\.0\.1:\d+ 127\.0\.0\.1,127\.0\.0\.1\n", told.pop())


def test_output_and_errors_are_one_log(server, kubernetes):
    assert said(server, kubernetes, "echo out; echo error >&2; printf rest") == "out\nerror\nrest"


def test_a_log_is_followed_until_the_container_ends(server, kubernetes, tmp_path):
    kubernetes.create(job(f"echo one; while ! test -e {tmp_path}/go; do sleep 0.02; done; echo two"))
    (name,) = running(server, says="one")
    response = kubernetes.core.read_namespaced_pod_log(name, NAMESPACE, follow=True, timestamps=True, _preload_content=False)
    lines = iter(response)
    first = next(lines)
    (tmp_path / "go").touch()
    texts = [line.decode().partition(" ") for line in (first, *lines)]
    assert [text for _, _, text in texts] == ["one\n", "two\n"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp) for stamp, _, _ in texts)


def test_a_log_is_read_from_a_time_on_or_from_its_end(server, kubernetes):
    said(server, kubernetes, "echo one; echo two; echo three")
    name = server.pods("train")[0]["metadata"]["name"]
    assert kubernetes.log(name, tail_lines=2) == "two\nthree\n"
    assert kubernetes.log(name, since_seconds=60) == "one\ntwo\nthree\n"
    server.skew_clock(120)
    assert kubernetes.log(name, since_seconds=60) == ""


def test_there_is_no_log_before_the_container_starts_nor_after_the_pod_is_gone(server, kubernetes):
    server.pull_slowly()
    kubernetes.create(job("echo up"))
    name = server.wait_for(lambda: server.pods() and waiting_for(server.pods()[0]) and server.pods()[0]["metadata"]["name"])
    with pytest.raises(ApiException, match="is waiting to start: ContainerCreating") as refused:
        kubernetes.log(name)
    assert refused.value.status == 400
    server.finish_pulling()
    finished(server)
    assert kubernetes.log(name) == "up\n"
    kubernetes.delete("train")
    server.wait_for(lambda: not server.pods())
    with pytest.raises(ApiException) as gone:
        kubernetes.log(name)
    assert gone.value.status == 404


def test_several_containers_have_logs_of_their_own(server, kubernetes):
    both = pod_spec("echo first")["containers"] + [{**pod_spec("echo second")["containers"][0], "name": "sidecar"}]
    kubernetes.create(job("", pod={"containers": both}))
    finished(server)
    name = server.pods("train")[0]["metadata"]["name"]
    assert kubernetes.log(name, container="sidecar") == "second\n"
    with pytest.raises(ApiException, match="a container name must be specified"):
        kubernetes.log(name)


@pytest.fixture
def threads_of_others() -> set[threading.Thread]:
    """What earlier tests of this process left running; asked for before the server."""
    return set(threading.enumerate())


def test_nothing_is_left_when_the_server_closes(threads_of_others, server, kubernetes, tmp_path):
    kubernetes.create(job("echo $$; exec sleep 60", pod={"volumes": [{"name": "scratch", "emptyDir": {}}]}))
    (name,) = running(server, says="\n")
    process = int(server.log(name))
    watch = kubernetes.core.list_namespaced_pod(NAMESPACE, watch=True, _preload_content=False)
    log = kubernetes.core.read_namespaced_pod_log(name, NAMESPACE, follow=True, _preload_content=False)
    before = set(threading.enumerate())
    server.__exit__(None, None, None)
    assert not {one.name for one in (set(threading.enumerate()) & before) - threads_of_others}
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert not (tmp_path / "kubernetes" / "volumes").exists()
    watch.close()
    log.close()

"""Jobs end, retry, wait and count as Kubernetes 1.31 has it."""

import time

import pytest

from definemed_pipeline_tests.kubernetes_server.conftest import conditions, finished, job, running

RULES = [
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "FailJob", "onExitCodes": {"containerName": "payload", "operator": "In", "values": [64]}},
]
POLICY = {"podFailurePolicy": {"rules": RULES}, "podReplacementPolicy": "Failed"}
STAY = "echo up; sleep 60 & wait"


def test_a_job_whose_pod_succeeds_is_complete(server, kubernetes):
    kubernetes.create(job("exit 0"))
    done = finished(server)
    reached = ("CompletionsReached", "Reached expected number of succeeded pods")
    assert conditions(done) == {"SuccessCriteriaMet": reached, "Complete": reached}
    assert done["status"]["succeeded"] == 1
    assert {"startTime", "completionTime"} <= done["status"].keys()
    assert "active" not in done["status"]


def test_its_pod_is_named_labelled_and_owned_as_kubernetes_does(server, kubernetes):
    made = kubernetes.create(job("exit 0"))
    finished(server)
    (pod,) = kubernetes.pods("batch.kubernetes.io/job-name=train,job-name=train")
    metadata = pod["metadata"]
    assert metadata["name"].startswith("train-")
    assert len(metadata["name"]) == len("train-") + 5
    assert (
        metadata["labels"]["controller-uid"]
        == made["metadata"]["uid"]
        == metadata["labels"]["batch.kubernetes.io/controller-uid"]
    )
    (owner,) = metadata["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (made["metadata"]["uid"], True, True)


def test_a_running_job_counts_active_and_ready_pods(server, kubernetes):
    kubernetes.create(job(STAY, parallelism=2, completions=2))
    running(server, count=2)
    status = server.wait_for(lambda: (told := server.job("train")["status"]).get("ready") == 2 and told)
    assert (status["active"], status["terminating"]) == (2, 0)


def test_failures_are_retried_until_the_backoff_limit_is_passed(server, kubernetes):
    kubernetes.create(job("exit 3", backoffLimit=2))
    done = finished(server)
    limit = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert conditions(done) == {"FailureTarget": limit, "Failed": limit}
    assert done["status"]["failed"] == 3 == len(server.pods("train"))
    assert "completionTime" not in done["status"]


def test_each_retry_waits_twice_as_long(server, kubernetes):
    begun = time.monotonic()
    kubernetes.create(job("exit 3", backoffLimit=3))
    finished(server)
    assert time.monotonic() - begun > 0.05 + 0.1 + 0.2


def test_a_retry_that_succeeds_completes_the_job(server, kubernetes, tmp_path):
    kubernetes.create(job(f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"))
    done = finished(server)
    assert "Complete" in conditions(done)
    assert (done["status"]["succeeded"], done["status"]["failed"]) == (1, 1)


def test_an_exit_code_of_the_policy_fails_the_job_at_once(server, kubernetes):
    kubernetes.create(job("exit 64", backoffLimit=5, **POLICY))
    reason, message = conditions(finished(server))["Failed"]
    (pod,) = server.pods("train")
    assert reason == "PodFailurePolicy"
    assert message == (
        f"Container payload for pod definemed/{pod['metadata']['name']} failed with exit code 64 matching FailJob rule at index 1"
    )


def test_other_exit_codes_count_as_usual(server, kubernetes):
    kubernetes.create(job("exit 63", backoffLimit=0, **POLICY))
    assert conditions(finished(server))["Failed"][0] == "BackoffLimitExceeded"


def test_not_in_matches_every_other_failure(server, kubernetes):
    rule = {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}}
    kubernetes.create(job("exit 3", podFailurePolicy={"rules": [rule]}))
    assert conditions(finished(server))["Failed"][0] == "PodFailurePolicy"


def test_the_first_rule_that_matches_decides(server, kubernetes):
    rules = [{"action": "Count", "onExitCodes": {"operator": "In", "values": [64]}}, *RULES]
    kubernetes.create(job("exit 64", backoffLimit=0, podFailurePolicy={"rules": rules}))
    assert conditions(finished(server))["Failed"][0] == "BackoffLimitExceeded"


def test_disruptions_that_are_ignored_use_up_no_retry(server, kubernetes):
    kubernetes.create(job(STAY, backoffLimit=0, **POLICY))
    (first,) = running(server)
    server.evict(first)
    (second,) = running(server)
    assert second != first
    assert server.job("train")["status"].get("failed", 0) == 0


def test_disruptions_count_where_no_policy_says_otherwise(server, kubernetes):
    kubernetes.create(job(STAY, backoffLimit=0))
    server.evict(*running(server))
    assert conditions(finished(server))["Failed"][0] == "BackoffLimitExceeded"


def test_a_pod_is_replaced_only_after_its_end_where_the_policy_asks_for_it(server, kubernetes):
    kubernetes.create(job("trap 'sleep 0.3; exit 1' TERM; echo up; while :; do sleep 0.05; done", **POLICY))
    (first,) = running(server, says="up")
    server.evict(first)
    server.wait_for(lambda: server.job("train")["status"]["terminating"] == 1)
    assert [pod["metadata"]["name"] for pod in server.pods("train")] == [first]
    running(server)
    assert first not in [pod["metadata"]["name"] for pod in server.pods("train")]


def test_a_pod_that_is_ending_is_replaced_at_once_by_default(server, kubernetes):
    kubernetes.create(job("trap '' TERM; echo up; while :; do sleep 0.05; done", backoffLimit=3))
    (first,) = running(server, says="up")
    server.delete_pod(first)
    running(server)
    assert server.pod(first)["metadata"]["deletionTimestamp"]


def test_a_pod_that_ends_well_when_it_is_asked_to_counts_as_succeeded(server, kubernetes):
    kubernetes.create(job("trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", **POLICY))
    server.delete_pod(*running(server, says="up"))
    assert "Complete" in conditions(finished(server))


def test_an_indexed_job_runs_every_index_once(server, kubernetes):
    script = 'echo "$JOB_COMPLETION_INDEX of $HOSTNAME"'
    kubernetes.create(job(script, completions=3, parallelism=3, completionMode="Indexed"))
    done = finished(server)
    assert (done["status"]["succeeded"], done["status"]["completedIndexes"]) == (3, "0-2")
    pods = server.pods("train")
    assert sorted(server.log(pod["metadata"]["name"]) for pod in pods) == [f"{index} of train-{index}\n" for index in range(3)]
    for pod in pods:
        index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        assert pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == index
        assert pod["metadata"]["name"].startswith(f"train-{index}-")
        assert pod["spec"]["hostname"] == f"train-{index}"


def test_an_index_that_fails_is_tried_again_while_the_others_go_on(server, kubernetes, tmp_path):
    script = f"test $JOB_COMPLETION_INDEX = 0 || test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"
    kubernetes.create(job(script, completions=2, parallelism=2, completionMode="Indexed"))
    done = finished(server)
    assert (done["status"]["succeeded"], done["status"]["failed"]) == (2, 1)


def test_a_failing_job_ends_its_other_pods_first(server, kubernetes):
    script = "test $JOB_COMPLETION_INDEX = 0 && { trap '' TERM; sleep 1; exit 64; }; echo up; exec sleep 60"
    kubernetes.create(job(script, completions=2, parallelism=2, completionMode="Indexed", **POLICY))
    done = finished(server)
    assert conditions(done)["Failed"][0] == "PodFailurePolicy"
    assert (done["status"]["failed"], done["status"]["terminating"], done["status"].get("active", 0)) == (2, 0, 0)
    assert [event["reason"] for event in server.events("train")].count("SuccessfulDelete") == 1


def test_a_suspended_job_has_no_pods_until_it_is_resumed(server, kubernetes):
    kubernetes.create(job("exit 0", suspend=True))
    server.wait_for(lambda: "Suspended" in conditions(server.job("train")))
    assert server.pods() == []
    assert "startTime" not in server.job("train")["status"]
    kubernetes.patch("train", {"spec": {"suspend": False}})
    assert "Complete" in conditions(finished(server))
    assert "Suspended" not in conditions(server.job("train"))


def test_a_job_that_is_suspended_again_loses_its_pods_but_no_retry(server, kubernetes):
    kubernetes.create(job(STAY, backoffLimit=0))
    running(server)
    kubernetes.patch("train", {"spec": {"suspend": True}})
    server.wait_for(lambda: not server.pods())
    assert conditions(server.job("train")) == {"Suspended": ("JobSuspended", "Job suspended")}
    kubernetes.patch("train", {"spec": {"suspend": False}})
    running(server)


def test_a_job_with_a_queue_waits_for_its_admission(server, kubernetes):
    queued = job("exit 0")
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    assert kubernetes.create(queued)["spec"]["suspend"] is True
    server.wait_for(lambda: "Suspended" in conditions(server.job("train")))
    server.admit("train")
    assert "Complete" in conditions(finished(server))
    assert "Admitted by clusterQueue tests" in [event["message"] for event in server.events("train")]


def test_a_queue_can_take_a_running_job_back(server, kubernetes):
    kubernetes.create(job(STAY))
    running(server)
    server.requeue("train")
    server.wait_for(lambda: not server.pods())
    assert "Suspended" in conditions(server.job("train"))


def test_a_job_that_is_at_work_for_too_long_fails(server, kubernetes):
    kubernetes.create(job(STAY, activeDeadlineSeconds=1800))
    running(server)
    server.skew_clock(1801)
    exceeded = ("DeadlineExceeded", "Job was active longer than specified deadline")
    assert conditions(finished(server)) == {"FailureTarget": exceeded, "Failed": exceeded}
    server.wait_for(lambda: not server.pods())


def test_the_deadline_does_not_run_while_a_job_is_suspended(server, kubernetes):
    kubernetes.create(job("exit 0", suspend=True, activeDeadlineSeconds=60))
    server.wait_for(lambda: "Suspended" in conditions(server.job("train")))
    server.skew_clock(6 * 3600)
    kubernetes.patch("train", {"spec": {"suspend": False}})
    assert "Complete" in conditions(finished(server))


def test_a_finished_job_is_deleted_after_its_time_to_live(server, kubernetes):
    kubernetes.create(job("exit 0", ttlSecondsAfterFinished=3600))
    finished(server)
    server.skew_clock(3500)
    assert server.pods("train")
    server.skew_clock(200)
    server.wait_for(lambda: not server.jobs() and not server.pods())


def test_its_story_is_told_as_events(server, kubernetes):
    kubernetes.create(job("exit 1", backoffLimit=0))
    finished(server)
    (pod,) = server.pods("train")
    told = [(event["type"], event["reason"]) for event in server.events("train")]
    assert told == [("Normal", "SuccessfulCreate"), ("Warning", "BackoffLimitExceeded")]
    assert [event["reason"] for event in server.events(pod["metadata"]["name"])] == ["Scheduled", "Started"]


@pytest.mark.parametrize(("completions", "parallelism"), [(4, 2), (3, 5)])
def test_no_more_pods_are_at_work_than_are_wanted(server, kubernetes, completions, parallelism):
    kubernetes.create(job("sleep 0.1", completions=completions, parallelism=parallelism))
    most = 0

    def is_complete():
        nonlocal most
        most = max(most, sum(pod["status"]["phase"] in ("Pending", "Running") for pod in server.pods("train")))
        return "Complete" in conditions(server.job("train"))

    server.wait_for(is_complete)
    assert most <= min(completions, parallelism)
    assert len(server.pods("train")) == completions

"""Whatever happens to a Job, end to end through a Dagster run: the right state in Dagster, one artifact or none, nothing left over, no hang."""

import signal
from datetime import timedelta

import dagster as dg
import pytest

from definemed_pipeline.compute.kubernetes import client, cluster, doorbell
from definemed_pipeline_tests.compute.kubernetes.conftest import SECONDS, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes takes a second here."""
    monkeypatch.setattr(client, "SECONDS_UNTIL_STUCK_IS_FAILED", 1.0)
    monkeypatch.setattr(client, "SECONDS_BETWEEN_REMINDERS", 0.5)
    monkeypatch.setattr(doorbell, "LONGEST_SILENCE", 1.0)
    monkeypatch.setattr(cluster, "RETRIES", cluster.RETRIES.new(backoff_factor=0.01))


def assert_succeeded(world: World, run: "dg.ExecuteInProcessResult") -> None:
    assert run.success, world.told()
    assert len(world.artifacts) == 1
    world.assert_nothing_is_left()


def assert_failed(world: World, run: "dg.ExecuteInProcessResult", *said: str) -> None:
    assert not run.success
    description = world.failure(run).description
    for text in said:
        assert text in description
    assert world.artifacts == []
    world.assert_nothing_is_left()


def job(world: World) -> str:
    """Return the name of the one Job there is, once it is there."""
    return world.server.wait_for(world.server.jobs)[-1]["metadata"]["name"]


# --- nothing goes wrong ---


def test_a_payload_that_ends_well_leaves_its_artifact_its_log_and_its_messages(world: World) -> None:
    running = world.start()
    pod = world.wait_until_begun()
    world.wait_until_told(f"{pod} is running on")
    world.wait_until_told("step 1 begun")  # by messages, while it goes on
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))
    (log,) = world.lake.glob(f".payloads/*/*/*-{pod}/log/00001")
    assert "at work for _" in log.read_text()
    assert any("built thing version" in line for line in world.told())


def test_the_pods_log_is_in_the_runs_own_while_it_goes_on(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    running = world.start()
    pod = world.wait_until_begun()
    printed = ""

    def is_printed() -> bool:
        nonlocal printed
        printed += capfd.readouterr().out
        return f"[{pod}] at work for _" in printed

    world.wait_until(is_printed)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_another_run_reuses_the_artifact_without_a_job(world: World) -> None:
    world.let_go()
    assert_succeeded(world, world.start().result(SECONDS))
    asked = world.server.count_requests()
    assert world.start().result(SECONDS).success
    assert world.server.count_requests() == asked


def test_a_force_rebuilds_by_a_job_of_its_own(world: World) -> None:
    world.let_go()
    assert_succeeded(world, world.start().result(SECONDS))
    assert_succeeded(world, world.start(tags={"definemed/force": "true"}).result(SECONDS))
    assert len(world.begun()) == 2


def test_several_nodes_meet_and_one_of_them_publishes(world: World) -> None:
    running = world.start(pod={"nodes": 3})
    world.wait_until_begun(3)
    (service,) = world.server.services()
    assert service["metadata"]["name"] == job(world)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))
    assert len([line for line in world.told() if "built thing version" in line]) == 1
    assert len(list(world.lake.glob(".payloads/*/*/*/log"))) == 3
    assert len(list(world.lake.glob(".payloads/*/*/*/messages"))) == 1


def test_a_node_that_is_taken_away_is_replaced_and_they_meet_again(world: World) -> None:
    running = world.start(pod={"nodes": 2, "backoff_limit": 2})
    world.wait_until_begun(2)
    for pod in world.begun():
        world.server.evict(pod)
    world.wait_until_begun(4)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


# --- it cannot start ---


def test_an_image_that_cannot_be_pulled_is_told_with_the_cure_and_its_job_deleted(world: World) -> None:
    world.server.cannot_pull_image()
    run = world.start(retries=True).result(SECONDS)
    assert_failed(world, run, "cannot start: ", "ImagePull", "check compute.kubernetes' image")


def test_an_image_that_is_back_in_time_starts(world: World) -> None:
    client.SECONDS_UNTIL_STUCK_IS_FAILED = 60
    world.server.cannot_pull_image()
    running = world.start()
    world.wait_until_told("cannot start: ")
    world.server.can_pull_image()
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_an_image_whose_name_is_none_fails_at_once(world: World) -> None:
    client.SECONDS_UNTIL_STUCK_IS_FAILED = 3600
    run = world.start(pod={"image": "Not An Image"}).result(SECONDS)
    assert_failed(world, run, "InvalidImageName")


def test_a_secret_that_is_not_there_is_told(world: World) -> None:
    run = world.start(pod={"secrets": ["nowhere"]}).result(SECONDS)
    assert_failed(
        world, run, "CreateContainerConfigError", 'secret "nowhere" not found', "check that the Secrets named in `secrets` exist"
    )


def test_an_unschedulable_pod_waits_and_says_why_and_since_when(world: World) -> None:
    world.server.unschedulable()
    running = world.start()
    world.wait_until_told("cannot be scheduled: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu")
    world.wait_until_told(
        "Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod., since 20"
    )
    world.server.schedulable()
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_six_hours_in_a_queue_are_no_failure_and_no_silence(world: World) -> None:
    running = world.start(queue="gpus")
    world.wait_until_told("queued in gpus, position unknown")
    for _ in range(6):
        world.server.skew_clock(timedelta(hours=1).total_seconds())
    world.wait_until_told(", since 20")
    assert not running.done()
    world.let_go()
    world.server.admit(job(world))
    assert_succeeded(world, running.result(SECONDS))


def test_a_job_taken_back_into_its_queue_goes_on_when_it_is_let_in_again(world: World) -> None:
    running = world.start(queue="gpus")
    world.server.admit(job(world))
    world.wait_until_begun()
    world.server.requeue(job(world))
    world.wait_until(lambda: [line for line in world.told() if "queued in gpus" in line][1:])
    world.let_go()
    world.server.admit(job(world))
    assert_succeeded(world, running.result(SECONDS))


# --- its pod is taken away ---


@pytest.mark.parametrize("container_statuses", [True, False], ids=["with statuses", "without statuses"])
def test_a_pod_evicted_at_work_is_replaced_and_goes_on_from_its_checkpoint(world: World, container_statuses: bool) -> None:
    running = world.start(pod={"backoff_limit": 0})  # a disruption does not count
    first = world.wait_until_begun()
    world.server.evict(first, container_statuses=container_statuses)
    second = world.wait_until_begun(2)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))
    assert first != second
    assert any("step 2 begun" in line for line in world.told())


@pytest.mark.parametrize("container_statuses", [True, False], ids=["with statuses", "without statuses"])
def test_a_pod_evicted_before_it_started_is_replaced(world: World, container_statuses: bool) -> None:
    world.server.pull_slowly()
    running = world.start(pod={"backoff_limit": 0})
    (pod,) = world.server.wait_for(world.server.pods)
    world.server.evict(pod["metadata"]["name"], container_statuses=container_statuses)
    world.server.finish_pulling()
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_preempted_pod_is_replaced(world: World) -> None:
    running = world.start(pod={"backoff_limit": 0})
    world.server.preempt(world.wait_until_begun())
    world.wait_until_begun(2)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_pod_on_a_lost_node_is_told_and_never_doubled(world: World) -> None:
    running = world.start()
    pod = world.wait_until_begun()
    world.server.lose_node(pod)
    world.wait_until_told("which does not answer: delete the node, or the pod by force")
    assert world.begun() == [pod]
    world.server.node_gone(pod)
    world.wait_until_begun(2)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_pod_deleted_by_hand_is_replaced(world: World) -> None:
    running = world.start()
    world.server.delete_pod(world.wait_until_begun())
    world.wait_until_begun(2)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_job_deleted_by_hand_is_told_and_may_be_retried(world: World) -> None:
    running = world.start()
    world.wait_until_begun()
    world.server.delete_job(job(world))
    assert_failed(world, running.result(SECONDS), "its Job was deleted while it was at work")
    world.let_go()
    assert_succeeded(world, world.start().result(SECONDS))


# --- it ends badly ---


def test_bad_input_fails_at_once_with_the_payloads_own_words(world: World) -> None:
    world.let_go()
    run = world.start(ending="bad input", retries=True).result(SECONDS)
    assert world.failure(run).description == "thing.gate is wrong; correct it"
    assert len(world.begun()) == 1  # neither Kubernetes nor Dagster tried again
    assert_failed(world, run)


def test_a_crash_is_retried_by_kubernetes_as_often_as_the_recipe_says_and_then_told(world: World) -> None:
    world.let_go()
    run = world.start(ending="crash", pod={"backoff_limit": 2}).result(SECONDS)
    assert len(world.begun()) == 3
    assert_failed(world, run, "ended with status 3, and so did 2 retries")
    assert "a library said something before it fell" in world.failure(run).metadata["tail"].value


def test_out_of_memory_is_told_with_what_to_raise(world: World) -> None:
    running = world.start(pod={"backoff_limit": 0, "memory": "1Gi"})
    world.server.out_of_memory(world.wait_until_begun())
    assert_failed(world, running.result(SECONDS), "ran out of memory (limit 1Gi); raise compute.kubernetes' memory")


def test_a_job_that_runs_too_long_is_ended_and_told(world: World) -> None:
    running = world.start(pod={"active_deadline_seconds": 3600})
    world.wait_until_begun()
    world.server.skew_clock(3601)
    assert_failed(world, running.result(SECONDS), "ran longer than active_deadline_seconds (3600); raise it")


def test_a_payload_whose_last_message_is_lost_has_succeeded(world: World) -> None:
    world.let_go()
    run = world.start(process_ending="last message lost").result(SECONDS)
    assert_succeeded(world, run)
    assert not any("built thing version" in line for line in world.told())


def test_a_payload_that_dies_after_its_artifact_is_published_ends_as_reused(world: World) -> None:
    world.let_go()
    run = world.start(process_ending="dies when published", pod={"backoff_limit": 0}).result(SECONDS)
    assert not run.success  # the Job failed, and is not told to have succeeded
    assert len(world.artifacts) == 1
    assert world.start().result(SECONDS).success
    assert len(world.artifacts) == 1
    world.assert_nothing_is_left()


def test_a_job_that_succeeds_without_an_artifact_is_no_success(world: World) -> None:
    run = world.start(pod={"pod_overlay": {"containers": [{"name": "payload", "command": ["python", "-c", "pass"]}]}}).result(
        SECONDS
    )
    assert_failed(world, run, "the Job succeeded, but thing[_] version", "do pods and launcher see the same lake?")


def test_an_object_that_the_cluster_refuses_is_told_in_its_words(world: World) -> None:
    run = world.start(pod={"memory": "a lot"}).result(SECONDS)
    assert_failed(world, run, "the cluster refuses the object", "correct compute.kubernetes")


# --- the cluster does not answer ---


@pytest.mark.parametrize("status", [500, 429, 503])
def test_errors_of_the_server_are_waited_out(world: World, status: int) -> None:
    world.server.fail_requests(status, times=3, retry_after=0 if status == 429 else None)
    running = world.start()
    world.wait_until_begun()
    world.server.fail_requests(status, times=20)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_cluster_that_does_not_answer_is_told(world: World) -> None:
    world.server.drop_connections(1000)
    run = world.start().result(SECONDS)
    assert "the cluster does not answer: " in world.failure(run).description
    world.server.end_trouble()
    world.let_go()
    assert_succeeded(world, world.start().result(SECONDS))


def test_cut_connections_are_waited_out(world: World) -> None:
    world.server.drop_connections(3)
    running = world.start()
    world.wait_until_begun()
    world.server.drop_connections(20)
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_creation_whose_answer_is_lost_makes_one_job(world: World) -> None:
    world.server.drop_connections(1, verb="create", path_contains="/jobs", after_the_deed=True)
    world.let_go()
    assert_succeeded(world, world.start().result(SECONDS))
    assert len(world.begun()) == 1


def test_watches_that_expire_or_are_cut_lose_nothing(world: World) -> None:
    running = world.start()
    world.wait_until_begun()
    world.server.expire_watches()
    world.server.cut_watches()
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))


def test_a_log_that_is_cut_goes_on_without_a_line_twice(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    running = world.start()
    pod = world.wait_until_begun()
    world.wait_until_told(f"{pod} is running on")
    world.server.cut_logs()
    world.let_go()
    assert_succeeded(world, running.result(SECONDS))
    assert capfd.readouterr().out.count(f"[{pod}] at work for _") == 1


def test_expired_credentials_are_told_and_the_job_goes_on(world: World) -> None:
    running = world.start()
    world.wait_until_begun()
    world.server.refuse_access()
    run = running.result(SECONDS)
    assert "the cluster refuses access to the namespace definemed" in world.failure(run).description
    world.server.end_trouble()
    again = world.start()
    world.wait_until_told("found at work (attempt 1)")
    world.let_go()
    assert_succeeded(world, again.result(SECONDS))
    assert len(world.begun()) == 1


@pytest.mark.parametrize("hours", [-26, 26])
def test_a_clock_that_is_wrong_changes_nothing(world: World, hours: int) -> None:
    world.server.skew_clock(timedelta(hours=hours).total_seconds())
    world.let_go()
    assert_succeeded(world, world.start().result(SECONDS))


# --- the run worker dies, or there are two ---


def test_a_killed_worker_loses_nothing_its_retry_goes_on_with_the_job(world: World) -> None:
    worker = world.start_worker()
    pod = world.wait_until_begun()
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    retry = world.start(tags={"dagster/parent_run_id": worker.run_id, "dagster/root_run_id": worker.run_id})
    world.wait_until_told("found at work (attempt 1)")
    world.let_go()
    run = retry.result(SECONDS)
    assert_succeeded(world, run)
    assert world.begun() == [pod]
    assert (
        len([line for line in world.told(run.run_id) if "step 1 begun" in line]) == 1
    )  # its messages are told to the new run, once each


def test_a_job_that_ended_while_nobody_looked_is_taken_over(world: World) -> None:
    worker = world.start_worker(ending="bad input")
    world.wait_until_begun()
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    world.let_go()
    name = job(world)
    world.server.wait_for(lambda: "Failed" in [one["type"] for one in world.server.job(name)["status"].get("conditions", [])])
    tags = {"dagster/parent_run_id": worker.run_id, "dagster/root_run_id": worker.run_id}
    run = world.start(ending="bad input", tags=tags).result(SECONDS)
    assert world.failure(run).description == "thing.gate is wrong; correct it"
    assert len(world.begun()) == 1
    assert not world.start(ending="bad input").result(SECONDS).success  # told once: who asks again gets a new attempt
    assert len(world.begun()) == 2


def test_two_workers_race_for_one_job(world: World) -> None:
    running = [world.start(), world.start()]
    world.wait_until_begun()
    world.wait_until_told("found at work (attempt 1)")
    world.let_go()
    runs = [one.result(SECONDS) for one in running]
    assert [run.success for run in runs] == [True, True]
    assert len(world.begun()) == len(world.artifacts) == 1
    assert len(list(world.lake.glob(".payloads/*/*"))) == 1
    world.assert_nothing_is_left()


# --- the run is cancelled ---


def cancel(world: World, run_id: str) -> None:
    """Do what the UI's button does: note that the run is to be cancelled, and interrupt its worker."""
    run = world.instance.get_run_by_id(run_id)
    assert run is not None
    world.instance.report_run_canceling(run)
    (worker,) = world.workers
    worker.send_signal(signal.SIGINT)
    worker.wait(SECONDS)


@pytest.mark.parametrize("moment", ["queued", "starting", "running"])
def test_cancelling_deletes_everything_whenever_it_comes(world: World, moment: str) -> None:
    if moment == "starting":
        world.server.pull_slowly()
    worker = world.start_worker(queue="gpus" if moment == "queued" else None)
    if moment == "running":
        world.wait_until_begun()
    told = {"queued": "queued in gpus", "starting": "is starting", "running": "is running on"}
    world.wait_until_told(told[moment])
    cancel(world, worker.run_id)
    assert any("is deleted, since the run was cancelled" in line for line in world.told())
    world.assert_nothing_is_left()
    assert world.artifacts == []
    run = world.instance.get_run_by_id(worker.run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED


def test_a_cancel_as_the_payload_finishes_ends_in_one_of_two_ways_and_leaves_nothing(world: World) -> None:
    worker = world.start_worker()
    world.wait_until_begun()
    world.let_go()
    cancel(world, worker.run_id)
    world.assert_nothing_is_left()
    run = world.instance.get_run_by_id(worker.run_id)
    assert run is not None
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS)

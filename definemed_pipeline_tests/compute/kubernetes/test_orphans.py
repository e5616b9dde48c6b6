"""Jobs that nobody follows any more are stopped, with the reason told; all others are left alone."""

import signal
import time

import dagster as dg
import pytest

from definemed_pipeline.compute.kubernetes.cluster import Cluster
from definemed_pipeline.compute.kubernetes.objects import job_object
from definemed_pipeline.compute.kubernetes.orphans import SECONDS_FOR_A_RETRY, find_orphans
from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings
from definemed_pipeline.defs import sensors
from definemed_pipeline_tests.compute.kubernetes.conftest import World
from definemed_pipeline_tests.compute.kubernetes.works import pod, work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SETTINGS = KubernetesSettings(namespace="definemed")


def killed_worker(world: World) -> dg.DagsterRun:
    """Start a run, kill its worker while the payload is at work, and return the run, which still counts as started."""
    worker = world.start_worker()
    world.wait_until_begun()
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    run = world.instance.get_run_by_id(worker.run_id)
    assert run is not None
    return run


def orphans(world: World, *, later: float = 0) -> list[str]:
    with Cluster.connected(SETTINGS) as cluster:
        return [orphan.reason for orphan in find_orphans(world.instance, cluster, now=time.time() + later)]


def test_a_job_is_an_orphan_once_its_run_is_over_and_no_retry_came(world: World) -> None:
    run = killed_worker(world)
    assert orphans(world, later=10 * SECONDS_FOR_A_RETRY) == []  # nobody has noticed yet: the run counts as started
    world.instance.report_run_failed(run, "the worker is gone")
    assert orphans(world) == []  # a retry may come
    (reason,) = orphans(world, later=SECONDS_FOR_A_RETRY + 1)
    assert reason == f"its run {run.run_id} is over (FAILURE) and no retry took it over"


def test_a_job_with_a_retry_under_way_is_none(world: World) -> None:
    run = killed_worker(world)
    world.instance.report_run_failed(run, "the worker is gone")
    running = world.start(tags={"dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.run_id})
    world.wait_until_told("found at work (attempt 1)")
    assert orphans(world, later=10 * SECONDS_FOR_A_RETRY) == []
    world.let_go()
    assert running.result(30).success


def test_the_sensor_deletes_the_job_of_a_cancelled_run_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = killed_worker(world)
    world.instance.report_run_canceled(run)
    monkeypatch.setattr(sensors, "active_recipe", _Recipe)
    with dg.build_sensor_context(instance=world.instance) as context:
        told = sensors.orphaned_jobs(context)
    assert isinstance(told, dg.SkipReason)
    assert f"its run {run.run_id} was cancelled" in (told.skip_message or "")
    world.assert_nothing_is_left()
    with dg.build_sensor_context(instance=world.instance) as context:
        assert sensors.orphaned_jobs(context) == dg.SkipReason("every Job has its run")


def test_a_job_of_another_dagster_instance_is_left_alone(world: World) -> None:
    with Cluster.connected(SETTINGS) as cluster:
        cluster.create_job(job_object(work(run_id="of another instance"), 1, pod(), queue="gpus", environment={}, owners=[]))
    assert orphans(world, later=10 * SECONDS_FOR_A_RETRY) == []


class _Recipe:
    class compute:  # noqa: N801 - as the recipe's section is called
        kubernetes = SETTINGS

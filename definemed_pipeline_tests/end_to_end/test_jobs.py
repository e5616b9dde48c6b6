"""Continual pre-training as Kubernetes Jobs: a backfill of both base models from the UI, pre-empted in the middle, ends with the local run's bytes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from definemed_pipeline_tests.end_to_end.conftest import Workplace
from definemed_pipeline_tests.end_to_end.ui import Ask, dagster_dev, finished_backfill, launch_forced_backfill, wait_until
from definemed_pipeline_tests.kubernetes_server import KubernetesServer

pytestmark = pytest.mark.xdist_group("daemon")
RECIPE = """
extends: {recipe}
name: micro
compute:
  backend: kubernetes
  kubernetes:
    defaults:
      image: definemed-trainer
      backoff_limit: 0  # a pre-emption does not count
      volumes:
        lake: {{mount_path: {lake}, source: {{hostPath: {{path: {lake}}}}}}}
        scratch: {{mount_path: {scratch}, source: {{hostPath: {{path: {scratch}}}}}}}
      scratch: {scratch}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubernetesServer]:
    with KubernetesServer(tmp_path) as server:
        yield server


@pytest.fixture
def ask(copy_of_finished: Workplace, server: KubernetesServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    recipe = copy_of_finished.folder / "jobs.yaml"
    (copy_of_finished.folder / "scratch").mkdir()
    places = {"lake": copy_of_finished.lake, "scratch": copy_of_finished.folder / "scratch"}
    recipe.write_text(RECIPE.format(recipe=copy_of_finished.recipe, **places), "utf-8")
    with dagster_dev(Workplace(folder=copy_of_finished.folder, recipe=str(recipe))) as ask:
        yield ask


def test_a_backfill_of_both_models_survives_a_preemption_and_gives_the_local_runs_weights(
    copy_of_finished: Workplace, server: KubernetesServer, ask: Ask
) -> None:
    before = copy_of_finished.artifacts()
    models = ["demo-qwen2", "demo-mistral"]
    backfill = launch_forced_backfill(ask, ["cpt_checkpoints"], *models)
    work = copy_of_finished.folder / "scratch" / "work" / "cpt_checkpoints" / "demo-qwen2"
    server.wait_for(lambda: list(work.glob("*/checkpoints/checkpoint-*/seal.json")), seconds=240)
    (job,) = [
        job["metadata"]["name"] for job in server.jobs() if job["metadata"]["labels"]["definemed.io/partition"] == "demo-qwen2"
    ]
    first = server.pods(job)[0]["metadata"]["name"]
    server.preempt(first)
    assert wait_until(lambda: finished_backfill(ask, backfill)) == "COMPLETED_SUCCESS"
    after = copy_of_finished.artifacts()
    for model in models:
        assert after["cpt_checkpoints", model].digest == before["cpt_checkpoints", model].digest
        assert after["cpt_checkpoints", model].provenance.run_id != before["cpt_checkpoints", model].provenance.run_id
    (second,) = [path for path in copy_of_finished.lake.glob(f".payloads/*/*/*-{job}-*") if not path.name.endswith(first)]
    assert "going on from checkpoint-" in "".join(chunk.read_text("utf-8") for chunk in sorted(second.glob("messages/*")))
    server.skew_clock(3601)
    server.wait_for(lambda: not server.jobs() and not server.pods())

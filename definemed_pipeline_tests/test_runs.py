"""Planning a selection: parents first, one run per stretch of equal partitions and per partition, nothing unknown accepted.

And the processes that execute the runs: how they are started, and what becomes of them when something is killed.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from definemed_pipeline.definitions import defs
from definemed_pipeline.errors import UserError
from definemed_pipeline.runs import plan_runs
from definemed_pipeline_tests.running import is_running

PARTITIONS = {"fineweb2_shard": ["a", "b"], "base_model": ["m", "n"]}


def plan(*selection: str, only: str | None = None, registered: tuple[str, ...] = ("a", "b")):
    return plan_runs(defs, PARTITIONS, selection, only, registered=registered)


def test_the_whole_graph_is_planned_parents_first():
    runs = plan()
    done: set[tuple[str, tuple[str, ...]]] = set()
    graph = defs.resolve_asset_graph()
    for run in runs:
        for asset in run.assets:
            for parent in graph.get(next(k for k in graph.get_all_asset_keys() if k.path == [asset])).parent_keys:
                assert any(name == parent.path[-1] for name, _ in done) or parent.path[-1] in run.assets
            done.add((asset, run.partitions))
    assert len({asset for asset, _ in done}) == 21
    assert len(done) == len([pair for run in runs for pair in run.assets])


def test_assets_that_follow_each_other_with_the_same_partitions_share_a_run():
    together = {run.assets for run in plan()}
    assert ("annotations", "medical_classifier", "cascade_certificate") in together
    assert any(set(assets) >= {"cpt_corpus", "cpt_checkpoints", "merge_sweep", "merged_models"} for assets in together)


def test_a_gathering_asset_waits_for_every_partition():
    runs = plan()
    gathering = next(run for run in runs if "finemed_de" in run.assets)
    waited = {(runs[i].assets[0], runs[i].partitions) for i in gathering.after}
    assert ("classifier_scores", ("a", "b")) in waited  # the first of the run that ends with benchmark_leaks


def test_shards_that_stand_next_to_each_other_share_a_run():
    assert [run.partitions for run in plan("fineweb2_shards")] == [("a", "b")]


def test_a_run_of_several_shards_never_reaches_over_another_recipes_shard():
    assert [run.partitions for run in plan("fineweb2_shards", registered=("a", "foreign", "b"))] == [("a",), ("b",)]


def test_a_partition_waits_only_for_its_own_kind():
    runs = plan("classifier_scores", "fineweb2_shards", only="a")
    assert [(run.assets[0], run.partitions) for run in runs] == [("fineweb2_shards", ("a",)), ("classifier_scores", ("a",))]


def test_the_samples_are_drawn_when_every_frame_is_there():
    runs = plan("group:corpus")
    drawing = next(run for run in runs if "annotations" in run.assets)
    assert ["sampling_frames" in runs[i].assets for i in drawing.after] == [True]


def test_a_selection_takes_dagsters_syntax():
    assert {asset for run in plan("group:corpus") for asset in run.assets} == {
        "source_files",
        "fineweb2_shards",
        "sampling_frames",
        "annotations",
        "medical_classifier",
        "cascade_certificate",
        "classifier_scores",
        "medical_documents",
        "benchmark_leaks",
        "finemed_de",
    }
    assert [run.assets for run in plan("finemed_de")] == [("finemed_de",)]


def test_an_unknown_asset_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"--select 'finemed' matches no asset; assets: .*finemed_de"):
        plan("finemed")


def test_an_unknown_partition_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"--partition 'z' is not a partition of the selected assets; there are: m, n"):
        plan("cpt_corpus", only="z")


def in_another_interpreter(code: str, folder: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("other_threads", "inherits"), [(0, "True"), (1, "False")])
def test_workers_inherit_what_was_imported_unless_another_thread_may_hold_something(
    tmp_path: Path, other_threads: int, inherits: str
) -> None:
    code = f"""
import threading, time, wave
from definemed_pipeline.runs import worker_processes

if __name__ == "__main__":
    for _ in range({other_threads}):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    with worker_processes(2) as workers:
        print(*set(workers.map(eval, ["'wave' in __import__('sys').modules"] * 4)))
"""
    assert in_another_interpreter(code, tmp_path).strip() == inherits


def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    code = """
import os, signal
from definemed_pipeline.runs import worker_processes

with worker_processes(3) as workers:
    workers.submit(os.getpid).result()
    print(*workers._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in killed.stdout.split()]
    assert (killed.returncode, len(pids)) == (-signal.SIGKILL, 3)
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_was_killed_before_it_had_a_run_is_told_in_a_line(tmp_path: Path) -> None:
    code = """
import os, signal, time
from definemed_pipeline.runs import PlannedRun, execute, worker_processes

os.environ["DAGSTER_HOME"] = os.getcwd()
with worker_processes(1) as workers:
    workers.submit(os.getpid).result()
    os.kill(*workers._processes, signal.SIGKILL)
    while not workers._broken:
        time.sleep(0.01)
    run = PlannedRun(assets=("annotations",), partitions=(), after=())
    print(*((event.kind, event.text) for event in execute([run], workers, concurrency=1, force=False)))
"""
    assert in_another_interpreter(code, tmp_path).strip() == str(
        ("failed", "the worker process was killed; run the command again")
    )


def test_a_command_starts_its_workers_while_it_has_one_thread(tmp_path: Path) -> None:
    code = """
from definemed_pipeline import cli, runs

def worker_processes(number):
    print(number, runs._has_one_thread())
    raise SystemExit

runs.worker_processes = worker_processes
cli._run("demo", None, select=[], partition=None, force=False)
"""
    assert in_another_interpreter(code, tmp_path).strip() == "3 True"

"""Workers answer in order, and neither a hang nor a crash costs more than the thing that caused it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from definemed_pipeline.corpus.sources.workers import Workers
from definemed_pipeline_tests.running import is_running

pytestmark = pytest.mark.slow


def prepare():
    return treat


def treat(thing):
    """Do what a thing says: answer, work forever, sleep forever, die, or die once."""
    if thing == "hang":
        while True:
            pass
    if thing == "sleep":
        time.sleep(3_600)
    if thing == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(thing, Path) and not thing.exists():
        thing.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{thing} treated"


def lost(timed_out: bool) -> str:
    return "too slow" if timed_out else "crashed"


def run(batches, *, number=2, seconds=60.0, prepare=prepare):
    with Workers(prepare, number=number, seconds=seconds, lost=lost) as workers:
        return list(workers.map(iter(batches)))


@pytest.mark.parametrize("number", [1, 2])
def test_results_come_in_the_order_of_the_things(number):
    batches = [[f"{batch}.{thing}" for thing in range(batch % 4)] for batch in range(20)]
    assert run(batches, number=number) == [[f"{thing} treated" for thing in batch] for batch in batches]


@pytest.mark.parametrize("number", [1, 2])
def test_a_crash_costs_its_culprit_alone(number):
    assert run([["a", "die", "b"], ["die"], ["c"]], number=number) == [
        ["a treated", "crashed", "b treated"],
        ["crashed"],
        ["c treated"],
    ]


def test_a_hang_costs_its_culprit_alone():
    assert run([["a", "hang", "b"], ["c"]], seconds=0.3) == [["a treated", "too slow", "b treated"], ["c treated"]]


def test_waiting_is_ended_too():
    assert run([["sleep", "a"]], seconds=0.02) == [["too slow", "a treated"]]


def test_a_process_that_was_killed_by_chance_costs_nothing(tmp_path):
    victim = tmp_path / "victim"
    assert run([["a", victim, "b"]]) == [["a treated", f"{victim} treated", "b treated"]]


def broken_prepare(message):
    raise ValueError(message)


def test_processes_that_cannot_start_are_told_instead_of_tried_forever(capfd):
    with pytest.raises(RuntimeError, match="ended with status 1 before it was ready"):
        run([["a"]], prepare=partial(broken_prepare, "no models"))
    assert "no models" in capfd.readouterr().err


def test_only_a_bounded_number_of_batches_is_held():
    taken = []

    def batches():
        for number in range(50):
            taken.append(number)
            yield [number]

    with Workers(prepare, number=1, seconds=60.0, lost=lost) as workers:
        for done, _ in enumerate(workers.map(batches())):
            assert len(taken) <= done + 3


def test_workers_end_with_the_process_that_started_them():
    """Even in the midst of a thing that never ends, and though nobody could tell them."""
    script = (
        "import sys\n"
        "from definemed_pipeline_tests.corpus.sources.test_workers import Workers, lost, prepare\n"
        "if __name__ == '__main__':\n"
        "    with Workers(prepare, number=1, seconds=1.0, lost=lost) as workers:\n"
        "        results = workers.map(iter([['a'], ['hang']]))\n"
        "        next(results)\n"
        "        print(workers._workers[0]._process.pid, flush=True)\n"
        "        next(results)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.05)
    assert not is_running(worker)

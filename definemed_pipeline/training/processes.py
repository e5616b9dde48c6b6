"""The processes of a training on this machine: this one alone, or several under torchrun, one a GPU.

The payload stays the one process that speaks with Dagster and publishes the artifact. It starts torchrun, passes on what the first training
process reports, and asks all of them to stop by a file, since a signal would reach each at another step.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from definemed_pipeline.errors import StoppedError, UserError
from definemed_pipeline.training.job import Outcome, TrainingJob, train_model

SECONDS_BETWEEN_LOOKS = 0.2


def run_training(job: TrainingJob, report: Callable[[str], None]) -> Outcome:
    """Train in as many processes as the job's execution asks for, one a GPU by default; on SIGTERM or Ctrl-C save and raise StoppedError.

    The grace it needs is that of one step and of writing one checkpoint.
    """
    job.checkpoints.mkdir(parents=True, exist_ok=True)
    job.stop_file.unlink(missing_ok=True)
    with _asked_to_stop_by_signals(job.stop_file):
        processes = job.execution.processes or max(1, torch.cuda.device_count())
        outcome = train_model(job, report) if processes == 1 else _run_processes(job, processes, report)
    assert outcome is not None
    return outcome


@contextlib.contextmanager
def _asked_to_stop_by_signals(stop_file: Path) -> Iterator[None]:
    """Turn the first SIGTERM or Ctrl-C into the stop file; the second acts as ever."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(*_: Any) -> None:
        stop_file.touch()
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    for number in former:
        signal.signal(number, ask)
    try:
        yield
    finally:
        restore()
        stop_file.unlink(missing_ok=True)


def _run_processes(job: TrainingJob, processes: int, report: Callable[[str], None]) -> Outcome:
    told = job.checkpoints / "told.jsonl"
    told.write_text("", "utf-8")
    order = job.checkpoints / "job.json"
    order.write_text(job.to_json(), "utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    process = subprocess.Popen(
        [*torchrun, "-m", "definemed_pipeline.training.worker", str(order)],
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdin=subprocess.PIPE,  # closes when this process dies, which tells the others to stop
        start_new_session=True,  # signals are for this process alone
    )
    outcome: Outcome | None = None
    error: str | None = None
    with told.open(encoding="utf-8") as lines:
        ended = False
        while not ended:
            ended = process.poll() is not None
            for message in _messages(lines):
                if "report" in message:
                    report(message["report"])
                error = message.get("error", error)
                outcome = Outcome(**message["outcome"]) if "outcome" in message else outcome
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if error:
        raise UserError(error)
    if job.stop_file.exists():
        raise StoppedError("stopped; the checkpoint of the last step is saved")
    if process.returncode or outcome is None:
        raise RuntimeError(f"torchrun ended with status {process.returncode}; the output of its processes says why")
    return outcome


def _messages(lines: Any) -> Iterator[dict[str, Any]]:
    """Yield the messages that were appended since; a line that is not finished yet is left for the next look."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        yield json.loads(line)

"""The processes of a training: this one alone, or several under torchrun, one a GPU, on this machine or on several that share a folder.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from definemed_pipeline.errors import StoppedError, UserError
from definemed_pipeline.pod import MEETING_POINT, NODE, NODES, leads
from definemed_pipeline.training.job import Outcome, TrainingJob

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_MEET = 1800  # nodes of one training may get their GPUs one after the other


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The machines that train together, as their launcher tells each of them: how many, which one this is, where they meet."""

    number: int = 1
    own: int = 0
    meeting_point: str = ""  # host:port on the first node

    @classmethod
    def from_environment(cls) -> "Nodes":
        """Return what the launcher told; without a word this machine is alone."""
        if int(os.environ.get(NODES) or 1) == 1:
            return cls()
        return cls(number=int(os.environ[NODES]), own=int(os.environ[NODE]), meeting_point=os.environ[MEETING_POINT])

    def torchrun_options(self) -> list[str]:
        """Return how torchrun finds the others. Ranks follow the nodes, so that the first process runs where the artifact is published."""
        if self.number == 1:
            return ["--standalone"]
        host, _, port = self.meeting_point.rpartition(":")
        return [
            f"--nnodes={self.number}",
            f"--node-rank={self.own}",
            f"--master-addr={host}",
            f"--master-port={port}",
            f"--rdzv-conf=timeout={SECONDS_TO_MEET}",
        ]


def run_training(job: TrainingJob, report: Callable[[str], None]) -> Outcome | None:
    """Train in as many processes a node as the job's execution asks for, one a GPU by default; on SIGTERM or Ctrl-C save and raise StoppedError.

    The grace it needs is that of one step and of writing one checkpoint. Return None on a node that is not the first: its files are of no use.
    """
    nodes = Nodes.from_environment()
    job.checkpoints.mkdir(parents=True, exist_ok=True)
    job.stop_file.unlink(missing_ok=True)
    with _asked_to_stop_by_signals(job.stop_file):
        processes = job.execution.processes or max(1, torch.cuda.device_count())
        try:
            if nodes.number == processes == 1:
                # what only starts others takes neither the seconds nor the memory of transformers
                from definemed_pipeline.training.train_model import train_model

                return train_model(job, report)
            return _run_processes(job, nodes, processes, report)
        finally:
            job.stop_file.unlink(missing_ok=True)


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


def _run_processes(job: TrainingJob, nodes: Nodes, processes: int, report: Callable[[str], None]) -> Outcome | None:
    """Run this node's training processes to their end; the first node returns what they tell."""
    told = job.checkpoints / "told.jsonl"
    if leads():
        told.write_text("", "utf-8")
    order = job.checkpoints / f"job-{nodes.own}.json"
    order.write_text(job.to_json(), "utf-8")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", *nodes.torchrun_options(), f"--nproc-per-node={processes}"),
            *("-m", "definemed_pipeline.training.worker", str(order)),
        ],
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdin=subprocess.PIPE,  # closes when this process dies, which tells the others to stop
        start_new_session=True,  # signals are for this process alone
    )
    ends = _follow(process, told, report) if leads() else {}
    status = process.wait()
    if "error" in ends:
        raise UserError(ends["error"])
    if "stopped" in ends or job.stop_file.exists():
        raise StoppedError("stopped; the checkpoint of the last step is saved")
    if status or (leads() and "outcome" not in ends):
        raise RuntimeError(f"torchrun ended with status {status}; the output of its processes says why")
    return Outcome(**ends["outcome"]) if ends else None


def _follow(process: "subprocess.Popen[bytes]", told: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Pass on what the training processes report until they end; return what else they tell: `outcome`, `error` or `stopped`."""
    ends: dict[str, Any] = {}
    with told.open(encoding="utf-8") as lines:
        ended = False
        while not ended:
            ended = process.poll() is not None
            for message in _messages(lines):
                if "report" in message:
                    report(message["report"])
                else:
                    ends |= message
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return ends


def _messages(lines: Any) -> Iterator[dict[str, Any]]:
    """Yield the messages that were appended since; a line that is not finished yet is left for the next look."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        yield json.loads(line)

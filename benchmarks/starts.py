"""Measure what the start of a payload costs: by an interpreter of its own, forked as `definemed run` does, and by the standard library.

    python benchmarks/starts.py --launchers 3 --payloads 5 --rounds 3 --json OUT

A payload here imports what training imports, and ends. As in `definemed run` some launchers, processes of their own, start payloads one after the other.
Sides, by turns: `interpreter` (`python -m`), `ours` (compute/forking.py, one server for all launchers), `multiprocessing` (its fork server with the same
libraries preloaded, one for each launcher). Counted are the seconds until the last launcher ended, and the processor seconds of all processes, servers included.
"""

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import platform
import resource
import runpy
import statistics
import subprocess
import sys
import time
from pathlib import Path

from processes import commit

from definemed_pipeline.compute.environment import payload_environment
from definemed_pipeline.compute.fork_server import LIBRARIES
from definemed_pipeline.compute.forking import ADDRESS, forked_payloads, start_payload

PAYLOAD = "definemed_pipeline.training.trainer"  # imports torch, transformers' Trainer, accelerate, peft, and does nothing
SIDES = ("interpreter", "ours", "multiprocessing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launchers", type=int, default=3, help="processes that start payloads at once")
    parser.add_argument("--payloads", type=int, default=5, help="what each of them starts, one after the other")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side; medians are told")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--launch", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.launch:
        launch(arguments.launch, arguments.payloads)
        return
    os.environ.pop(ADDRESS, None)  # of a command that started this one
    turns = [{side: turn(side, arguments.launchers, arguments.payloads) for side in SIDES} for _ in range(arguments.rounds)]
    middle = {
        side: {unit: round(statistics.median(one[side][unit] for one in turns), 2) for unit in ("seconds", "processor_seconds")}
        for side in SIDES
    }
    figures = {
        "starts": arguments.launchers * arguments.payloads,
        "medians": middle,
        "processor_ratio": {
            side: round(middle["ours"]["processor_seconds"] / middle[side]["processor_seconds"], 3) for side in SIDES
        },
        "turns": turns,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


def turn(side: str, launchers: int, payloads: int) -> dict[str, float]:
    """Let all launchers start their payloads; return the time that passed and the processor time of everything they started."""
    before, started = processor_seconds(), time.monotonic()
    with forked_payloads(threads=1) if side == "ours" else contextlib.nullcontext():
        command = [sys.executable, __file__, "--launch", side, "--payloads", str(payloads)]
        at_work = [subprocess.Popen(command, env={**os.environ, **payload_environment(1)}) for _ in range(launchers)]
        statuses = [launcher.wait() for launcher in at_work]
        if any(statuses):
            raise SystemExit(f"a payload of {side} failed")
    return {"seconds": time.monotonic() - started, "processor_seconds": processor_seconds() - before}


def processor_seconds() -> float:
    """Return what all children that have ended took, and those below them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def launch(side: str, payloads: int) -> None:
    """Start payloads one after the other; exit with 1 where one failed."""
    if side == "multiprocessing":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(LIBRARIES))
        statuses = []
        for _ in range(payloads):
            process = context.Process(target=runpy.run_module, args=(PAYLOAD,), kwargs={"run_name": "__main__"})
            process.start()
            process.join()
            statuses.append(process.exitcode)
        multiprocessing.forkserver._forkserver._stop()  # and waited for, so that its time is counted
    else:
        with Path(os.devnull).open("wb") as output:
            statuses = [start_payload([PAYLOAD], os.environ, output).wait() for _ in range(payloads)]
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()

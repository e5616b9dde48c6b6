"""Watch the memory of a process and all below it: what demo.py, memory.py and html_source.py measure with."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Wall time, and the peak of the proportional set size (PSS) of all processes together: shared pages are counted once."""

    seconds: float
    peak_gib: float


def measure(arguments: Sequence[str], folder: Path, *, sample_seconds: float = 1.0) -> Measured:
    """Run `definemed` with arguments in a folder; raise SystemExit with the end of its output where it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER", "DEFINEMED"))}
    log_path = folder / "definemed.log"
    started, peak = time.monotonic(), 0
    with log_path.open("ab") as log:
        command = psutil.Popen(
            [sys.executable, "-m", "definemed_pipeline.cli", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
        )
        while command.poll() is None:
            peak = max(peak, tree_memory(command))
            time.sleep(sample_seconds)
    if command.returncode:
        raise SystemExit(f"definemed {' '.join(arguments)} failed; its output: {log_path.read_text()[-2000:]}")
    return Measured(seconds=round(time.monotonic() - started, 1), peak_gib=round(peak / 2**30, 2))


def commit() -> str:
    """Return the commit that is measured."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def tree_memory(root: psutil.Process) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return total

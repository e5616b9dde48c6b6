"""Measure `definemed demo`: wall time and peak memory of the first run, in a fresh folder, and of the second, which reuses everything.

    python benchmarks/demo.py --json OUT

Memory is the proportional set size (PSS) of the command and all processes below it, sampled once a second: pages that several
processes share are counted once. There is no peer to compare with; the limits are the project's own (300 s, 30 s, 4 GiB on 2 cores).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SAMPLE_SECONDS = 1.0


def tree_memory(root: psutil.Process) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return total


def measure(folder: Path) -> dict[str, float]:
    """Run the demo in a folder once; raise where it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER", "DEFINEMED"))}
    started, peak = time.monotonic(), 0
    with (folder / "demo.log").open("ab") as log:
        command = psutil.Popen(
            [sys.executable, "-m", "definemed_pipeline.cli", "demo"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        while command.poll() is None:
            peak = max(peak, tree_memory(command))
            time.sleep(SAMPLE_SECONDS)
    if command.returncode:
        raise SystemExit(f"the demo failed; its output: {(folder / 'demo.log').read_text()[-2000:]}")
    return {"seconds": round(time.monotonic() - started, 1), "peak_gib": round(peak / 2**30, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = measure(Path(folder)), measure(Path(folder))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    figures = {
        "first": first,
        "second": second,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit,
    }
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

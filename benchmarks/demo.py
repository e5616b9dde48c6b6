"""Measure `definemed demo`: wall time and peak memory of the first run, in a fresh folder, and of the second, which reuses everything.

    python benchmarks/demo.py --json OUT

Memory is sampled once a second over the command and all processes below it. There is no peer to compare with; the limits are the
project's own (300 s, 30 s, 4 GiB on 2 cores).
"""

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

from processes import commit, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = (measure(["demo"], Path(folder)) for _ in range(2))
    figures = {
        "first": asdict(first),
        "second": asdict(second),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

"""The soak of Jobs runs, with as few as a test has time for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_job_of_a_short_soak_ends_right_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/jobs.py", "--skip-overhead", "--jobs", "8", "--json", str(tmp_path / "figures.json")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert sum(figures["faults"].values()) == figures["jobs_soaked"] == 8
    assert (figures["wrong"], figures["left"]) == ([], {})

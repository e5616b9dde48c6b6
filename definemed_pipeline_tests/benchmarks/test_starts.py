"""The benchmark of starts runs, with one payload a side."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_side_starts_a_payload_and_what_it_took_is_counted(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/starts.py", "--launchers", "1", "--payloads", "1", "--rounds", "1"]
    command += ["--json", str(tmp_path / "figures.json")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert figures["starts"] == 1
    (turn,) = figures["turns"]
    assert set(turn) == {"interpreter", "ours", "multiprocessing"}
    for side in turn.values():
        assert side["processor_seconds"] > 1  # torch and all that was imported once, servers included

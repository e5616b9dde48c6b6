"""The benchmark of packing runs, on a corpus small enough for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_both_sides_tokenise_the_same_documents(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/packing.py", "--documents", "60", "--repetitions", "1"]
    command += ["--folder", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert {side: len(runs) for side, runs in figures["turns"].items()} == {"ours": 1, "bare": 1}
    assert figures["documents"] == 60
    assert 0 < figures["packing_efficiency"] <= 1
    for name in ("ours_tokens_per_s", "bare_tokens_per_s", "ratio", "processor_ratio"):
        assert figures[name] > 0
    assert not [path for path in tmp_path.iterdir() if path.name != "figures.json"]

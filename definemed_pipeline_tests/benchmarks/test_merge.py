"""The benchmark of merging runs, on models small enough for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_both_sides_write_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/merge.py", "--layers", "2", "--vocabulary-size", "512", "--repetitions", "1"]
    command += ["--folder", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert figures["identical"]
    assert {side: len(runs) for side, runs in figures["turns"].items()} == {"ours": 1, "mergekit": 1}
    assert figures["beyond"]["nearly_parallel"] < figures["beyond"]["tensors"]
    assert figures["ratio_to_mergekit"] > 0
    assert min(figures["peak_rss_bytes"].values()) > 0
    assert not [path for path in tmp_path.iterdir() if path.name != "figures.json"]

"""The benchmark of stage 2 runs, with a model that is small enough for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_measures_documents_of_the_length_asked_for(tmp_path: Path) -> None:
    shape = ["--documents", "12", "--tokens", "32", "--hidden", "64", "--layers", "1", "--vocabulary", "600"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "score.py"), "--json", str(tmp_path / "figures.json"), *shape]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert (figures["documents"], figures["tokens"]) == (12, 32)
    for name in ("documents_per_second", "tokenizer_documents_per_second", "full_sweep_documents_per_second"):
        assert figures[name] > 0
    assert figures["device"]
    assert set(figures["versions"]) == {"python", "torch", "transformers", "tokenizers"}

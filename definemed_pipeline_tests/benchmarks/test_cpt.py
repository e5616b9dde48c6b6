"""The benchmark of continual pre-training runs, with a model that is small enough for a test."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "cpt.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_both_sides_train_on_the_same_tokens_and_the_step_is_profiled(tmp_path: Path) -> None:
    small = ["--sequence-length", "256", "--steps", "3", "--untimed-steps", "1", "--repetitions", "1", "--global-batch-size", "4"]
    done = run("--model", "tiny", "--micro-batch-size", "2", "--profile", "--json", str(tmp_path / "figures.json"), *small)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert figures["trained_tokens"] == {"baseline": 3 * 4 * 256, "ours": 3 * 4 * 256}
    first = figures["first_step"]
    assert first["ours"] == pytest.approx(first["baseline"], rel=0.01)  # of the same blocks
    for name in ("tokens_per_s", "peak_memory_gib", "baseline_tokens_per_s", "baseline_peak_memory_gib", "ratio"):
        assert figures[name] > 0
    assert figures["device"]
    assert {"mfu", "attention", "compile", "fused_loss", "activation_checkpointing"} <= figures.keys()
    profile = figures["profile"]
    assert sum(profile["shares"].values()) == pytest.approx(1, abs=0.01)
    assert min(profile["shares"][kind] for kind in ("attention", "matrix products", "loss", "optimiser")) > 0
    assert profile["longest"]


def test_an_unknown_model_is_told_with_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["cpt.py", "--model", "qwen9", "--json", str(tmp_path / "figures.json")])
    with pytest.raises(SystemExit, match=r"^cpt\.py: --model is 'qwen9'; allowed: tiny, mistral-7b, [^\n]*$"):
        runpy.run_path(str(REPOSITORY / "benchmarks" / "cpt.py"), run_name="__main__")
    assert not list(tmp_path.iterdir())

"""`definemed plan` as a person meets it: what it prints, and how it answers what it cannot plan."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def definemed_plan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder, away from any lake and network."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER", "DEFINEMED", "HF_"))}
    return subprocess.run(
        [sys.executable, "-m", "definemed_pipeline.cli", "plan", *arguments],
        cwd=folder,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(output: str, model: str) -> dict[str, str]:
    """Return the rows of a model's table by their first column, those that go on in a further line put together."""
    section = output.split(f"\n{model}\n")[1].split("\n\n", maxsplit=1)[0]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        name = line[:18].strip() or name
        found[name] = f"{found.get(name, '')} {line[18:].strip()}".strip()
    return {key: re.sub(r"\s+", " ", value) for key, value in found.items()}


def test_the_paper_on_eight_gpus(tmp_path):
    done = definemed_plan(tmp_path, "paper", "--gpu", "h200", "--processes", "8")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()), "a plan writes nothing"
    qwen, large = rows(done.stdout, "qwen2.5-7b"), rows(done.stdout, "mistral-small-24b")
    assert qwen["parameters"] == "7,615,616,512 config of Qwen/Qwen2.5-7B-Instruct, packaged"
    assert "assumed: 5,100,000,000 words (plan.corpus_words of the recipe) × 2.33 tokens" in qwen["tokens an epoch"]
    assert qwen["GPUs"] == "8 --processes"
    assert qwen["fits"].startswith("yes")
    assert large["fits"].startswith("yes")
    assert "assumed: an MFU of 36% on h200" in qwen["rate of a GPU"]
    assert "GPU-hours" in qwen["time"]
    assert "checkpoints while training" in qwen["storage"]
    assert re.search(r"together +[\d,.]+ GPU-hours · [\d.]+ TB of storage", done.stdout)


def test_the_demo(tmp_path):
    done = definemed_plan(tmp_path, "demo", "--tokens-per-s", "14000")
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout, "demo-qwen2")
    assert found["parameters"] == "727,168 base_models.demo-qwen2 of the recipe"
    assert found["rate of a GPU"].startswith("14,000 tokens/s --tokens-per-s")
    assert found["fits"].startswith("yes")


def test_a_model_that_does_not_fit_is_told_with_what_would(tmp_path):
    done = definemed_plan(tmp_path, "paper", "--gpu-memory-gib", "80")
    found = rows(done.stdout, "mistral-small-24b")
    assert found["fits"] == "no 76.0 GiB of 80 GiB (--gpu-memory-gib): 5% is set aside"
    assert re.match(r"8 GPUs [\d.]+ GiB a GPU .*LoRA of rank 64 [\d.]+ GiB a GPU", found["would fit"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.yaml"], "recipe 'nowhere.yaml' cannot be read"),
        (["demo", "--gpu", "tpu"], "there is no GPU 'tpu' in the table; allowed: a100"),
        (["paper", "--processes", "7"], "global_batch_size is 64, which 7 processes cannot share evenly"),
        (["paper", "--mfu", "0.4", "--tokens-per-s", "5"], "give one of them"),
        (["paper", "--mfu", "40"], "--mfu"),
        (["paper", "--gpu-memory-gib", "0"], "--gpu-memory-gib"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_planned_is_told_in_a_line(tmp_path, arguments, told):
    done = definemed_plan(tmp_path, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr

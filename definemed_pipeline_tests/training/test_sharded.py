"""A model that two processes share trains as in one: with every acceleration, whole and with an adapter."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

from definemed_pipeline.model_folder import load_model
from definemed_pipeline.training.lora import ADAPTER_FILES

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sharded")]
MODULE = "definemed_pipeline_tests.training.train_sharded"
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.2,
}


WHOLE = {
    "plain": {},
    "full checkpointing": {"activation_checkpointing": "full"},
    "selective checkpointing, fused loss": {"activation_checkpointing": "selective", "fused_loss": "chunked"},
    "compiled": {"compile": True, "activation_checkpointing": "selective", "fused_loss": "chunked"},
}
ADAPTER = {"adapter": {"rank": 4}}
PLAIN = {"plain": WHOLE["plain"], "adapter": ADAPTER["adapter"]}


# What differs between architectures is how layers are named and weights tied; what accelerates them is the same.
WAYS = {"qwen2": {**WHOLE, **ADAPTER}, "mistral": PLAIN}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train both architectures in one process and in two; a folder of each holds `base`, and each training in `1` or `2`."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    for name, config in {"qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True), "mistral": MistralConfig(**SHAPE)}.items():
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name / "base")
    train(folder, 1, dict.fromkeys(WAYS, PLAIN))
    train(folder, 2, WAYS)
    return folder


def train(folder: Path, processes: int, trainings: dict[str, dict[str, Any]]) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", MODULE, str(folder), json.dumps(trainings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def assert_equal_training(one: Path, other: Path) -> None:
    logs = [json.loads((out / "log.json").read_text("utf-8")) for out in (one, other)]
    assert logs[1] == [pytest.approx(row, rel=1e-4) for row in logs[0]]
    weights = [load_model(out / "model").state_dict() for out in (one, other)]
    for name, weight in weights[0].items():
        assert torch.allclose(weights[1][name], weight, atol=1e-4), name


def assert_equal_adapters(folder: Path, way: str) -> None:
    together = folder / "2" / way
    assert_equal_training(folder / "1" / "adapter", together)
    for name in ADAPTER_FILES:
        assert (together / "adapter-0" / name).read_bytes() == (together / "adapter-1" / name).read_bytes()
    base, ids = load_model(folder / "base"), torch.arange(12)[None]
    with torch.no_grad():
        merged, before = load_model(together / "model").eval()(ids).logits, base.eval()(ids).logits
        adapted = PeftModel.from_pretrained(base, together / "adapter-0").eval()(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-4)
    assert not torch.allclose(before, merged, atol=1e-2)


@pytest.mark.parametrize("way", WHOLE)
def test_two_processes_train_as_one_does(trained, way) -> None:
    assert_equal_training(trained / "qwen2" / "1" / "plain", trained / "qwen2" / "2" / way)


@pytest.mark.parametrize("way", ADAPTER)
def test_an_adapter_is_trained_alike_by_two_processes_and_merged_by_each_into_its_part(trained, way) -> None:
    assert_equal_adapters(trained / "qwen2", way)


def test_two_processes_train_another_architecture_as_one_does(trained) -> None:
    assert_equal_training(trained / "mistral" / "1" / "plain", trained / "mistral" / "2" / "plain")
    assert_equal_adapters(trained / "mistral", "adapter")

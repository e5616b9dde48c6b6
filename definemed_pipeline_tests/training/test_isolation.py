"""Documents of one block never see each other: packed logits and gradients are those of each document alone, on every way to compute them.

Beside it stand the traps: what transformers would silently let documents see each other by.
"""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, PreTrainedModel, Qwen2Config
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from definemed_pipeline.training.acceleration import Acceleration
from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.blocks import IGNORED, PackedBlocks
from definemed_pipeline.training.packing import pack
from definemed_pipeline_tests.training.flash_attention import attend_by_definition

VOCABULARY = 50
LENGTHS = (7, 1, 12, 4, 9, 3)  # of the documents; together 36 tokens
WINDOW = 4
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.4,  # large weights, so that a leak cannot hide in rounding
}
CONFIGS = {
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "qwen2 with a window": lambda: Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=0),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=None),
    "mistral with a window": lambda: MistralConfig(**SHAPE, sliding_window=WINDOW),
}
LAYOUTS = {"one block": (36, False), "rows": (12, False), "end to end": (12, True)}
GPU = torch.device("cuda") if torch.cuda.is_available() else None
Batch = dict[str, Any]


@pytest.fixture(params=list(CONFIGS))
def model(request) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[request.param]()).eval()


@pytest.fixture(params=list(LAYOUTS))
def batch(request, tmp_path) -> Batch:
    sequence_length, flattened = LAYOUTS[request.param]
    return packed(tmp_path, sequence_length, flattened=flattened)


def packed(folder, sequence_length: int, *, flattened: bool) -> Batch:
    generator = np.random.default_rng(1)
    documents = [
        (str(number), generator.integers(0, VOCABULARY, length).astype(np.uint32)) for number, length in enumerate(LENGTHS)
    ]
    pack([documents], folder, sequence_length=sequence_length, vocabulary_size=VOCABULARY, padding_id=0)
    blocks = PackedBlocks(folder)
    batch = collate([blocks[number] for number in range(len(blocks))], flattened=flattened)
    del batch["blocks"]
    return batch


def segments(batch: Batch) -> Iterator[torch.Tensor]:
    """Yield the ids of each document, or part of one, that stands in a block."""
    ids = batch["input_ids"].flatten()
    starts = [*torch.nonzero(batch["position_ids"].flatten() == 0).flatten().tolist(), len(ids)]
    return (ids[start:end][None] for start, end in pairwise(starts))


def on(device: torch.device | None, batch: Batch) -> Batch:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def largest_leak(model: PreTrainedModel, batch: Batch, **inputs: Any) -> float:
    """Return how far packed logits are from those that sdpa gives each segment alone."""
    attention = model.config._attn_implementation
    with torch.no_grad():
        together = model(**{"use_cache": False, **on(model.device, batch), **inputs}).logits.flatten(end_dim=-2)
        model.set_attn_implementation("sdpa")
        alone = torch.cat([model(ids.to(model.device), use_cache=False).logits[0] for ids in segments(batch)])
    model.config._attn_implementation_internal = attention  # the public way insists on a GPU for flash attention
    return float((together - alone).abs().max())


def test_the_blocks_hold_parts_of_documents_that_were_cut(tmp_path) -> None:
    batch = packed(tmp_path, 12, flattened=False)
    assert [ids.shape[1] for ids in segments(batch)] == [7, 1, 4, 8, 4, 9, 3]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_documents_get_the_logits_they_get_alone(model, batch, attention) -> None:
    model.set_attn_implementation(attention)
    assert largest_leak(model, batch) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mistral with a window"], indirect=True)
@pytest.mark.parametrize("batch", ["rows"], indirect=True)
def test_flex_attention_keeps_documents_apart(model, batch) -> None:
    torch._dynamo.reset()  # after a second length it compiles for any length, which does not go for a processor in PyTorch 2.13
    model.set_attn_implementation("flex_attention")
    assert largest_leak(model, batch) < 1e-4


def test_flash_attention_is_given_the_bounds_of_the_documents(model, tmp_path, monkeypatch) -> None:
    attend_by_definition(model, monkeypatch)
    assert largest_leak(model, packed(tmp_path, 12, flattened=True)) < 1e-4
    assert largest_leak(model, packed(tmp_path, 36, flattened=True)) < 1e-4


@pytest.mark.parametrize(
    "attention",
    [
        pytest.param(name, marks=pytest.mark.skipif(not is_there(), reason=f"{name} needs a CUDA GPU and its package"))
        for name, is_there in {
            "flash_attention_2": is_flash_attn_2_available,
            "flash_attention_3": is_flash_attn_3_available,
        }.items()
    ],
)
def test_the_kernels_of_flash_attention_keep_documents_apart(model, tmp_path, attention) -> None:
    model.to(GPU, torch.bfloat16).set_attn_implementation(attention)
    mixed = packed(tmp_path, 12, flattened=True)
    leak = largest_leak(model, {name: mixed[name] for name in ("input_ids", "position_ids")}, position_ids=None)
    assert largest_leak(model, mixed) < leak / 10  # bfloat16 rounds to about three digits


# The traps


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"attention_mask": torch.ones(3, 12, dtype=torch.int64)}, id="an all-ones mask"),
        pytest.param({"use_cache": True}, id="the cache"),
        pytest.param({"position_ids": None}, id="positions that run on"),
    ],
)
def test_documents_would_see_each_other_by(model, tmp_path, attention, change) -> None:
    model.set_attn_implementation(attention)
    assert largest_leak(model, packed(tmp_path, 12, flattened=False), **change) > 1e-2


def test_documents_would_see_each_other_by_flash_attention_on_several_rows(model, tmp_path, monkeypatch) -> None:
    attend_by_definition(model, monkeypatch)
    assert largest_leak(model, packed(tmp_path, 12, flattened=False)) > 1e-2


# Gradients


def gradients_of(model: PreTrainedModel, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Return the gradient of the loss summed over the tokens of some batches."""
    model.zero_grad()
    for one in batches:
        model(**one, use_cache=False, num_items_in_batch=1).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def alone(batch: Batch) -> list[Batch]:
    singles = []
    for ids in segments(batch):
        labels = ids.clone()
        labels[0, 0] = IGNORED
        singles.append({"input_ids": ids, "labels": labels})
    return singles


def largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return how far any weight's gradient is off, as a share of its length; float32 rounds to some 10^-6."""
    return max(float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected)


PLAIN = Acceleration(attention="sdpa", compile=False, fused_loss=None, activation_checkpointing="none")
WAYS = {
    "plain": {},
    "eager attention": {"attention": "eager"},
    "full checkpointing": {"activation_checkpointing": "full"},
    "selective checkpointing": {"activation_checkpointing": "selective"},
    "fused loss": {"fused_loss": "chunked"},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_packed_gradients_are_the_sum_of_those_of_each_document_alone(model, batch, way) -> None:
    expected = gradients_of(model.train(), alone(batch))
    dataclasses.replace(PLAIN, **way).apply(model)
    assert largest_difference(gradients_of(model, [batch]), expected) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "checkpointing"), [("qwen2", "none"), ("mistral with a window", "selective")], indirect=["model"]
)
@pytest.mark.parametrize("batch", ["rows"], indirect=True)
def test_compiled_layers_keep_documents_apart(model, batch, checkpointing) -> None:
    expected = gradients_of(model.train(), alone(batch))
    dataclasses.replace(PLAIN, compile=True, activation_checkpointing=checkpointing).apply(model)
    assert largest_difference(gradients_of(model, [batch]), expected) < 1e-4


def test_a_mask_would_show_in_the_gradients(model, tmp_path) -> None:
    batch = packed(tmp_path, 12, flattened=False)
    masked = {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
    assert largest_difference(gradients_of(model, [masked]), gradients_of(model, alone(batch))) > 1e-2


def test_flash_attention_gives_the_gradients_of_each_document_alone(model, tmp_path, monkeypatch) -> None:
    batch = packed(tmp_path, 12, flattened=True)
    expected = gradients_of(model.train(), alone(batch))
    attend_by_definition(model, monkeypatch)
    assert largest_difference(gradients_of(model, [batch]), expected) < 1e-4

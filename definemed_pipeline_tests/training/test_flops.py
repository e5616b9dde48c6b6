"""FLOPs: what the formula says is what torch counts when a real model runs forward and backward."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from definemed_pipeline.training.flops import (
    model_flops_utilisation,
    recomputed_flops_per_token,
    training_flops_per_token,
)
from definemed_pipeline.training.gpus import gpu_named
from definemed_pipeline.training.model_shape import ModelShape, read_shape, shape_named

LENGTH, ROWS, RANK = 24, 2, 4
TINY = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 101,
}
ARCHITECTURES = [{"model_type": "qwen2", "tie_word_embeddings": True}, {"model_type": "mistral", "head_dim": 12}]


def tiny(special: dict[str, Any]) -> tuple[ModelShape, PreTrainedModel]:
    """Return the shape and the model, with eager attention: it multiplies with every token of the row, masked or not."""
    config = {**TINY, **special}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager")
    return read_shape(config, origin="tiny"), model


def counted(model: torch.nn.Module) -> float:
    """Count the FLOPs of a forward and backward pass, per token."""
    ids = torch.randint(0, TINY["vocab_size"], (ROWS, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return counter.get_total_flops() / ids.numel()


@pytest.mark.parametrize("special", ARCHITECTURES, ids=lambda one: one["model_type"])
def test_torch_counts_the_same_forward_and_backward(special):
    shape, model = tiny(special)
    assert counted(model) == training_flops_per_token(shape, attended_length=LENGTH)


@pytest.mark.parametrize("special", ARCHITECTURES, ids=lambda one: one["model_type"])
def test_torch_counts_the_same_where_layers_are_computed_twice(special):
    shape, model = tiny(special)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    expected = training_flops_per_token(shape, attended_length=LENGTH)
    expected += recomputed_flops_per_token(shape, attended_length=LENGTH, activation_checkpointing="full")
    assert counted(model) == expected


@pytest.mark.parametrize("special", ARCHITECTURES, ids=lambda one: one["model_type"])
def test_with_adapters_torch_counts_the_same_but_for_the_first_layers_inputs(special):
    """The embedding is frozen, so torch spares the gradient of what the first query, key and value matrices read."""
    shape, model = tiny(special)
    adapted = get_peft_model(model, LoraConfig(r=RANK, target_modules="all-linear"))
    spared = 2 * sum(inputs * outputs + RANK * inputs for inputs, outputs in shape.matrices[:3])
    assert counted(adapted) == training_flops_per_token(shape, attended_length=LENGTH, adapter_rank=RANK) - spared


def test_a_7b_model_costs_what_the_rule_of_thumb_says():
    """6 N, and a few per cent for the attention of 4,096 tokens."""
    shape = shape_named("qwen2.5-7b")
    flops = training_flops_per_token(shape, attended_length=4097 / 2)
    assert 1.05 < flops / (6 * shape.matrix_parameters) < 1.07


def test_selective_checkpointing_repeats_no_matrix_product():
    shape = shape_named("mistral-7b")
    for kind in ("selective", "none"):
        assert recomputed_flops_per_token(shape, attended_length=2048, activation_checkpointing=kind) == 0


def test_the_utilisation_is_the_share_of_the_peak_and_no_matter_of_counting_one_gpu_or_all():
    one = model_flops_utilisation(1_000, flops_per_token=5e10, peak_flops_per_s=1e14)
    assert one == pytest.approx(0.5)
    assert model_flops_utilisation(8_000, flops_per_token=5e10, peak_flops_per_s=8e14) == pytest.approx(one)


def test_a_published_utilisation_comes_out_when_it_is_counted_as_they_do():
    """fms-fsdp: Llama 2 7B at 9,600 tokens/s on an H100 is 46 %, with the embedding and the whole sequence counted. Ours is lower."""
    llama = ModelShape(
        hidden_size=4096, intermediate_size=11008, layers=32, heads=32, kv_heads=32, head_dim=128, vocabulary_size=32000
    )
    theirs = 6 * llama.parameters + 12 * llama.layers * llama.query_size * 4096
    ours = training_flops_per_token(llama, attended_length=4097 / 2)
    peak = gpu_named("h100").bf16_flops_per_s
    assert model_flops_utilisation(9_600, flops_per_token=theirs, peak_flops_per_s=peak) == pytest.approx(0.46, abs=0.01)
    assert model_flops_utilisation(9_600, flops_per_token=ours, peak_flops_per_s=peak) == pytest.approx(0.416, abs=0.001)

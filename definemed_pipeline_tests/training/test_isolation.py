"""How documents of one block are kept apart, on the models' own code: what `PackedBlocks` relies on, and the traps beside it."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.packing import pack

VOCABULARY = 50
CONFIGS = {"qwen2": Qwen2Config, "mistral": MistralConfig}


@pytest.fixture(params=[(name, attention) for name in CONFIGS for attention in ("sdpa", "eager")], ids="-".join)
def model(request):
    name, attention = request.param
    torch.manual_seed(0)
    config = CONFIGS[name](
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,  # large weights, so that a leak cannot hide in rounding
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@pytest.fixture
def documents() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(0, VOCABULARY, length).astype(np.uint32) for length in (7, 1, 12, 4)]


@pytest.fixture
def block(tmp_path, documents):
    pack(
        [[(str(number), ids) for number, ids in enumerate(documents)]],
        tmp_path,
        sequence_length=sum(map(len, documents)),
        vocabulary_size=VOCABULARY,
        padding_id=0,
    )
    only = PackedBlocks(tmp_path)[0]
    return {name: torch.from_numpy(only[name])[None] for name in ("input_ids", "position_ids")}


def alone(model, documents) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0] for ids in documents])


def largest_error(model, documents, **inputs) -> float:
    with torch.inference_mode():
        return float((model(**inputs).logits[0] - alone(model, documents)).abs().max())


def test_packed_documents_get_the_logits_they_get_alone(model, documents, block) -> None:
    assert largest_error(model, documents, **block, use_cache=False) < 1e-4


def test_an_all_ones_mask_would_let_documents_see_each_other(model, documents, block) -> None:
    mask = torch.ones_like(block["input_ids"])
    assert largest_error(model, documents, **block, attention_mask=mask, use_cache=False) > 1e-2


def test_the_cache_would_let_documents_see_each_other(model, documents, block) -> None:
    assert largest_error(model, documents, **block, use_cache=True) > 1e-2


def test_positions_that_run_on_would_let_documents_see_each_other(model, documents, block) -> None:
    assert largest_error(model, documents, input_ids=block["input_ids"], use_cache=False) > 1e-2

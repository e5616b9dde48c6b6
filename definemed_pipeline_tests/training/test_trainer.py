import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen2Config

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.packing import pack
from definemed_pipeline.training.trainer import (
    BlockSequence,
    Optimisation,
    mean_loss,
    prepare_process,
    split_blocks,
    train,
)

VOCABULARY = 40
LENGTH = 16
OPTIMISATION = {
    "steps": 8,
    "batch_size": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
    "checkpoint_every": 100,
    "seed": 1,
}


@pytest.fixture
def blocks(tmp_path) -> PackedBlocks:
    folder = tmp_path / "blocks"
    folder.mkdir()
    documents = [(f"document-{number}", (np.arange(11, dtype=np.uint32) * number) % VOCABULARY) for number in range(20)]
    pack([documents], folder, sequence_length=LENGTH, vocabulary_size=VOCABULARY, padding_id=0)
    return PackedBlocks(folder)


@pytest.fixture
def model():
    prepare_process()
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return AutoModelForCausalLM.from_config(config)


def trained(model, blocks, tmp_path, **changes):
    optimisation = Optimisation(**{**OPTIMISATION, **changes})
    items = optimisation.steps * optimisation.batch_size * optimisation.gradient_accumulation
    sequence = BlockSequence(blocks, range(len(blocks)), items=items, seed=1)
    return train(model, sequence, optimisation, checkpoints=tmp_path / "checkpoints", report=lambda _: None)


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 30), passes=st.integers(1, 4), seed=st.integers(0, 1000))
def test_every_pass_sees_each_block_once_in_an_order_of_its_own(count, passes, seed) -> None:
    choice = list(range(100, 100 + count))
    order = BlockSequence(None, choice, items=count * passes, seed=seed).order.reshape(passes, count)
    assert all(sorted(one_pass) == choice for one_pass in order.tolist())
    again = BlockSequence(None, choice, items=count * passes, seed=seed).order
    assert (order.reshape(-1) == again).all()


@given(count=st.integers(2, 500), share=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_held_out_blocks_are_never_trained_on_and_none_is_lost(count, share, seed) -> None:
    trained_on, held_out = split_blocks(count, held_out_share=share, seed=seed)
    assert sorted(trained_on + held_out) == list(range(count))
    assert bool(held_out) == (share > 0)
    assert trained_on


def test_training_lowers_the_loss_and_logs_every_step(model, blocks, tmp_path) -> None:
    before = mean_loss(model, blocks, range(len(blocks)))
    log = trained(model, blocks, tmp_path, steps=30).log
    assert mean_loss(model, blocks, range(len(blocks))) < before
    assert [row["step"] for row in log] == list(range(1, 31))
    assert set(log[0]) == {"step", "loss", "learning_rate", "grad_norm"}


def test_the_first_logged_loss_is_that_of_the_untrained_model(model, blocks, tmp_path) -> None:
    first = BlockSequence(blocks, range(len(blocks)), items=2, seed=1).order.tolist()
    expected = mean_loss(model, blocks, first)
    assert trained(model, blocks, tmp_path).log[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_warms_up_and_decays_linearly_to_zero(model, blocks, tmp_path) -> None:
    rates = [row["learning_rate"] for row in trained(model, blocks, tmp_path, steps=8, warmup_steps=2, learning_rate=6e-3).log]
    assert rates == pytest.approx([0, 3e-3, 6e-3, 5e-3, 4e-3, 3e-3, 2e-3, 1e-3])


def test_accumulated_batches_train_like_one_large_batch(blocks, tmp_path, model) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole = trained(model, blocks, tmp_path / "whole", batch_size=4).log
    model.load_state_dict(start)
    parts = trained(model, blocks, tmp_path / "parts", batch_size=1, gradient_accumulation=4).log
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-4)


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"activation_checkpointing": True}])
def test_half_precision_and_activation_checkpointing_train_the_same_task(blocks, tmp_path, model, changes) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plain = trained(model, blocks, tmp_path / "plain").log
    model.load_state_dict(start)
    changed = trained(model, blocks, tmp_path / "changed", **changes).log
    assert [row["loss"] for row in changed] == pytest.approx([row["loss"] for row in plain], rel=1e-2)
    assert model.dtype == torch.float32


def test_a_loss_that_is_no_number_stops_training_naming_step_and_documents(model, blocks, tmp_path) -> None:
    with torch.no_grad():
        model.get_input_embeddings().weight[5] = math.nan
    with pytest.raises(UserError, match=r"the loss became nan after step \d+, on blocks \[.*documents document-"):
        trained(model, blocks, tmp_path)


def test_a_model_that_generates_with_a_cache_still_does_after_training(model, blocks, tmp_path) -> None:
    trained(model, blocks, tmp_path)
    assert model.config.use_cache

"""Planning: the arithmetic of blocks, steps and disk, and layouts that fit where they are said to."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.memory import Layout, memory_per_gpu
from definemed_pipeline.training.model_shape import shape_named
from definemed_pipeline.training.planning import (
    GIB,
    blocks_at_once,
    expected_blocks,
    flops_per_token,
    layout_on_gpus,
    schedule,
    storage_bytes,
    usable_bytes,
    what_would_fit,
)
from definemed_pipeline.training.settings import (
    CptCheckpointsSettings,
    CptCorpusSettings,
    GeneralDocumentsSettings,
    LoraSettings,
    TrainingExecutionSettings,
)

QWEN = shape_named("qwen2.5-7b")
LARGE = shape_named("mistral-small-24b")
CORPUS = CptCorpusSettings(sequence_length=4096)
TRAINING = CptCheckpointsSettings(epochs=2, global_batch_size=64)
EXECUTION = TrainingExecutionSettings(micro_batch_size=4)


def test_the_last_step_of_an_uneven_number_of_blocks_is_filled_up():
    planned = schedule(100, TRAINING, sequence_length=CORPUS.sequence_length)
    assert planned.steps == 4  # 200 blocks in steps of 64
    assert planned.trained_tokens == 4 * 64 * 4096


def test_held_out_documents_are_not_trained_on_and_replayed_ones_come_on_top():
    tokens = 4096 * 1000
    assert expected_blocks(tokens, CptCorpusSettings(held_out_share=0.0)) == 1000
    assert expected_blocks(tokens, CptCorpusSettings(held_out_share=0.1)) == 900
    general = GeneralDocumentsSettings(files=["general.parquet"], replay_share=0.2)
    assert expected_blocks(tokens, CptCorpusSettings(held_out_share=0.0, general=general)) == 1250


@given(st.integers(1, 512), st.integers(1, 64), st.integers(1, 64))
def test_blocks_at_once_divide_the_share_of_each_process_and_stay_within_the_limit(share: int, processes: int, at_most: int):
    size = blocks_at_once(share * processes, processes=processes, at_most=at_most)
    assert size <= at_most
    assert share % size == 0


def test_processes_that_cannot_share_a_step_evenly_are_refused():
    with pytest.raises(UserError, match=r"global_batch_size is 64, which 3 processes cannot share evenly"):
        layout_on_gpus(CORPUS, TRAINING, EXECUTION, processes=3)


def test_on_gpus_training_takes_flash_attention_and_the_fused_loss_where_the_recipe_leaves_them_open():
    layout = layout_on_gpus(CORPUS, TRAINING, EXECUTION, processes=2)
    assert (layout.attention, layout.fused_loss, layout.adapter_rank) == ("linear", True, None)
    asked = TrainingExecutionSettings(attention="eager", fused_loss=False)
    lora = dataclasses.replace(TRAINING, lora=LoraSettings(rank=8))
    layout = layout_on_gpus(CORPUS, lora, asked, processes=2)
    assert (layout.attention, layout.fused_loss, layout.adapter_rank) == ("eager", False, 8)


def test_what_is_computed_twice_is_no_progress():
    flops = flops_per_token(QWEN, TRAINING, EXECUTION, attended_length=2048)
    without = flops_per_token(QWEN, TRAINING, TrainingExecutionSettings(activation_checkpointing="none"), attended_length=2048)
    assert flops.model == without.model == without.computed
    assert flops.computed > flops.model


@pytest.mark.parametrize("shape", [QWEN, LARGE], ids=["7B", "24B"])
@pytest.mark.parametrize("fused_loss", [True, False])
@pytest.mark.parametrize("memory_gib", [30, 79, 139])
def test_a_remedy_says_the_memory_it_needs_and_that_is_there(shape, fused_loss, memory_gib):
    layout = Layout(micro_batch_size=4, sequence_length=4096, fused_loss=fused_loss)
    usable = usable_bytes(memory_gib)
    for remedy in what_would_fit(shape, layout, global_batch_size=64, usable=usable):
        assert remedy.needed <= usable
        assert remedy.change


def test_a_24b_model_does_not_fit_one_card_of_141_gb_and_fits_several_or_with_adapters():
    layout = Layout(micro_batch_size=4, sequence_length=4096)
    usable = usable_bytes(139)
    assert memory_per_gpu(LARGE, layout).total > usable
    changes = [one.change for one in what_would_fit(LARGE, layout, global_batch_size=64, usable=usable)]
    assert changes == ["4 GPUs", "LoRA of rank 64"]


def test_what_needs_only_fewer_blocks_at_once_is_told_the_most_that_fit():
    layout = Layout(micro_batch_size=16, sequence_length=4096, activation_checkpointing="none", processes=8)
    usable = usable_bytes(79)
    changes = [one.change for one in what_would_fit(QWEN, layout, global_batch_size=128, usable=usable)]
    fitting = [
        size for size in (8, 4, 2, 1) if memory_per_gpu(QWEN, dataclasses.replace(layout, micro_batch_size=size)).total <= usable
    ]
    assert changes[0] == f"micro_batch_size {fitting[0]}"


def test_where_nothing_is_enough_nothing_is_promised():
    layout = Layout(micro_batch_size=1, sequence_length=4096)
    assert list(what_would_fit(LARGE, layout, global_batch_size=1, usable=1 * GIB)) == []


def test_disk_holds_the_newest_checkpoints_the_best_and_the_one_that_is_written():
    arguments = {"stored_weight_bytes": 2, "merged_weight_bytes": 2}
    full = storage_bytes(QWEN, 1000, CORPUS, TRAINING, EXECUTION, **arguments)
    assert full["checkpoints while training"] == 4 * 12 * QWEN.parameters
    assert full["cpt_checkpoints"] == 2 * QWEN.parameters
    lora = storage_bytes(QWEN, 1000, CORPUS, dataclasses.replace(TRAINING, lora=LoraSettings()), EXECUTION, **arguments)
    assert lora["checkpoints while training"] == 4 * 12 * QWEN.adapter_parameters(64)

"""What a continual pre-training will take: blocks, steps, tokens, FLOPs, hours, disk, and a layout that fits a GPU. Standard library only.

    tokens of an epoch   tokens of the corpus * (1 - held-out share) / (1 - replay share)
    blocks               tokens of an epoch / sequence length, rounded up: packing leaves no other gap
    steps                epochs * blocks / blocks of a step, rounded up: the last step is filled
    trained tokens       steps * blocks of a step * sequence length
    FLOPs                trained tokens * FLOPs per token (see `flops`)
    hours                trained tokens / (tokens per second and GPU * GPUs) / 3600; evaluations, checkpoints and the start come on top
    checkpoint           12 bytes for each weight that is trained: itself and two moments, in float32

A layout fits where the memory it needs (see `memory`) is at most the GPU's less RESERVED_SHARE.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.flops import recomputed_flops_per_token, training_flops_per_token
from definemed_pipeline.training.memory import AttentionMemory, Layout, memory_per_gpu
from definemed_pipeline.training.model_shape import ModelShape
from definemed_pipeline.training.settings import (
    CptCheckpointsSettings,
    CptCorpusSettings,
    LoraSettings,
    TrainingExecutionSettings,
)

GIB = 2**30
RESERVED_SHARE = (
    0.05  # [assumed] of a GPU's memory: the device's context, communication buffers, and what the allocator cannot use
)
# [assumed] Published for 7B and 8B on H100s are 33 to 46 % (torchtitan, llm-foundry, fms-fsdp), counted with the whole sequence and the
# embedding. The same speeds are some 10 % less in our count (see `flops`): 0.36 is their middle.
ASSUMED_MFU = 0.36
SMALLEST_OF_THE_ASSUMPTION = 1_000_000_000  # weights; of smaller models much less of a GPU is used
CHECKPOINT_BYTES = 12
LARGEST_UINT16 = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How much is trained: blocks of an epoch, optimiser steps, and tokens of all epochs."""

    blocks: int
    steps: int
    trained_tokens: int


def schedule(blocks: int, training: CptCheckpointsSettings, *, sequence_length: int) -> Schedule:
    """Return the steps and tokens that epochs of so many blocks make; the trainer keeps to it."""
    steps = math.ceil(training.epochs * blocks / training.global_batch_size)
    return Schedule(blocks=blocks, steps=steps, trained_tokens=steps * training.global_batch_size * sequence_length)


def expected_blocks(corpus_tokens: float, corpus: CptCorpusSettings) -> int:
    """Return how many blocks of an epoch a corpus of so many tokens will make."""
    replay_share = corpus.general.replay_share if corpus.general else 0.0
    tokens = corpus_tokens * (1 - corpus.held_out_share) / (1 - replay_share)
    return math.ceil(tokens / corpus.sequence_length)


@dataclass(frozen=True, kw_only=True)
class Flops:
    """What a token costs: `model` counts as progress, `computed` also what is computed a second time."""

    model: float
    computed: float


def flops_per_token(
    shape: ModelShape, training: CptCheckpointsSettings, execution: TrainingExecutionSettings, *, attended_length: float
) -> Flops:
    """Return the FLOPs of a token as the recipe trains."""
    rank = training.lora.rank if training.lora else None
    model = training_flops_per_token(shape, attended_length=attended_length, adapter_rank=rank)
    repeated = recomputed_flops_per_token(
        shape, attended_length=attended_length, activation_checkpointing=execution.activation_checkpointing
    )
    return Flops(model=model, computed=model + repeated)


def blocks_at_once(global_batch_size: int, *, processes: int, at_most: int) -> int:
    """Return how many blocks each process takes at a time: the most that divide its share of a step.

    Raise UserError where the processes cannot share a step evenly.
    """
    share, rest = divmod(global_batch_size, processes)
    if rest:
        raise UserError(
            f"cpt_checkpoints.global_batch_size is {global_batch_size}, which {processes} processes cannot share evenly; "
            "take a multiple, or other processes"
        )
    return max(size for size in range(1, min(share, at_most) + 1) if share % size == 0)


def layout_on_gpus(
    corpus: CptCorpusSettings, training: CptCheckpointsSettings, execution: TrainingExecutionSettings, *, processes: int
) -> Layout:
    """Return how a recipe's training lies on GPUs, with what training chooses there where the recipe leaves it open.

    Raise UserError where the processes cannot share a step evenly.
    """
    return Layout(
        micro_batch_size=blocks_at_once(training.global_batch_size, processes=processes, at_most=execution.micro_batch_size),
        sequence_length=corpus.sequence_length,
        processes=processes,
        precision=training.precision,
        activation_checkpointing=execution.activation_checkpointing,
        attention=_attention_memory(execution),
        fused_loss=execution.fused_loss is not False,
        adapter_rank=training.lora.rank if training.lora else None,
    )


def _attention_memory(execution: TrainingExecutionSettings) -> AttentionMemory:
    return execution.attention if execution.attention in ("eager", "sdpa") else "linear"


def usable_bytes(memory_gib: float) -> float:
    """Return the bytes of a GPU's memory that a training may plan with."""
    return (1 - RESERVED_SHARE) * memory_gib * GIB


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change by which a training fits, in the recipe's words, and the bytes each GPU then needs."""

    change: str
    needed: float


def what_would_fit(shape: ModelShape, layout: Layout, *, global_batch_size: int, usable: float) -> Iterator[Remedy]:
    """Say what to change so that a training fits: something on the same GPUs, more GPUs, adapters. The least change of each comes first.

    Yields nothing where none of it is enough.
    """
    thrifty = dataclasses.replace(layout, micro_batch_size=1, activation_checkpointing="full", fused_loss=True)
    adapted = [dataclasses.replace(one, adapter_rank=LoraSettings.rank) for one in (layout, thrifty)]
    ways: list[Iterable[Layout]] = [
        [*_with_one_change(layout), thrifty],
        _on_more_gpus(layout, global_batch_size),
        _on_more_gpus(thrifty, global_batch_size),
        [*adapted, *_on_more_gpus(adapted[1], global_batch_size)] if layout.adapter_rank is None else [],
    ]
    fitting = [next((one for one in way if memory_per_gpu(shape, one).total <= usable), None) for way in ways]
    same, more, fewer, adapters = fitting
    if more and fewer and fewer.processes >= more.processes:
        fewer = None
    for found in (same, more, fewer, adapters):
        if found:
            yield Remedy(change=_difference(layout, found), needed=memory_per_gpu(shape, found).total)


def _with_one_change(layout: Layout) -> Iterator[Layout]:
    """Yield the layout with one thing changed that makes it smaller, the cheapest first."""
    for size in range(layout.micro_batch_size - 1, 0, -1):
        if layout.micro_batch_size % size == 0:
            yield dataclasses.replace(layout, micro_batch_size=size)
    if not layout.fused_loss:
        yield dataclasses.replace(layout, fused_loss=True)
    if layout.activation_checkpointing != "full":
        yield dataclasses.replace(layout, activation_checkpointing="full")


def _on_more_gpus(layout: Layout, global_batch_size: int) -> Iterator[Layout]:
    """Yield the layout on every larger number of GPUs that can share a step evenly."""
    for processes in range(layout.processes + 1, global_batch_size + 1):
        if global_batch_size % processes == 0:
            size = blocks_at_once(global_batch_size, processes=processes, at_most=layout.micro_batch_size)
            yield dataclasses.replace(layout, processes=processes, micro_batch_size=size)


def _difference(layout: Layout, other: Layout) -> str:
    """Say in the recipe's words what another layout changes."""
    changes = []
    if other.processes != layout.processes:
        changes.append(f"{other.processes} GPUs")
    if other.adapter_rank != layout.adapter_rank:
        changes.append(f"LoRA of rank {other.adapter_rank}")
    if other.micro_batch_size != layout.micro_batch_size:
        changes.append(f"micro_batch_size {other.micro_batch_size}")
    if other.activation_checkpointing != layout.activation_checkpointing:
        changes.append(f"activation_checkpointing {other.activation_checkpointing}")
    if other.fused_loss != layout.fused_loss:
        changes.append("fused_loss")
    return ", ".join(changes)


def storage_bytes(
    shape: ModelShape,
    blocks: int,
    corpus: CptCorpusSettings,
    training: CptCheckpointsSettings,
    execution: TrainingExecutionSettings,
    *,
    stored_weight_bytes: int,
    merged_weight_bytes: int,
) -> Mapping[str, float]:
    """Return the bytes on disk by what lies there; while training, the newest checkpoints, the best, and one that is being written."""
    trained = shape.adapter_parameters(training.lora.rank) if training.lora else shape.parameters
    token_bytes = 2 if shape.vocabulary_size <= LARGEST_UINT16 else 4
    weights = stored_weight_bytes * shape.parameters
    return {
        "base_models": weights,
        "cpt_corpus": token_bytes * corpus.sequence_length * blocks / (1 - corpus.held_out_share),
        "checkpoints while training": (execution.kept_checkpoints + 2) * CHECKPOINT_BYTES * trained,
        "cpt_checkpoints": weights,
        "merged_models": merged_weight_bytes * shape.parameters,
    }

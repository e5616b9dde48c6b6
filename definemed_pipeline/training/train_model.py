"""What each process of a continual pre-training does: folders in, a folder out."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig

from definemed_pipeline import model_folder
from definemed_pipeline.errors import UserError
from definemed_pipeline.training import group
from definemed_pipeline.training.acceleration import Device, choose_acceleration
from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.checkpoints import Checkpoints
from definemed_pipeline.training.flops import training_flops_per_token
from definemed_pipeline.training.gpus import peak_flops_per_s
from definemed_pipeline.training.job import Outcome, TrainingJob
from definemed_pipeline.training.lora import attach_adapter, merge_adapter, save_adapter
from definemed_pipeline.training.model_shape import read_shape
from definemed_pipeline.training.planning import schedule
from definemed_pipeline.training.settings import CptCheckpointsSettings
from definemed_pipeline.training.telemetry import Pace, Telemetry
from definemed_pipeline.training.trainer import BlockSequence, Evaluation, Optimisation, Trained, prepare_process, train
from definemed_pipeline.training.weights import write_weights

ADAPTER = "adapter"


def train_model(job: TrainingJob, report: Callable[[str], None]) -> Outcome | None:
    """Train the base model on its packed corpus and write `model/`, `log.jsonl` and `perplexity.jsonl` into the job's output.

    Every process of a training calls this; the first of them writes, and returns the outcome. Raise UserError where the corpus does not
    do, StoppedError where the training was asked to stop.
    """
    prepare_process()
    chosen, device = job.settings, Device.found(_device())
    blocks = PackedBlocks(job.corpus / "train")
    optimisation = _optimisation(chosen, blocks)
    acceleration = choose_acceleration(job.execution, device, precision=chosen.precision)
    report("; ".join([f"training on {group.size()} × {device.name}", *acceleration.explain()]))
    model = _load(job)
    acceleration.apply(model)
    if chosen.lora:
        attach_adapter(model, chosen.lora, seed=chosen.seed)
    checkpoints = Checkpoints(job.checkpoints, mirror=job.mirror, kept=job.execution.kept_checkpoints, report=report)
    pace = _pace(job, blocks, device)
    trained = train(
        model,
        BlockSequence(blocks, range(len(blocks)), items=optimisation.steps * chosen.global_batch_size, seed=chosen.seed),
        optimisation,
        job.execution,
        checkpoints=checkpoints,
        telemetry=Telemetry(pace, rows=job.checkpoints / "progress.jsonl", report=report) if group.leads() else None,
        evaluation=Evaluation(
            held_out=_held_out(job.corpus),
            every=chosen.evaluate_every,
            blocks=chosen.evaluation_blocks,
            keep_best=chosen.keep == "best",
        ),
        collate=partial(collate, flattened=acceleration.flattened),
        stop=job.stop_file.exists,
    )
    if chosen.lora:
        if group.leads():
            save_adapter(model, job.output / ADAPTER, base=job.name)
        merge_adapter(model)
    write_weights(model, job.base, job.output / model_folder.FOLDER)
    if not group.leads():
        return None
    _write_rows(job.output / "log.jsonl", trained.log)
    _write_rows(job.output / "perplexity.jsonl", trained.perplexities)
    used = {name: value for name, value in dataclasses.asdict(acceleration).items() if name != "reasons"}
    metrics = _metrics(job, blocks, trained)
    return Outcome(metrics={**metrics, "device": device.name, "processes": group.size(), **used}, speed=trained.speed)


def _held_out(corpus: Path) -> dict[str, PackedBlocks]:
    """Return the held-out sets that hold something, the corpus' own first."""
    sets = {path.name: PackedBlocks(path) for path in sorted((corpus / "held_out").iterdir())}
    return {name: blocks for name, blocks in sets.items() if len(blocks)}


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _load(job: TrainingJob) -> PreTrainedModel:
    """Load the base model, of several processes each its own part: in float32 as far as it is trained, frozen in the precision of training."""
    half, processes = job.settings.precision == "bfloat16", group.size()
    sharding = DistributedConfig(fsdp_size=processes, fsdp_mixed_precision=half) if processes > 1 else None
    dtype = "bfloat16" if half and job.settings.lora else "float32"
    return model_folder.load_model(job.base, dtype=dtype, sharding=sharding)


def _pace(job: TrainingJob, blocks: PackedBlocks, device: Device) -> Pace:
    """Return what a step is worth; without the FLOPs where the device's peak or the model's shape is not known."""
    tokens = job.settings.global_batch_size * blocks.sequence_length
    peak = peak_flops_per_s(device.name)
    try:
        shape = read_shape(model_folder.read_json(job.base / "config.json"), origin=job.name)
    except UserError:  # an architecture whose FLOPs we cannot count; it trains all the same
        shape = None
    if peak is None or shape is None:
        return Pace(tokens_per_step=tokens)
    flops = training_flops_per_token(
        shape,
        attended_length=blocks.mean_attended_length,
        adapter_rank=job.settings.lora.rank if job.settings.lora else None,
    )
    return Pace(tokens_per_step=tokens, flops_per_token=flops, peak_flops=peak * group.size())


def _optimisation(chosen: CptCheckpointsSettings, blocks: PackedBlocks) -> Optimisation:
    """Return how to train on the blocks; the last step is filled up with blocks of one more pass."""
    if len(blocks) * chosen.epochs < chosen.global_batch_size:
        raise UserError(
            f"the corpus has {len(blocks)} blocks to train on, fewer in {chosen.epochs} epochs than the {chosen.global_batch_size} of one step; "
            "lower cpt_checkpoints.global_batch_size or cpt_corpus.sequence_length"
        )
    return Optimisation(
        steps=schedule(len(blocks), chosen, sequence_length=blocks.sequence_length).steps,
        global_batch_size=chosen.global_batch_size,
        learning_rate=chosen.learning_rate,
        warmup_steps=chosen.warmup_steps,
        weight_decay=chosen.weight_decay,
        adam_beta1=chosen.adam_beta1,
        adam_beta2=chosen.adam_beta2,
        adam_epsilon=chosen.adam_epsilon,
        max_grad_norm=chosen.max_grad_norm,
        precision=chosen.precision,
        divergence=chosen.divergence,
        seed=chosen.seed,
    )


def _metrics(job: TrainingJob, blocks: PackedBlocks, trained: Trained) -> dict[str, Any]:
    planned = schedule(len(blocks), job.settings, sequence_length=blocks.sequence_length)
    speeds = [row["tokens_per_s"] for row in trained.speed]
    first, last = (trained.perplexities[0], trained.perplexities[-1]) if trained.perplexities else ({}, {})
    return {
        "blocks": len(blocks),
        "epochs": job.settings.epochs,
        "steps": planned.steps,
        "trained_tokens": planned.trained_tokens,
        "initial_loss": trained.log[0]["loss"],
        "final_loss": trained.log[-1]["loss"],
        **{f"held_out_perplexity_{name}_base": value for name, value in first.items() if name != "step"},
        **{f"held_out_perplexity_{name}": value for name, value in last.items() if name != "step"},
        "tokens_per_s": round(statistics.median(speeds)),
        "mfu": None
        if any(row["mfu"] is None for row in trained.speed)
        else statistics.median(row["mfu"] for row in trained.speed),
        "peak_memory_gib": max(row["memory_gib"] for row in trained.speed),
    }


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

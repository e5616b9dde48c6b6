"""Payload of continual pre-training: the base model goes on learning by next-token prediction on the packed corpus.

Method: the paper's section on CPT (2 epochs, AdamW, linear decay, 500 warm-up steps, packing with isolated documents, mixed precision,
activation checkpointing). The checkpoint keeps the base's tokenizer, chat template and generation config byte by byte.
"""

import json
import math
import time
from pathlib import Path

import torch
from transformers import PreTrainedModel

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import run_payload
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.settings import CptCheckpointsSettings
from definemed_pipeline.training.trainer import (
    BlockSequence,
    Optimisation,
    mean_loss,
    prepare_process,
    split_blocks,
    train,
)


def train_checkpoint(draft: Draft[CptCheckpointsSettings]) -> None:
    """Train the base model on its packed corpus; save `model/` and `log.jsonl` (step, loss, learning_rate, grad_norm)."""
    prepare_process()
    started, chosen, name = time.monotonic(), draft.settings, draft.identity.partition
    base = draft.input("base_models", name) / model_folder.FOLDER
    blocks = PackedBlocks(draft.input("cpt_corpus", name))
    trained_on, held_out = _split(len(blocks), chosen)
    model = model_folder.load_model(base, dtype="float32")
    if held_out:
        draft.metrics["held_out_perplexity_base"] = round(math.exp(mean_loss(model, blocks, held_out)), 4)
    sequence = BlockSequence(blocks, trained_on, items=chosen.epochs * len(trained_on), seed=chosen.seed)
    optimisation = _optimisation(chosen, items=len(sequence))
    trained = train(model, sequence, optimisation, checkpoints=draft.checkpoints, report=draft.report)
    if held_out:
        draft.metrics["held_out_perplexity"] = round(math.exp(mean_loss(model, blocks, held_out)), 4)
    _save(model, base, draft.folder / model_folder.FOLDER)
    (draft.folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trained.log), "utf-8")
    draft.metrics.update(
        parameters=model_folder.count_parameters(draft.folder / model_folder.FOLDER),
        vocabulary_size=model_folder.vocabulary_size(draft.folder / model_folder.FOLDER),
        trained_tokens=len(sequence) * blocks.sequence_length,
        blocks=len(trained_on),
        held_out_blocks=len(held_out),
        epochs=chosen.epochs,
        steps=optimisation.steps,
        initial_loss=trained.log[0]["loss"],
        final_loss=trained.log[-1]["loss"],
        tokens_per_s=round(trained.tokens_per_s),
        seconds=round(time.monotonic() - started, 2),
    )


def _split(blocks: int, chosen: CptCheckpointsSettings) -> tuple[list[int], list[int]]:
    trained_on, held_out = split_blocks(blocks, held_out_share=chosen.held_out_share, seed=chosen.seed)
    per_step = chosen.batch_size * chosen.gradient_accumulation
    if len(trained_on) * chosen.epochs < per_step:
        raise UserError(
            f"the corpus has {len(trained_on)} blocks to train on, fewer in {chosen.epochs} epochs than the {per_step} of one step; "
            "lower batch_size, gradient_accumulation or cpt_corpus.sequence_length"
        )
    return trained_on, held_out


def _optimisation(chosen: CptCheckpointsSettings, *, items: int) -> Optimisation:
    return Optimisation(
        steps=math.ceil(items / (chosen.batch_size * chosen.gradient_accumulation)),
        batch_size=chosen.batch_size,
        gradient_accumulation=chosen.gradient_accumulation,
        learning_rate=chosen.learning_rate,
        warmup_steps=chosen.warmup_steps,
        weight_decay=chosen.weight_decay,
        adam_beta1=chosen.adam_beta1,
        adam_beta2=chosen.adam_beta2,
        adam_epsilon=chosen.adam_epsilon,
        max_grad_norm=chosen.max_grad_norm,
        precision=chosen.precision,
        activation_checkpointing=chosen.activation_checkpointing,
        checkpoint_every=chosen.checkpoint_every,
        seed=chosen.seed,
    )


def _save(model: PreTrainedModel, base: Path, folder: Path) -> None:
    """Save the weights in the base's own dtype, and take over everything that is not weights."""
    config = model_folder.read_json(base / "config.json")
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"  # the older name of the key
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    model_folder.copy_companions(base, folder)


if __name__ == "__main__":
    run_payload(CptCheckpointsSettings, train_checkpoint)

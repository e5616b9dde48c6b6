"""Payload of continual pre-training: the base model goes on learning by next-token prediction on the packed corpus.

Method: the paper's section on CPT (2 epochs, AdamW, linear decay, 500 warm-up steps, packing with isolated documents, mixed precision,
activation checkpointing, FSDP). The checkpoint keeps the base's tokenizer, chat template and generation config byte by byte.
"""

import time
from typing import Any

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.payload import run_payload
from definemed_pipeline.training.job import TrainingJob
from definemed_pipeline.training.processes import run_training
from definemed_pipeline.training.settings import CptCheckpointsSettings, TrainingExecutionSettings

CURVE_POINTS = 200  # of the speed, which is no part of the artifact's files since it is never twice the same


def train_checkpoint(draft: Draft[CptCheckpointsSettings]) -> None:
    """Train the base model on its packed corpus.

    Save `model/` (with LoRA also `adapter/`), `log.jsonl` (step, loss, learning_rate, grad_norm) and `perplexity.jsonl` (step and each held-out set).
    """
    started, name = time.monotonic(), draft.identity.partition
    base = draft.input("base_models", name) / model_folder.FOLDER
    job = TrainingJob(
        name=name,
        base=base,
        corpus=draft.input("cpt_corpus", name),
        output=draft.folder,
        checkpoints=draft.checkpoints,
        mirror=draft.store.checkpoints_url(draft.identity),
        settings=draft.settings,
        execution=TrainingExecutionSettings(**draft.execution),
    )
    outcome = run_training(job, draft.report)
    if outcome is None:  # of several nodes the first one publishes
        return
    trained = draft.folder / model_folder.FOLDER
    draft.metrics.update(
        outcome.metrics,
        parameters=model_folder.count_parameters(trained),
        vocabulary_size=model_folder.vocabulary_size(trained),
        speed=_columns(outcome.speed[:: max(1, len(outcome.speed) // CURVE_POINTS)]),
        seconds=round(time.monotonic() - started, 2),
    )


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


if __name__ == "__main__":
    run_payload(CptCheckpointsSettings, train_checkpoint, parse=CptCheckpointsSettings.parse)

"""A training small enough for every test: a random model of 7,000 weights and a corpus of numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

from definemed_pipeline.training.job import TrainingJob
from definemed_pipeline.training.packing import pack
from definemed_pipeline.training.settings import CptCheckpointsSettings, TrainingExecutionSettings

VOCABULARY = 40
LENGTH = 16
ARCHITECTURES = {"qwen2": Qwen2Config, "mistral": MistralConfig}


def write_base(folder: Path, architecture: str = "qwen2", **changes: Any) -> Path:
    """Write a random model."""
    torch.manual_seed(1)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
    }
    AutoModelForCausalLM.from_config(ARCHITECTURES[architecture](**{**shape, **changes})).save_pretrained(folder)
    return folder


def write_blocks(folder: Path, *, documents: int = 40, named: str = "document") -> Path:
    """Pack documents that a model can learn: each counts in steps of its own."""
    folder.mkdir(parents=True)
    numbered = [
        (f"{named}-{number}", (np.arange(5 + number % 13, dtype=np.uint32) * (number % 5 + 1)) % VOCABULARY)
        for number in range(documents)
    ]
    pack([numbered], folder, sequence_length=LENGTH, vocabulary_size=VOCABULARY, padding_id=0)
    return folder


def write_corpus(folder: Path, *, documents: int = 40) -> Path:
    """Write a packed corpus of so many documents, with two held-out sets."""
    write_blocks(folder / "train", documents=documents)
    write_blocks(folder / "held_out" / "corpus", documents=7, named="held-out")
    write_blocks(folder / "held_out" / "general", documents=5, named="general")
    return folder


def training_job(
    folder: Path, *, execution: dict[str, Any] | None = None, architecture: str = "qwen2", **settings: Any
) -> TrainingJob:
    """Lay out a training in a folder: base and corpus are made once, output and checkpoints are its own."""
    base, corpus = folder.parent / f"base-{architecture}", folder.parent / "corpus"
    defaults = {
        "epochs": 3,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "global_batch_size": 4,
        "precision": "float32",
        "evaluate_every": 6,
        "evaluation_blocks": 4,
    }
    job = TrainingJob(
        name="micro",
        base=base if base.exists() else write_base(base, architecture),
        corpus=corpus if corpus.exists() else write_corpus(corpus),
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        mirror=None,
        settings=CptCheckpointsSettings(**{**defaults, **settings}),
        execution=TrainingExecutionSettings(
            **{
                "processes": 1,
                "micro_batch_size": 2,
                "activation_checkpointing": "none",
                "checkpoint_every": 4,
                **(execution or {}),
            }
        ),
    )
    job.output.mkdir(parents=True)
    return job

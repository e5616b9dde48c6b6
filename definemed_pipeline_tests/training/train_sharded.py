"""What two processes run in `test_sharded`: a few steps of transformers' Trainer on a model that FSDP shards as it is loaded.

    python -m torch.distributed.run --standalone --nproc-per-node 2 -m definemed_pipeline_tests.training.train_sharded FOLDER JSON

JSON maps names of models, of which `FOLDER/NAME/base` holds the weights, to their trainings: names to what `Acceleration` takes and, for
LoRA, `rank`. Each gets its folder in `FOLDER/NAME/PROCESSES`. Started without torch.distributed.run it trains the same in one process.
"""

import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.distributed import DistributedConfig

from definemed_pipeline.training.acceleration import Acceleration
from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.lora import attach_adapter, merge_adapter, save_adapter
from definemed_pipeline.training.settings import LoraSettings

PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0"))
GLOBAL_BATCH = 4
STEPS = 3
LENGTH = 24
PLAIN = Acceleration(attention="sdpa", compile=False, fused_loss=None, activation_checkpointing="none")


class BlockTrainer(Trainer):
    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        del inputs["blocks"]
        return super().compute_loss(model, {**inputs, "use_cache": False}, *args, **kwargs)


def blocks(vocabulary: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    position_ids = np.arange(LENGTH) % 7
    items = []
    for number in range(GLOBAL_BATCH * STEPS):
        ids = generator.integers(0, vocabulary, LENGTH)
        items.append(
            {"input_ids": ids, "labels": np.where(position_ids, ids, -100), "position_ids": position_ids, "block": number}
        )
    return items


def train(base: Path, out: Path, *, rank: int | None = None, **asked: Any) -> None:
    sharded = {"distributed_config": DistributedConfig(fsdp_size=PROCESSES)} if PROCESSES > 1 else {}
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=GLOBAL_BATCH // 2,
        gradient_accumulation_steps=2 // PROCESSES,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        use_cpu=True,
        dataloader_pin_memory=False,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **sharded)
    if rank:
        attach_adapter(model, LoraSettings(rank=rank, alpha=8), seed=3)
    acceleration = dataclasses.replace(PLAIN, **asked)
    acceleration.apply(model)
    trainer = BlockTrainer(
        model=model,
        args=arguments,
        train_dataset=blocks(model.config.vocab_size),
        data_collator=partial(collate, flattened=acceleration.flattened),
    )
    trainer.pop_callback(transformers.PrinterCallback)
    trainer.train()
    if rank:
        save_adapter(model, out / f"adapter-{RANK}", base="somebody/base")
        merge_adapter(model)
    model.save_pretrained(out / "model")
    if RANK == 0:
        log = [[row["loss"], row["grad_norm"]] for row in trainer.state.log_history if "loss" in row]
        (out / "log.json").write_text(json.dumps(log), "utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for model, trainings in json.loads(sys.argv[2]).items():
        place = Path(sys.argv[1]) / model
        for name, asked in trainings.items():
            train(place / "base", place / str(PROCESSES) / name, **asked)

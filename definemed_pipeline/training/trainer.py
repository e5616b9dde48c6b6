"""The one training loop: next-token training of a causal language model on packed blocks, by transformers' Trainer.

Shared by pre-training from scratch and continual pre-training. Importing this module costs the Trainer's import (several seconds), so
only payloads do. Equal inputs give equal weights, log and order of blocks, also when the process is killed and started again.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.blocks import IGNORED, PackedBlocks
from definemed_pipeline.training.checkpoints import newest_intact, seal
from definemed_pipeline.training.settings import Precision

SECONDS_BETWEEN_REPORTS = 3.0
KEPT_CHECKPOINTS = 2  # the newest and one to fall back to
Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How the weights are optimised; AdamW with a linear warm-up and a linear decay to zero."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    max_grad_norm: float
    checkpoint_every: int
    seed: int
    adam_epsilon: float = 1e-8
    gradient_accumulation: int = 1
    precision: Precision = "float32"
    activation_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training leaves beside the weights: a log row per step, and this process' own speed."""

    log: list[dict[str, float]]
    tokens_per_s: float
    seconds: float


class BlockSequence(Dataset[Batch]):
    """The blocks in the order they are trained on: `choice`, shuffled anew for each pass, for as many `items` as asked.

    The order is a plain function of the seed and not of a sampler's state, so that a resumed run cannot meet another one.
    """

    def __init__(self, blocks: PackedBlocks, choice: Sequence[int], *, items: int, seed: int) -> None:
        self.blocks = blocks
        passes = math.ceil(items / len(choice))
        order = [np.random.default_rng([seed, number]).permutation(np.asarray(choice)) for number in range(passes)]
        self.order = np.concatenate(order)[:items]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        return self.blocks[int(self.order[index])]


def prepare_process() -> None:
    """Make a payload's process train reproducibly and report only what we report.

    The processor's part stays on one thread: what trains there is tiny, sums then come out the same whatever the number of cores, and
    models train side by side.
    """
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def train(
    model: PreTrainedModel,
    sequence: BlockSequence,
    optimisation: Optimisation,
    *,
    checkpoints: Path,
    report: Callable[[str], None],
) -> Trained:
    """Train `model` in place, going on from the newest intact checkpoint.

    Raise UserError naming step and documents where loss or gradient is no number.
    """
    checkpoint = newest_intact(checkpoints)
    use_cache = model.config.use_cache  # the Trainer sets it on its copy of the config, which would be saved
    watch = _Watch(sequence.blocks.sequence_length, report)
    trainer = _BlockTrainer(
        model=model,
        args=_arguments(optimisation, checkpoints),
        train_dataset=sequence,
        data_collator=collate,
        callbacks=[watch],
    )
    trainer.pop_callback(transformers.PrinterCallback)
    if checkpoint:
        report(f"going on from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.config.use_cache = use_cache
    return Trained(log=_log(trainer.state), tokens_per_s=watch.tokens_per_s, seconds=watch.seconds)


def collate(items: Sequence[Batch]) -> Batch:
    """Stack blocks to a batch. It holds no attention mask: that is what keeps the documents of a block apart (see PackedBlocks)."""
    stacked: Batch = {
        name: torch.from_numpy(np.stack([item[name] for item in items])) for name in ("input_ids", "labels", "position_ids")
    }
    return {**stacked, "blocks": [item["block"] for item in items]}


def mean_loss(model: PreTrainedModel, blocks: PackedBlocks, choice: Sequence[int]) -> float:
    """Return the mean negative log-likelihood per token, in nats, over some blocks."""
    total, tokens = 0.0, 0
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for block in choice:
            batch = collate([blocks[block]])
            del batch["blocks"]
            batch = {name: values.to(model.device) for name, values in batch.items()}
            predicted = int((batch["labels"] != IGNORED).sum())
            total += float(model(**batch, use_cache=False).loss) * predicted
            tokens += predicted
    model.train(was_training)
    return total / tokens


class _BlockTrainer(Trainer):
    """Trainer that knows which blocks a step saw and stops at the first number that is none."""

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        blocks = inputs.pop("blocks")
        loss = super().compute_loss(model, {**inputs, "use_cache": False}, *args, **kwargs)
        self._require_finite(loss, "loss", blocks)
        self.seen = blocks
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "grad_norm" in logs:
            self._require_finite(logs["grad_norm"], "gradient norm", self.seen)
        super().log(logs, *args, **kwargs)

    def _require_finite(self, value: Any, what: str, blocks: list[int]) -> None:
        if not math.isfinite(number := float(value.detach() if isinstance(value, torch.Tensor) else value)):
            assert isinstance(self.train_dataset, BlockSequence)
            documents = self.train_dataset.blocks.documents(blocks)
            raise UserError(
                f"the {what} became {number} after step {self.state.global_step}, on blocks {blocks} of documents "
                f"{', '.join(documents[:5])}{' …' if len(documents) > 5 else ''}; lower learning_rate or look at these documents"
            )


class _Watch(TrainerCallback):
    """Seal checkpoints, measure speed, report progress every few seconds."""

    def __init__(self, sequence_length: int, report: Callable[[str], None]) -> None:
        self.sequence_length = sequence_length
        self.report = report
        self.seconds = self.tokens_per_s = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.started = self.reported = time.monotonic()
        self.first_step = state.global_step

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.monotonic()
        steps = state.global_step - self.first_step
        if not steps or "loss" not in state.log_history[-1]:
            return
        self.seconds = now - self.started
        tokens_per_step = args.train_batch_size * args.gradient_accumulation_steps * self.sequence_length
        self.tokens_per_s = steps * tokens_per_step / self.seconds
        if now - self.reported >= SECONDS_BETWEEN_REPORTS or state.global_step == state.max_steps:
            self.reported = now
            left = (state.max_steps - state.global_step) * self.seconds / steps
            self.report(
                f"step {state.global_step}/{state.max_steps} loss {state.log_history[-1]['loss']:.2f} · "
                f"{self.tokens_per_s / 1000:.1f}k tokens/s · {left:.0f} s left"
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


def _arguments(optimisation: Optimisation, output: Path) -> TrainingArguments:
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(output),
        max_steps=optimisation.steps,
        per_device_train_batch_size=optimisation.batch_size,
        gradient_accumulation_steps=optimisation.gradient_accumulation,
        optim="adamw_torch_fused",
        learning_rate=optimisation.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=optimisation.warmup_steps,
        weight_decay=optimisation.weight_decay,
        adam_beta1=optimisation.adam_beta1,
        adam_beta2=optimisation.adam_beta2,
        adam_epsilon=optimisation.adam_epsilon,
        max_grad_norm=optimisation.max_grad_norm,
        bf16=optimisation.precision == "bfloat16",
        activation_checkpointing=optimisation.activation_checkpointing,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        train_sampling_strategy="sequential",  # BlockSequence holds the order
        remove_unused_columns=False,
        save_steps=optimisation.checkpoint_every,
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=optimisation.seed,
    )


def _log(state: TrainerState) -> list[dict[str, float]]:
    """Return one row per step; the history travels in the checkpoints, so it is whole also after a kill."""
    names = ("step", "loss", "learning_rate", "grad_norm")
    return [{name: entry[name] for name in names} for entry in state.log_history if "loss" in entry]


def split_blocks(count: int, *, held_out_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Draw the blocks that are trained on and those that are held out; at least one of each where a share is asked for."""
    held_out = min(count - 1, math.ceil(held_out_share * count))
    order = np.random.default_rng(seed).permutation(count).tolist()
    return sorted(order[held_out:]), sorted(order[:held_out])

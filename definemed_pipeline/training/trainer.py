"""The one training loop: next-token training of a causal language model on packed blocks, by transformers' Trainer.

Shared by pre-training from scratch and continual pre-training, in one process or in several that each hold a part of the model (FSDP2, as
transformers shards a model while loading it). Importing this module costs the Trainer's import (several seconds), so only payloads do.
Equal inputs on equal machines give equal weights, log and order of blocks, also when the processes are killed and started again.
"""

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import transformers
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from definemed_pipeline.errors import StoppedError, UserError
from definemed_pipeline.training import group
from definemed_pipeline.training.batches import Batch
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.checkpoints import Checkpoints, training_tensors
from definemed_pipeline.training.perplexity import Collate, perplexity
from definemed_pipeline.training.planning import blocks_at_once
from definemed_pipeline.training.settings import Precision, TrainingExecutionSettings
from definemed_pipeline.training.telemetry import DivergenceWatch, Telemetry

Row = dict[str, float]
TRAINER_STATE = "trainer_state"  # the name by which the Trainer finds it
SCHEDULE = "schedule"
PERPLEXITY = "perplexity_"


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How the weights are optimised; AdamW with a linear warm-up and a linear decay to zero. A step takes `global_batch_size` blocks."""

    steps: int
    global_batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    max_grad_norm: float
    seed: int
    adam_epsilon: float = 1e-8
    precision: Precision = "float32"
    divergence: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is looked at before, after and every `every` steps: packed sets by name, `blocks` of each at most.

    The perplexity of the first set says which weights are best. `keep_best` ends with those instead of the last.
    """

    held_out: Mapping[str, PackedBlocks] = field(default_factory=dict)
    every: int = 1
    blocks: int = 1
    keep_best: bool = False


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training leaves beside the weights.

    `log` has a row per step (step, loss, learning_rate, grad_norm), `perplexities` one per evaluation (step and each held-out set): both
    are the same whenever training is repeated. `speed` has a row per step (step, tokens_per_s, mfu, memory_gib).
    """

    log: list[Row]
    perplexities: list[Row]
    speed: list[Row]


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
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # checkpoints of a single process


def train(
    model: PreTrainedModel,
    sequence: BlockSequence,
    optimisation: Optimisation,
    execution: TrainingExecutionSettings,
    *,
    checkpoints: Checkpoints,
    telemetry: Telemetry | None,
    evaluation: Evaluation | None = None,
    collate: Collate,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train `model` in place, going on from the newest intact checkpoint.

    Raise UserError naming step, blocks and documents where loss or gradient is no number or training diverges, and StoppedError with a
    checkpoint saved where `stop` answers yes.
    """
    checkpoint = checkpoints.newest()
    use_cache = model.config.use_cache  # the Trainer sets it on its copy of the config, which would be saved
    trainer = _BlockTrainer(
        model=model,
        args=_arguments(optimisation, execution, checkpoints.folder),
        train_dataset=sequence,
        data_collator=collate,
        checkpoints=checkpoints,
        telemetry=telemetry,
        divergence=DivergenceWatch(optimisation.divergence),
    )
    milestones = _Milestones(trainer, evaluation or Evaluation(), execution.checkpoint_every, stop)
    trainer.add_callback(milestones)
    trainer.pop_callback(transformers.PrinterCallback)
    if checkpoint:
        checkpoints.report(f"going on from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    checkpoints.finish()
    if milestones.stopped:
        raise StoppedError(f"stopped at step {trainer.state.global_step}/{optimisation.steps}; its checkpoint is saved")
    milestones.settle()
    model.config.use_cache = use_cache
    return _trained(trainer.state)


class _BlockTrainer(Trainer):
    """The Trainer with checkpoints of our own, which stops at the first number that is none and names the blocks it came from."""

    def __init__(
        self, *, checkpoints: Checkpoints, telemetry: Telemetry | None, divergence: DivergenceWatch, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.checkpoints = checkpoints
        self.telemetry = telemetry
        self.divergence = divergence
        self.optimizer: Any  # there while it trains; the Trainer's own types say that each may be missing
        self.lr_scheduler: Any
        self.seen: list[tuple[list[int], torch.Tensor]] = []  # blocks and loss of each batch of the step, of this process

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        blocks = inputs.pop("blocks")
        loss: Any = super().compute_loss(model, {**inputs, "use_cache": False}, *args, **kwargs)
        self.seen.append((blocks, loss.detach()))
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Check what a step gave and add what was measured of it. Rows without a gradient norm are the Trainer's summary."""
        if "grad_norm" in logs:
            self._require_sound("loss", logs["loss"])
            self._require_sound("gradient norm", logs["grad_norm"])
            if self.telemetry:
                logs |= self.telemetry.step({"step": self.state.global_step, **logs})
        self.seen = []
        super().log(logs, *args, **kwargs)

    def _require_sound(self, what: str, value: float) -> None:
        found = None if math.isfinite(value) else f"became {value}"
        if found is None and what == "loss" and self.divergence.has_diverged(value):
            found = f"of the last steps rose {self.divergence.limit} above its lowest mean, to {value:.3f}"
        if found is None:
            return
        blocks = self._guilty_blocks()
        assert isinstance(self.train_dataset, BlockSequence)
        documents = self.train_dataset.blocks.documents(blocks)
        raise UserError(
            f"the {what} {found} in step {self.state.global_step}, on blocks {_abridged(blocks)} of documents {_abridged(documents)}; "
            "lower learning_rate or look at these documents"
        )

    def _guilty_blocks(self) -> list[int]:
        """Return the step's blocks whose own loss was no number, of all processes; all of its blocks where there is none."""
        own = [([int(block) for block in blocks], math.isfinite(float(loss))) for blocks, loss in self.seen]
        told = [own]
        if dist.is_initialized():
            told = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(told, own)
        batches = [batch for process in told for batch in process]
        guilty = [blocks for blocks, sound in batches if not sound] or [blocks for blocks, _ in batches]
        return sorted(block for blocks in guilty for block in blocks)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        states = {TRAINER_STATE: dataclasses.asdict(self.state), SCHEDULE: self.lr_scheduler.state_dict()}
        self.checkpoints.save(self.state.global_step, self.tensors(), states)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Leave the weights to `_load_optimizer_and_scheduler`, which comes when the model is in its place."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        self.checkpoints.load(Path(checkpoint), self.tensors())
        self.lr_scheduler.load_state_dict(json.loads((Path(checkpoint) / f"{SCHEDULE}.json").read_text("utf-8")))
        for weights, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            weights["lr"] = rate  # the schedule itself sets it only when it steps
        for row in self.state.log_history:
            if "loss" in row:
                self.divergence.has_diverged(row["loss"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.checkpoints.load_random_states(Path(checkpoint))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint holds of model and optimiser."""
        assert isinstance(self.model, torch.nn.Module)
        return training_tensors(self.model, self.optimizer.optimizer)  # what accelerate wraps


class _Milestones(TrainerCallback):
    """What happens between steps: evaluation, checkpoints, and the end that somebody asked for."""

    def __init__(self, trainer: _BlockTrainer, evaluation: Evaluation, checkpoint_every: int, stop: Callable[[], bool]) -> None:
        self.trainer = trainer
        self.evaluation = evaluation
        self.collate: Any = trainer.data_collator
        self.checkpoint_every = checkpoint_every
        self.stop = stop
        self.stopped = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.checkpoints.best = self.best_step(state)
        if state.global_step == 0:
            self.evaluate(state)
        if self.trainer.telemetry:
            self.trainer.telemetry.start(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step = state.global_step
        if step % self.evaluation.every == 0 or step == state.max_steps:
            if self.trainer.telemetry:
                self.trainer.telemetry.step_is_over()
            self.evaluate(state)
            if self.best_step(state) == step:
                self.trainer.checkpoints.best = step
                control.should_save = True
        if step % self.checkpoint_every == 0:
            control.should_save = True
        if step == state.max_steps:
            control.should_save = False  # the result itself comes next
        elif _any_process(self.stop(), args.device):
            self.stopped = control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.trainer.telemetry:
            self.trainer.telemetry.resume()

    def evaluate(self, state: TrainerState) -> None:
        """Add a row with the perplexity of each held-out set."""
        found = {
            name: round(perplexity(self.trainer.model, blocks, at_most=self.evaluation.blocks, collate=self.collate), 6)
            for name, blocks in self.evaluation.held_out.items()
        }
        if found:
            state.log_history.append(
                {"step": state.global_step, **{f"{PERPLEXITY}{name}": value for name, value in found.items()}}
            )
            told = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            self.trainer.checkpoints.report(f"step {state.global_step}/{state.max_steps} · held-out perplexity: {told}")

    def best_step(self, state: TrainerState) -> int | None:
        """Return the step after which the first held-out set was predicted best; the untrained model does not count."""
        first = next(iter(self.evaluation.held_out), None)
        rows = [row for row in state.log_history if f"{PERPLEXITY}{first}" in row and row["step"]]
        return int(min(rows, key=lambda row: row[f"{PERPLEXITY}{first}"])["step"]) if rows else None

    def settle(self) -> None:
        """Go back to the best weights where these are to be kept."""
        best = self.best_step(self.trainer.state)
        if self.evaluation.keep_best and best is not None and best != self.trainer.state.global_step:
            self.trainer.checkpoints.load(self.trainer.checkpoints.place(best), self.trainer.tensors())
            self.trainer.checkpoints.report(f"keeping the weights of step {best}, the best of the held-out perplexity")


def _arguments(optimisation: Optimisation, execution: TrainingExecutionSettings, output: Path) -> TrainingArguments:
    on_gpu = torch.cuda.is_available()
    at_once = blocks_at_once(optimisation.global_batch_size, processes=group.size(), at_most=execution.micro_batch_size)
    return TrainingArguments(
        output_dir=str(output),
        max_steps=optimisation.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=optimisation.global_batch_size // (group.size() * at_once),
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
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        train_sampling_strategy="sequential",  # BlockSequence holds the order
        remove_unused_columns=False,
        save_strategy="no",  # see _Milestones
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,  # Telemetry has its own
        seed=optimisation.seed,
    )


def _any_process(answer: bool, device: torch.device) -> bool:
    """Say whether any process answered yes: all of them must act on the same step."""
    if not dist.is_initialized():
        return answer
    told = torch.tensor(int(answer), device=device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return bool(told)


def _abridged(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names[:5])) + (f" … ({len(names)} in all)" if len(names) > 5 else "")


def _trained(state: TrainerState) -> Trained:
    """Sort the rows by kind; the history travels in the checkpoints, so it is whole also after a kill."""
    steps = [row for row in state.log_history if "loss" in row]
    return Trained(
        log=[{name: row[name] for name in ("step", "loss", "learning_rate", "grad_norm")} for row in steps],
        perplexities=[_named(row) for row in state.log_history if any(name.startswith(PERPLEXITY) for name in row)],
        speed=[{name: row[name] for name in ("step", "tokens_per_s", "mfu", "memory_gib")} for row in steps if "mfu" in row],
    )


def _named(row: Row) -> Row:
    return {name.removeprefix(PERPLEXITY): value for name, value in row.items()}

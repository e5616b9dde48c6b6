"""Measure continual pre-training beside transformers' Trainer as it comes: tokens/s, MFU and peak memory of a model with random weights.

    python benchmarks/cpt.py --model qwen2.5-7b --sequence-length 4096 --profile --json OUT
    python benchmarks/cpt.py --model tiny --sequence-length 512 --profile --json OUT

Weights and documents are random, since their values cost no time; the model's shape is the real one and the documents' lengths are those of web pages
(log-normal, mean about 900 tokens), packed as a corpus is. Everything is trained, in float32, and computed in `--precision`. By turns, each in a
process of its own, on one device:

- baseline: `Trainer` with its defaults, its collator and its AdamW, bf16, activation checkpointing; sdpa, nothing compiled, the loss not fused;
- ours: `run_training`, which the payload of `cpt_checkpoints` calls, with what it chooses for the device or what the options ask for.

Both take the same blocks in the same order with the same learning rates, documents apart from each other, so that loss and gradient norm of the first step
(`first_step`) are the same but for rounding. A step's tokens are those of its blocks, its seconds those from the log of the step before to its own. Rates are
medians over the steps after the first `--untimed-steps`, then over the turns. Without a GPU each side has one thread, and there is no MFU.

`--profile` adds a run of ours of which torch.profiler watches the step after the untimed ones: where the device's time goes, by kernels on a GPU
and by operators without one. `matrix products` hold those of the loss, `loss` is the rest of it; `no operator` is when the device waits, or Python runs.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from processes import commit
from torch.autograd.profiler_util import FunctionEventAvg
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModelForCausalLM, PreTrainedConfig, Qwen2Config, Trainer, TrainerCallback, TrainingArguments

from definemed_pipeline.artifacts.provenance import current_provenance
from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import load_model
from definemed_pipeline.training.acceleration import Acceleration, Attention, Device, choose_acceleration
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.flops import ActivationCheckpointing
from definemed_pipeline.training.job import TrainingJob
from definemed_pipeline.training.memory import Layout, memory_per_gpu
from definemed_pipeline.training.model_shape import config_named, packaged_names, read_shape
from definemed_pipeline.training.packing import Batch, pack
from definemed_pipeline.training.planning import GIB, blocks_at_once, usable_bytes
from definemed_pipeline.training.processes import run_training
from definemed_pipeline.training.settings import CptCheckpointsSettings, Precision, TrainingExecutionSettings
from definemed_pipeline.training.telemetry import peak_memory_gib
from definemed_pipeline.training.trainer import BlockSequence, prepare_process

TINY = "tiny"
MEDIAN_TOKENS, SPREAD = 570, 0.96  # of web pages: 330 words, spread as in web_documents.py; the mean is 900
SEED = 1
TOP = 10  # operators of the profile
# In this order: kernels of flash attention have CUTLASS in their names as well, and the one Triton template in use is flex attention's.
KINDS = {
    "attention": r"flash|fmha|flex|scaled_dot_product|triton_tem",
    "matrix products": r"gemm|cutlass|nvjet|xmma|cublas|aten::(add|b)?mm$|mkldnn.*linear",
    "loss": r"softmax|nll_loss|cross_entropy|logsumexp",
    "optimiser": r"adam|multi_tensor|_foreach|lpnorm",
}
Figures = dict[str, Any]
Row = dict[str, Any]


def main() -> None:
    arguments = parsed_arguments()
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    try:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            figures = measure(job_of(arguments, Path(folder)), arguments)
    except UserError as error:
        raise SystemExit(f"cpt.py: {error}") from None
    made_by = current_provenance("benchmark")
    figures |= {"commit": commit(), "load": os.getloadavg()[0], "cores": os.cpu_count()}
    figures |= {"versions": {name: made_by.environment[name] for name in ("python", "torch", "transformers", "accelerate")}}
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps({name: value for name, value in figures.items() if name != "turns"}, indent=2))


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--model", default=TINY, help=f"{', '.join(known_models())} (default: {TINY}, 1.1 million weights)")
    parser.add_argument("--sequence-length", type=int, default=4096, help="default: 4096")
    parser.add_argument("--steps", type=int, default=12, help="of each run (default: 12)")
    parser.add_argument("--untimed-steps", type=int, default=4, help="at the beginning, where code is compiled (default: 4)")
    parser.add_argument("--repetitions", type=int, default=2, help="turns of both sides (default: 2)")
    parser.add_argument("--global-batch-size", type=int, default=16, help="blocks of a step (default: 16)")
    parser.add_argument("--micro-batch-size", type=int, default=1, help="blocks at once, of both sides (default: 1)")
    parser.add_argument("--precision", choices=get_args(Precision), default="bfloat16", help="default: bfloat16")
    parser.add_argument("--attention", choices=get_args(Attention), help="ours (default: chosen for the device)")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="ours (default: chosen for the device)")
    parser.add_argument("--fused-loss", action=argparse.BooleanOptionalAction, help="ours (default: chosen for the device)")
    parser.add_argument(
        "--activation-checkpointing", choices=get_args(ActivationCheckpointing), default="full", help="ours (default: full)"
    )
    parser.add_argument("--profile", action="store_true", help="also say where the time of a step of ours goes")
    parser.add_argument("--folder", type=Path, help="where the model goes (default: the system's temporary folder)")
    arguments = parser.parse_args()
    if not 0 < arguments.untimed_steps < arguments.steps:
        parser.error("--untimed-steps must be at least 1 and fewer than --steps")
    return arguments


def known_models() -> list[str]:
    return [TINY, *packaged_names()]


def config_of(name: str) -> PreTrainedConfig:
    """Return the config of a model; raise UserError naming those there are."""
    if name not in known_models():
        raise UserError(f"--model is {name!r}; allowed: {', '.join(known_models())}")
    if name != TINY:
        return config_named(name)
    return Qwen2Config(
        vocab_size=4000,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )


def job_of(arguments: argparse.Namespace, folder: Path) -> TrainingJob:
    """Return the training of both sides: no evaluation, and no checkpoint within its steps."""
    config_of(arguments.model)
    return TrainingJob(
        name=arguments.model,
        base=folder / "base",
        corpus=folder / "corpus",
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        mirror=None,
        settings=CptCheckpointsSettings(
            epochs=1,
            warmup_steps=arguments.untimed_steps,
            global_batch_size=arguments.global_batch_size,
            precision=arguments.precision,
            evaluate_every=arguments.steps,
            seed=SEED,
        ),
        execution=TrainingExecutionSettings(
            processes=1,
            micro_batch_size=arguments.micro_batch_size,
            activation_checkpointing=arguments.activation_checkpointing,
            attention=arguments.attention,
            compile=arguments.compile,
            fused_loss=arguments.fused_loss,
            checkpoint_every=arguments.steps + 1,
        ),
    )


def measure(job: TrainingJob, arguments: argparse.Namespace) -> Figures:
    """Lay out the job, run both sides by turns, and return the figures."""
    prepared = in_own_process(prepare, job, arguments.steps, arguments.sequence_length)
    turns: dict[str, list[Figures]] = {"baseline": [], "ours": []}
    for _ in range(arguments.repetitions):
        for side, run in (("baseline", baseline), ("ours", ours)):
            turns[side].append(in_own_process(run, job, arguments.untimed_steps))
            print(f"{side}: {turns[side][-1]['tokens_per_s']:,.0f} tokens/s", flush=True)
    figures = {**prepared, **beside_each_other(turns), "turns": turns}
    if arguments.profile:
        figures["profile"] = in_own_process(profile, job, arguments.untimed_steps)
        print(profile_table(figures["profile"]), flush=True)
    names = ("model", "sequence_length", "global_batch_size", "micro_batch_size", "precision", "steps", "untimed_steps")
    return figures | {name: getattr(arguments, name) for name in names}


def in_own_process(work: Callable[..., Figures], *given: Any) -> Figures:
    """Call in a new process, so that memory and compiled code of one run are not there for the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *given).result()


def prepare(job: TrainingJob, steps: int, length: int) -> Figures:
    """Write model and corpus of a job and return device and acceleration; raise UserError where the device is too small."""
    prepare_process()
    config = config_of(job.name)
    torch_device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    acceleration = choose_acceleration(job.execution, Device.found(torch_device), precision=job.settings.precision)
    needed = estimated_memory(job, config, acceleration, length)
    require_room(needed, job)
    torch.manual_seed(SEED)
    with torch_device:
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(job.base)
    blocks = steps * job.settings.global_batch_size
    (job.corpus / "held_out").mkdir(parents=True)
    packed = pack(
        random_documents(blocks * length, config.vocab_size),
        job.corpus / "train",
        sequence_length=length,
        vocabulary_size=config.vocab_size,
        padding_id=0,
    )
    assert packed["blocks"] == blocks
    choices = {name: value for name, value in dataclasses.asdict(acceleration).items() if name != "reasons"}
    return {
        "device": torch.cuda.get_device_name() if torch_device.type == "cuda" else "CPU",
        "parameters": read_shape(config.to_dict(), origin=job.name).parameters,
        "documents": packed["documents"],
        "mean_attended_length": round(PackedBlocks(job.corpus / "train").mean_attended_length, 1),
        "estimated_memory_gib": {side: round(size / GIB, 2) for side, size in needed.items()},
        **choices,
    }


def estimated_memory(job: TrainingJob, config: PreTrainedConfig, acceleration: Acceleration, length: int) -> dict[str, float]:
    """Return the bytes that each side needs by the model's shape."""
    shape = read_shape(config.to_dict(), origin=job.name)
    size = blocks_at_once(job.settings.global_batch_size, processes=1, at_most=job.execution.micro_batch_size)
    as_it_comes = Layout(
        micro_batch_size=size, sequence_length=length, precision=job.settings.precision, attention="sdpa", fused_loss=False
    )
    accelerated = dataclasses.replace(
        as_it_comes,
        attention=acceleration.attention if acceleration.attention in ("sdpa", "eager") else "linear",
        fused_loss=acceleration.fused_loss is not None,
        activation_checkpointing=acceleration.activation_checkpointing,
    )
    return {"baseline": memory_per_gpu(shape, as_it_comes).total, "ours": memory_per_gpu(shape, accelerated).total}


def require_room(needed: dict[str, float], job: TrainingJob) -> None:
    """Tell the estimate; raise UserError where it is more than the GPU has, and warn where it is more than `definemed plan` would allow."""
    told = ", ".join(f"{side} {size / GIB:.1f} GiB" for side, size in needed.items())
    print(f"{job.name} needs about: {told}", flush=True)
    if not torch.cuda.is_available():
        return
    there = torch.cuda.get_device_properties(0).total_memory
    if max(needed.values()) > there:
        raise UserError(
            f"{job.name} needs about {max(needed.values()) / GIB:.0f} GiB, and {torch.cuda.get_device_name()} has {there / GIB:.0f}; "
            "take a smaller --model, or lower --micro-batch-size or --sequence-length"
        )
    if max(needed.values()) > usable_bytes(there / GIB):
        print(f"this is nearly all of the GPU's {there / GIB:.1f} GiB: it may run out of memory", flush=True)


def random_documents(tokens: int, vocabulary_size: int) -> Iterator[Batch]:
    """Yield documents of so many tokens altogether; the last is as long as is left."""
    chance = np.random.default_rng(SEED)
    number = 0
    while tokens:
        length = min(tokens, 1 + int(chance.lognormal(np.log(MEDIAN_TOKENS), SPREAD)))
        yield [(f"document-{number}", chance.integers(vocabulary_size, size=length, dtype=np.uint32))]
        tokens, number = tokens - length, number + 1


def ours(job: TrainingJob, untimed: int) -> Figures:
    """Train as the payload does and return the figures of the run."""
    for folder in (job.output, job.checkpoints):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    outcome = run_training(job, lambda line: print(line, flush=True))
    assert outcome is not None
    first = json.loads((job.output / "log.jsonl").read_text("utf-8").splitlines()[0])
    shutil.rmtree(job.output)  # the trained weights
    rows = outcome.speed[untimed:]
    return {
        "tokens_per_s": round(statistics.median(row["tokens_per_s"] for row in rows), 1),
        "mfu": None if outcome.metrics["mfu"] is None else statistics.median(row["mfu"] for row in rows),
        "peak_memory_gib": outcome.metrics["peak_memory_gib"],
        "trained_tokens": outcome.metrics["trained_tokens"],
        "first_step": {name: first[name] for name in ("loss", "grad_norm")},
    }


def baseline(job: TrainingJob, untimed: int) -> Figures:
    """Train with transformers' Trainer as it comes and return the figures of the run."""
    prepare_process()
    blocks = PackedBlocks(job.corpus / "train")
    settings = job.settings
    size = blocks_at_once(settings.global_batch_size, processes=1, at_most=job.execution.micro_batch_size)
    steps = len(blocks) // settings.global_batch_size
    log = _Log()
    trainer = Trainer(
        model=load_model(job.base, dtype="float32", attention="sdpa"),
        args=TrainingArguments(
            output_dir=str(job.checkpoints),
            max_steps=steps,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=settings.global_batch_size // size,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            bf16=settings.precision == "bfloat16",
            gradient_checkpointing=True,
            use_cpu=not torch.cuda.is_available(),
            train_sampling_strategy="sequential",  # BlockSequence holds the order
            logging_steps=1,  # as ours
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=BlockSequence(blocks, range(len(blocks)), items=len(blocks), seed=settings.seed),
        callbacks=[log],
    )
    trainer.train()
    step_tokens = settings.global_batch_size * blocks.sequence_length
    seconds = np.diff([log.started, *(row["time"] for row in log.rows)])
    return {
        "tokens_per_s": round(statistics.median(step_tokens / one for one in seconds[untimed:].tolist()), 1),
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "trained_tokens": trainer.state.global_step * step_tokens,
        "first_step": {name: log.rows[0][name] for name in ("loss", "grad_norm")},
    }


class _Log(TrainerCallback):
    """Note what the Trainer logs of each step, and when; to log the loss it has waited for the device."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.started = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.monotonic()

    def on_log(self, *_: Any, logs: Row, **__: Any) -> None:
        if "grad_norm" in logs:
            self.rows.append({**logs, "time": time.monotonic()})


def beside_each_other(turns: dict[str, list[Figures]]) -> Figures:
    """Put the medians of both sides' turns beside each other."""
    rates = {side: statistics.median(turn["tokens_per_s"] for turn in runs) for side, runs in turns.items()}
    memory = {side: max(turn["peak_memory_gib"] for turn in runs) for side, runs in turns.items()}
    mfus = [turn["mfu"] for turn in turns["ours"]]
    return {
        "tokens_per_s": round(rates["ours"], 1),
        "mfu": None if None in mfus else statistics.median(mfus),
        "peak_memory_gib": memory["ours"],
        "baseline_tokens_per_s": round(rates["baseline"], 1),
        "baseline_peak_memory_gib": memory["baseline"],
        "ratio": round(rates["ours"] / rates["baseline"], 3),
        "trained_tokens": {side: runs[0]["trained_tokens"] for side, runs in turns.items()},
        "first_step": {side: runs[0]["first_step"] for side, runs in turns.items()},
    }


def profile(job: TrainingJob, untimed: int) -> Figures:
    """Train as the payload does and return where the time of the step after the untimed ones went."""
    found: list[FunctionEventAvg] = []
    profiler = torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=untimed - 1, warmup=1, active=1, repeat=1),
        on_trace_ready=lambda ready: found.extend(ready.key_averages()),
    )
    hook = register_optimizer_step_post_hook(lambda *_: profiler.step())
    with profiler:
        ours(job, untimed)
    hook.remove()
    return shares_of(found)


def shares_of(events: Iterable[FunctionEventAvg]) -> Figures:
    """Sort the time of one step by kinds of work; shares are of the step's seconds, microseconds the profiler's unit."""
    events = list(events)
    device_types = torch.autograd.DeviceType
    on_gpu = torch.cuda.is_available()
    device = device_types.CUDA if on_gpu else device_types.CPU
    steps = [event for event in events if event.key.startswith("ProfilerStep") and event.device_type == device_types.CPU]
    step = steps[0].cpu_time_total
    times = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count)
        for event in events
        if event.device_type == device and not event.is_user_annotation and not event.key.startswith("ProfilerStep")
    }
    kinds = dict.fromkeys([*KINDS, "rest"], 0.0)
    for name, (microseconds, _) in times.items():
        kinds[kind_of(name)] += microseconds
    kinds["no operator"] = max(0.0, step - sum(kinds.values()))
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:TOP]
    return {
        "seconds": round(step / 1e6, 3),
        "shares": {kind: round(microseconds / step, 4) for kind, microseconds in kinds.items()},
        "longest": [
            {"operator": name, "kind": kind_of(name), "calls": calls, "share": round(microseconds / step, 4)}
            for name, (microseconds, calls) in longest
        ],
    }


def kind_of(operator: str) -> str:
    """Return the kind of work an operator or a kernel does, by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, operator, re.IGNORECASE)), "rest")


def profile_table(found: Figures) -> str:
    """Return a profile as people read it."""
    lines = [f"one step, {found['seconds']} s with the profiler"]
    lines += [f"  {share:6.1%}  {kind}" for kind, share in found["shares"].items()]
    lines += [f"  {row['share']:6.1%}  {row['calls']:6} ×  {row['operator'][:80]} ({row['kind']})" for row in found["longest"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

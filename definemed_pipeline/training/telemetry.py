"""What a training tells while it runs: loss, gradient norm, learning rate, tokens/s, MFU, memory, time to finish."""

import json
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from definemed_pipeline.training.flops import model_flops_utilisation

SECONDS_BETWEEN_REPORTS = 3.0
DIVERGENCE_STEPS = 20
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What turns seconds into tokens per second and model FLOPs utilisation.

    `tokens_per_step` counts the tokens of all devices. `flops_per_token` are the model's (see `flops.py`), `peak_flops` those of all devices
    together; where either is not known there is no MFU.
    """

    tokens_per_step: int
    flops_per_token: float | None = None
    peak_flops: float | None = None

    def tokens_per_s(self, seconds: float, steps: int = 1) -> float:
        """Return the tokens per second of some steps."""
        return steps * self.tokens_per_step / seconds

    def mfu(self, seconds: float, steps: int = 1) -> float | None:
        """Return the share of the devices' peak that went into the model, or None."""
        if not self.flops_per_token or not self.peak_flops:
            return None
        return model_flops_utilisation(
            self.tokens_per_s(seconds, steps), flops_per_token=self.flops_per_token, peak_flops_per_s=self.peak_flops
        )


class Telemetry:
    """Measure the steps of one process' training and tell them: a line every few seconds, or a progress bar in a terminal.

    Every step is also appended to `rows` (JSON Lines), to be followed from elsewhere. Only one process of a training has one.
    """

    def __init__(self, pace: Pace, *, rows: Path, report: Callable[[str], None]) -> None:
        self.pace = pace
        self.rows = rows
        self.report = report
        self.bar: tqdm[Any] | None = None
        self.over: float | None = None

    def start(self, step: int, steps: int) -> None:
        """Begin to measure after `step` of `steps`."""
        self.first_step, self.steps = step, steps
        self.started = self.reported = self.last = time.monotonic()
        if sys.stderr.isatty():
            self.bar = tqdm(total=steps, initial=step, unit="step", dynamic_ncols=True)

    def step_is_over(self) -> None:
        """Take the time of a step after which other work is done before its row is there."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.over = time.monotonic()

    def resume(self) -> None:
        """Leave what was done since the last row out of the next step's time."""
        self.last = time.monotonic()

    def step(self, row: Row) -> Row:
        """Return what was measured of the step that `row` (step, loss, …) belongs to, and tell both."""
        now = time.monotonic()
        seconds = (self.over or now) - self.last
        self.last, self.over = now, None
        mfu = self.pace.mfu(seconds)
        measured = {
            "tokens_per_s": round(self.pace.tokens_per_s(seconds), 1),
            "mfu": None if mfu is None else round(mfu, 4),
            "memory_gib": round(peak_memory_gib(), 3),
        }
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, **measured}) + "\n")
        self._tell({**row, **measured}, now)
        return measured

    def _tell(self, row: Row, now: float) -> None:
        done = row["step"] - self.first_step
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {row['loss']:.3f}, {row['tokens_per_s'] / 1000:.1f}k tokens/s", refresh=False)
            self.bar.update(row["step"] - self.bar.n)
            if row["step"] == self.steps:
                self.bar.close()
        elif now - self.reported >= SECONDS_BETWEEN_REPORTS or row["step"] == self.steps:
            self.reported = now
            seconds = now - self.started
            mfu = self.pace.mfu(seconds, done)
            self.report(
                f"step {row['step']}/{self.steps} · loss {row['loss']:.3f} · gradient norm {row['grad_norm']:.2f} · "
                f"learning rate {row['learning_rate']:.2g} · {self.pace.tokens_per_s(seconds, done) / 1000:.1f}k tokens/s · "
                + (f"MFU {mfu:.1%} · " if mfu is not None else "")
                + f"{row['memory_gib']:.1f} GiB · {duration((self.steps - row['step']) * seconds / done)} left"
            )


class DivergenceWatch:
    """Say when the mean loss of the last steps has risen too far above the lowest such mean before."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.losses: deque[float] = deque(maxlen=DIVERGENCE_STEPS)
        self.lowest = float("inf")

    def has_diverged(self, loss: float) -> bool:
        """Take the loss of the next step."""
        self.losses.append(loss)
        if len(self.losses) < DIVERGENCE_STEPS:
            return False
        mean = sum(self.losses) / DIVERGENCE_STEPS
        self.lowest = min(self.lowest, mean)
        return mean > self.lowest + self.limit


def peak_memory_gib() -> float:
    """Return the most memory this process has held: of its GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def duration(seconds: float) -> str:
    """Return a duration as people read it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"

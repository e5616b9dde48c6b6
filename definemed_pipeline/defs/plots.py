"""Pictures for the asset pages: drawn from an artifact's numbers, embedded as PNG in markdown metadata.

A picture is drawn once: whenever an artifact is reused, Dagster is told of it with all its pictures again. What was drawn from the same numbers by the
same code lies in `DAGSTER_HOME/pictures`. matplotlib is imported when the first is drawn, as every command and every run loads this module.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import io
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import polars as pl

from definemed_pipeline.artifacts.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, MUTED = "#1f3044", "#c2410c", "#8a97a6"
COLOURS = ("#2563a8", ACCENT, "#3f8f5f", "#8a5fb0", MUTED)
THOUSANDS = "{x:,.10g}"
P = ParamSpec("P")
NAMED = 16  # columns of a picture that have room for their name


def _drawn_once(draw: Callable[P, str]) -> Callable[P, str]:
    """Take a picture from `DAGSTER_HOME/pictures` where the same code has drawn it from the same arguments."""

    @functools.wraps(draw)
    def picture(*args: P.args, **kwargs: P.kwargs) -> str:
        if "DAGSTER_HOME" not in os.environ:
            return draw(*args, **kwargs)
        given = [*map(_plain, args), {name: _plain(argument) for name, argument in kwargs.items()}]
        key = hashlib.sha256(f"{_code()} {draw.__name__} {given!r}".encode()).hexdigest()
        kept = Path(os.environ["DAGSTER_HOME"]) / "pictures" / f"{key}.md"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(kept) as unfinished:
                unfinished.write_text(draw(*args, **kwargs), "utf-8")
        return kept.read_text("utf-8")

    return picture


def _plain(argument: object) -> object:
    """Return an argument as what shows all its numbers in writing; a frame shows some rows only."""
    return argument.to_dicts() if isinstance(argument, pl.DataFrame) else argument


@functools.cache
def _code() -> str:
    """Return what tells this drawing code from any other."""
    return f"{importlib.metadata.version('matplotlib')} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"


@_drawn_once
def histogram(edges: Sequence[float], counts: Sequence[int], *, label: str, threshold: float | None = None) -> str:
    """Draw counts between edges on a logarithmic scale, with the decision threshold as a line."""
    figure, axes = _canvas()
    axes.bar(edges[:-1], counts, width=[b - a for a, b in itertools.pairwise(edges)], align="edge", color=COLOURS[0])
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel(label)
    axes.set_ylabel("documents")
    if threshold is not None:
        axes.axvline(threshold, color=ACCENT, linewidth=1.5)
        axes.annotate(f" threshold {threshold:.2f}", (threshold, axes.get_ylim()[1]), color=ACCENT, va="top")
    return _markdown(figure, label)


@_drawn_once
def lines(
    x: Sequence[float], series: Mapping[str, Sequence[float]], *, x_label: str, y_label: str, logarithmic: bool = False
) -> str:
    """Draw one line per series over a common x axis, which may be logarithmic."""
    figure, axes = _canvas()
    if logarithmic:
        axes.set_xscale("log")
    for (name, values), colour in zip(series.items(), COLOURS, strict=False):
        axes.plot(x, values, label=name, color=colour, linewidth=1.5)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(series) > 1:
        axes.legend(frameon=False)
    return _markdown(figure, y_label)


@_drawn_once
def bars(
    values: Mapping[str, float],
    *,
    label: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    logarithmic: bool = False,
) -> str:
    """Draw one horizontal bar per name, with 95 % intervals where given; counts on a logarithmic scale carry their number."""
    figure, axes = _canvas(height=0.8 + 0.32 * len(values))
    names = list(values)[::-1]
    errors = None
    if intervals:
        errors = [
            [max(0.0, values[name] - intervals[name][0]) for name in names],
            [max(0.0, intervals[name][1] - values[name]) for name in names],
        ]
    drawn = axes.barh(names, [values[name] for name in names], xerr=errors, color=COLOURS[0], ecolor=INK, capsize=3)
    if logarithmic:
        axes.set_xscale("symlog", linthresh=1)
        axes.bar_label(drawn, [f"{values[name]:,}" for name in names], padding=3, color=INK, fontsize=9)
        axes.margins(x=0.25)
    elif not intervals:
        axes.xaxis.set_major_formatter(THOUSANDS)
    axes.set_xlabel(label)
    return _markdown(figure, label)


@_drawn_once
def columns(values: Mapping[str, float], *, label: str) -> str:
    """Draw one column per name, in the order given; of many, only some are named."""
    figure, axes = _canvas(height=3.4)
    names = list(values)
    axes.bar(range(len(names)), list(values.values()), color=COLOURS[0])
    step = -(-len(names) // NAMED)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=40, ha="right")
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_ylabel(label)
    return _markdown(figure, label)


@_drawn_once
def panels(
    values: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], *, x: Sequence[str], label: str, across: int = 3
) -> str:
    """Draw one small panel per name: a line per series over the steps `x`, each point (value, low, high) with its 95 % interval."""
    down = -(-len(values) // across)
    figure = _figure(2.6 * across, 0.4 + 1.9 * down)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(values) :]:
        axes.set_axis_off()
    for axes, (name, series) in zip(grid.flat, values.items(), strict=False):
        _draw_panel(axes, name, series, x)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=across, frameon=False, fontsize=9)
    figure.suptitle(label, fontsize=10)
    return _markdown(figure, label)


def _draw_panel(axes: Axes, name: str, series: Mapping[str, Sequence[tuple[float, float, float]]], x: Sequence[str]) -> None:
    for number, (label, points) in enumerate(series.items()):
        at = [
            step + 0.08 * (number - (len(series) - 1) / 2) for step in range(len(x))
        ]  # side by side, or intervals hide each other
        below = [max(0.0, value - low) for value, low, _ in points]
        above = [max(0.0, high - value) for value, _, high in points]
        centres = [value for value, _, _ in points]
        axes.errorbar(
            at, centres, yerr=[below, above], label=label, color=COLOURS[number % len(COLOURS)], marker="o", ms=3, capsize=2
        )
    axes.set_xticks(range(len(x)), x)
    axes.set_xlim(-0.4, len(x) - 0.6)
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(name, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)


def table(frame: pl.DataFrame) -> str:
    """Write a small frame as a markdown table."""
    numeric = [dtype.is_numeric() for dtype in frame.dtypes]
    lines = [
        "| " + " | ".join(name.replace("_", " ") for name in frame.columns) + " |",
        "|" + "|".join("---:" if is_number else "---" for is_number in numeric) + "|",
    ]
    for row in frame.iter_rows():
        cells = (
            "" if cell is None else f"{cell:,}" if is_number else str(cell).replace("|", "\\|")
            for cell, is_number in zip(row, numeric, strict=True)
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@_drawn_once
def matrix(
    names: Sequence[str],
    cells: Mapping[tuple[str, str], float],
    *,
    intervals: Mapping[tuple[str, str], tuple[float, float]],
    label: str,
) -> str:
    """Draw a square of shares in [0, 1], row against column, each cell with its number over its interval."""
    figure, axes = _canvas(height=1.2 + 0.6 * len(names))
    grid = [[cells.get((row, column), float("nan")) for column in names] for row in names]
    axes.imshow(grid, cmap="PuOr", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), share in cells.items():
        place, (low, high) = (names.index(column), names.index(row)), intervals[row, column]
        axes.annotate(f"{share:.2f}", place, xytext=(0, 1), textcoords="offset points", ha="center", color=INK)
        bounds = f"{low:.2f}–{high:.2f}"
        axes.annotate(bounds, place, xytext=(0, -2), textcoords="offset points", ha="center", va="top", color=INK, fontsize=6.5)
    axes.set_title(label, fontsize=10)
    return _markdown(figure, label)


@_drawn_once
def trade_off(models: pl.DataFrame, *, x: str, y: str, x_label: str, y_label: str) -> str:
    """Draw models (columns `model`, `is_on_front`, `is_chosen`, and both measures with `_low` and `_high`) against two goals.

    The Pareto front is joined by a line, what was chosen is marked; models that are no candidates are grey.
    """
    figure, axes = _canvas(height=4.2)
    for row in models.iter_rows(named=True):
        colour = ACCENT if row["is_chosen"] else MUTED if row["is_on_front"] is None else COLOURS[0]
        errors = [[[max(0.0, row[of] - row[f"{of}_low"])], [max(0.0, row[f"{of}_high"] - row[of])]] for of in (x, y)]
        axes.errorbar(row[x], row[y], xerr=errors[0], yerr=errors[1], fmt="o", color=colour, elinewidth=0.5, alpha=0.8)
        axes.annotate(f" {row['model']}", (row[x], row[y]), color=colour, fontsize=8, va="bottom")
    front = models.filter("is_on_front").sort(x, y)
    axes.plot(front[x], front[y], color=COLOURS[0], linewidth=1, linestyle="--", label="Pareto front")
    axes.legend(frameon=False)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return _markdown(figure, f"{y_label} against {x_label}")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _canvas(height: float = 2.8) -> tuple[Figure, Axes]:
    figure = _figure(6.4, height)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _markdown(figure: Figure, alternative: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"![{alternative}](data:image/png;base64,{encoded})"

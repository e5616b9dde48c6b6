"""The plan as tables, in which every figure says where it comes from."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from definemed_pipeline.plan.planner import Given, Sourced, TrainingPlan
from definemed_pipeline.recipe import Recipe
from definemed_pipeline.training.flops import model_flops_utilisation
from definemed_pipeline.training.planning import RESERVED_SHARE

Row = tuple[str, str, str]
LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
BINARY = ((2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki"))
HOURS_TOLD_AS_SUCH = 72


def describe_plans(recipe: Recipe, given: Given, plans: list[TrainingPlan]) -> Iterator[RenderableType]:
    """Yield the tables of the plans, and what they come to together."""
    yield f"[bold]definemed plan[/] recipe {recipe.name} · continual pre-training of {len(plans)} base models"
    for plan in plans:
        table = Table(title=f"\n[bold]{plan.name}[/]", title_justify="left", show_header=False, box=None, pad_edge=False)
        for column in range(3):
            table.add_column(no_wrap=column < 2)
        for rows in (_training_rows(recipe, plan), _memory_rows(given, plan), _time_rows(given, plan), _storage_rows(plan)):
            for row in rows:
                table.add_row(*row)
        yield table
    yield f"\n[bold]together[/]  {_hours_together(plans)} · {_scaled(sum(sum(plan.storage.values()) for plan in plans), SI)}B of storage"


def _training_rows(recipe: Recipe, plan: TrainingPlan) -> Iterator[Row]:
    shape, schedule, training = plan.shape.value, plan.schedule, recipe.cpt_checkpoints
    length = recipe.cpt_corpus.sequence_length
    yield "parameters", f"{shape.parameters:,}", _origin(plan.shape)
    yield "tokens an epoch", _scaled(schedule.blocks * length, LARGE), _origin(plan.corpus.blocks)
    yield "blocks", f"{schedule.blocks:,}", f"of {length:,} tokens"
    yield "steps", f"{schedule.steps:,}", f"{training.epochs} epochs, {training.global_batch_size} blocks a step"
    yield "tokens trained", _scaled(schedule.trained_tokens, LARGE), ""
    attended = plan.corpus.attended_length
    yield "a token attends to", f"{attended.value:,.0f} tokens", _origin(attended)
    repeated = f"{_scaled(plan.flops.computed, SI)}FLOPs with what checkpointing computes again"
    yield "FLOPs a token", f"{_scaled(plan.flops.model, SI)}FLOPs", repeated
    yield "FLOPs", f"{plan.flops.model * schedule.trained_tokens:.2e}", ""


def _memory_rows(given: Given, plan: TrainingPlan) -> Iterator[Row]:
    layout = plan.layout
    yield "GPUs", str(layout.processes), _origin(plan.processes)
    how = f"{layout.micro_batch_size} blocks at once, activation checkpointing {layout.activation_checkpointing}"
    yield "memory a GPU", _memory(plan.memory.total), f"{how}, LoRA of rank {layout.adapter_rank}" if layout.adapter_rank else how
    for name, size in plan.memory.at_peak.items():
        yield "", _memory(size), name.replace("_", " ")
    whose = "--gpu-memory-gib" if given.gpu_memory_gib else given.gpu.name
    usable = f"{_memory(plan.usable_memory)} of {given.memory_gib:g} GiB ({whose}): {RESERVED_SHARE:.0%} is set aside"
    yield "fits", "[green]yes[/]" if plan.fits else "[red]no[/]", usable
    for number, remedy in enumerate(plan.remedies):
        yield "" if number else "would fit", remedy.change, f"{_memory(remedy.needed)} a GPU"


def _time_rows(given: Given, plan: TrainingPlan) -> Iterator[Row]:
    if plan.rate is None or plan.gpu_hours is None:
        yield "time", "not known", "no rate is published for so small a model; give --tokens-per-s, or train it once"
        return
    yield "rate of a GPU", f"{plan.rate.value:,.0f} tokens/s", _origin(plan.rate)
    if given.tokens_per_s:
        peak = given.gpu.bf16_flops_per_s
        share = model_flops_utilisation(given.tokens_per_s, flops_per_token=plan.flops.model, peak_flops_per_s=peak)
        yield "", f"{share:.1%} MFU", f"of {given.gpu.name}"
    hours = plan.gpu_hours / plan.processes.value
    took = f"{hours:,.1f} hours" if hours < HOURS_TOLD_AS_SUCH else f"{hours / 24:,.1f} days"
    yield "time", took, f"{plan.gpu_hours:,.1f} GPU-hours; evaluations, checkpoints and the start come on top"


def _storage_rows(plan: TrainingPlan) -> Iterator[Row]:
    for number, (name, size) in enumerate(plan.storage.items()):
        yield "" if number else "storage", f"{_scaled(size, SI)}B", name


def _hours_together(plans: list[TrainingPlan]) -> str:
    known = [plan.gpu_hours for plan in plans if plan.gpu_hours is not None]
    return f"{sum(known):,.1f} GPU-hours" if len(known) == len(plans) else "GPU-hours not known of every model"


def _origin(value: Sourced[object]) -> str:
    return f"[yellow]assumed:[/] {escape(value.source)}" if value.is_assumed else escape(value.source)


def _memory(size: float) -> str:
    return f"{_scaled(size, BINARY)}B"


def _scaled(number: float, units: tuple[tuple[float, str], ...]) -> str:
    """Return a number in three digits and its unit, such as 7.62B or 45.2 G."""
    size, unit = next(((size, unit) for size, unit in units if number >= size), (1.0, ""))
    scaled = number / size
    digits = f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}"
    return f"{digits}{unit}" if units is LARGE else f"{digits} {unit}"

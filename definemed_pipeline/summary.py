"""What `definemed` prints about a recipe before it runs and about its results after: tables read from the lake, nothing computed anew."""

import json
from collections.abc import Iterator

import polars as pl
import yaml
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.sources.listing import list_source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.effect import read_effect
from definemed_pipeline.evaluation.failures.tradeoffs import in_brief
from definemed_pipeline.evaluation.report.page import PAGE
from definemed_pipeline.evaluation.stages import STAGES
from definemed_pipeline.recipe import Recipe
from definemed_pipeline.settings import as_json, section_digest

SECTIONS = [name for name in Recipe.model_fields if name not in ("name", "description")]


def describe_recipe(recipe: Recipe) -> Iterator[RenderableType]:
    """Say what a valid recipe would build: its shards, base models and the digest of each section."""
    yield f"[green]valid[/]  recipe [bold]{recipe.name}[/]  {escape(recipe.description)}"
    try:
        shards = list(list_source(recipe.source))
        yield f"{len(shards)} shards: {', '.join(shards[:6])}{' …' if len(shards) > 6 else ''}"
    except UserError as error:
        yield f"[yellow]shards cannot be listed now:[/] {escape(str(error))}"
    yield f"{len(recipe.base_models)} base models: " + ", ".join(
        f"{name} ({one.kind})" for name, one in recipe.base_models.items()
    )
    table = Table("section", "digest", "settings", box=None, pad_edge=False)
    for name in SECTIONS:
        section = getattr(recipe, name)
        plain = {key: as_json(one) for key, one in section.items()} if isinstance(section, dict) else as_json(section)
        shown = yaml.safe_dump(plain, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
        table.add_row(name, section_digest(section)[:8], escape(shown.strip()[1:-1]))
    yield table


def summarise(store: Store, recipe: Recipe) -> Iterator[RenderableType]:
    """Yield the tables of whatever a recipe has in the lake: corpus, models, effect, places."""
    found = _Found(store, recipe)
    if corpus := found.artifact("finemed_de"):
        yield _corpus_table(corpus)
    if scores := found.per_base_model("benchmark_scores"):
        yield _accuracy_table(store, scores, recipe)
        yield _control_table(store, scores)
    if failures := found.artifact("failure_modes"):
        yield _tradeoffs_table(store, failures)
    if win_rates := found.artifact("win_rates"):
        yield _win_rate_table(store, win_rates, recipe)
    if scores and failures:
        yield from _effect(store, scores, failures)
    yield from _places(store, found)


class _Found:
    """The artifacts of one recipe."""

    def __init__(self, store: Store, recipe: Recipe) -> None:
        self.store, self.recipe = store, recipe

    def artifact(self, asset: str) -> Manifest | None:
        return self.store.latest(self.recipe.name, asset)

    def per_base_model(self, asset: str) -> dict[str, Manifest]:
        found = {name: self.store.latest(self.recipe.name, asset, name) for name in self.recipe.base_models}
        return {name: manifest for name, manifest in found.items() if manifest is not None}


def _corpus_table(corpus: Manifest) -> Table:
    metrics = corpus.metrics
    table = Table(title="FineMed-de", title_justify="left")
    table.add_column("")
    table.add_column("documents", justify="right")
    table.add_row("read", f"{metrics['documents']:,}")
    table.add_row("not medical", f"{metrics['not_medical']:,}")
    for name, count in metrics.items():
        if name.startswith("dropped_"):
            table.add_row(f"dropped: {name.removeprefix('dropped_').replace('_', ' ')}", f"{count:,}")
    table.add_row("[bold]kept[/]", f"[bold]{metrics['kept']:,}[/]")
    for name in ("precision", "recall"):
        if metrics.get(name) is not None:
            table.add_row(f"{name} against gold, %", _interval(metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"]))
    return table


def _accuracy_table(store: Store, scores: dict[str, Manifest], recipe: Recipe) -> Table:
    """Tabulate the macro average of each base model, and below it, marked, what others published."""
    table = Table(title="Accuracy in % [95 % interval], mean over benchmarks", title_justify="left")
    for column in ("base model", *STAGES, "CPT - base", "merged - base"):
        table.add_column(column, justify="left" if column == "base model" else "right")
    for name, manifest in scores.items():
        found = json.loads((store.folder(manifest) / "scores.json").read_text("utf-8"))
        accuracy = {stage: found["accuracy"][stage][MACRO] for stage in STAGES}
        change = {
            (one["before"], one["after"]): _points(one["difference"], one["difference_low"], one["difference_high"])
            for one in found["differences"]
            if one["benchmark"] == MACRO
        }
        cells = [_interval(one["accuracy"], one["accuracy_low"], one["accuracy_high"]) for one in accuracy.values()]
        table.add_row(name, *cells, change["base", "cpt"], change["base", "merged"])
    for one in recipe.report.published:
        cells = [f"{100 * one.accuracy:.2f}" if stage == one.stage else "" for stage in STAGES]
        table.add_row(f"[dim]† {escape(one.model)}[/]", *cells, "", "")
    if sources := sorted({one.source for one in recipe.report.published}):
        table.caption, table.caption_justify = f"† published, not measured here: {escape(', '.join(sources))}", "left"
    return table


def _control_table(store: Store, scores: dict[str, Manifest]) -> Table:
    """Tabulate every task by itself; those outside of the average show what else changes, such as what is forgotten."""
    title = "Accuracy by benchmark in % [95 % interval]; those with * are controls and in no average"
    table = Table(title=title, title_justify="left")
    for column in ("base model", "benchmark", "questions", *STAGES, "merged - base"):
        table.add_column(column, justify="left" if column in ("base model", "benchmark") else "right", overflow="fold")
    for name, manifest in scores.items():
        found = json.loads((store.folder(manifest) / "scores.json").read_text("utf-8"))
        change = {row["benchmark"]: row for row in found["differences"] if (row["before"], row["after"]) == ("base", "merged")}
        for task in [task for task in found["accuracy"]["base"] if task != MACRO]:
            per_stage = [found["accuracy"][stage][task] for stage in STAGES]
            cells = [_interval(one["accuracy"], one["accuracy_low"], one["accuracy_high"]) for one in per_stage]
            row = change[task]
            table.add_row(
                name,
                escape(task) + ("" if task in found["average"] else "*"),
                str(per_stage[0]["questions"]),
                *cells,
                _points(row["difference"], row["difference_low"], row["difference_high"]),
            )
    return table


def _tradeoffs_table(store: Store, failures: Manifest) -> Table:
    title = "What CPT gave and cost, what the merge kept, recovered, gave or brought in [95 % interval]; -: nothing shown"
    table = Table(title=title, title_justify="left")
    brief = in_brief(pl.read_parquet(store.folder(failures) / "tradeoffs.parquet"))
    for column in brief.columns:
        table.add_column(escape(column), justify="right" if column in STAGES else "left")
    for row in brief.iter_rows():
        table.add_row(*map(escape, row))
    return table


def _win_rate_table(store: Store, win_rates: Manifest, recipe: Recipe) -> Table:
    opponent = (recipe.win_rates.opponent_base_model, recipe.win_rates.opponent_stage)
    rates = pl.read_parquet(store.folder(win_rates) / "win_rates.parquet")
    rates = rates.drop_nulls("win_rate").filter(opponent_base_model=opponent[0], opponent_stage=opponent[1])
    judge = recipe.win_rates.judge.kind
    title = f"Win rate in % [95 % interval] against {opponent[0]}/{opponent[1]} (judge: {judge}, ties count half)"
    table = Table("model", "win rate", "at equal length", "wins / ties / losses", title=title, title_justify="left")
    for row in rates.iter_rows(named=True):
        counts = f"{row['wins']} / {row['ties']} / {row['losses']}"
        raw = _interval(row["win_rate"], row["low"], row["high"])
        value, low, high = (row[f"length_controlled{bound}"] for bound in ("", "_low", "_high"))
        controlled = "too few decided" if value is None else _interval(value, low, high)
        table.add_row(f"{row['base_model']}/{row['stage']}", raw, controlled, counts)
    return table


def _effect(store: Store, scores: dict[str, Manifest], failures: Manifest) -> Iterator[RenderableType]:
    yield "\n[bold]Does the paper's effect show?[/]"
    for name, manifest in scores.items():
        claims = read_effect(name, benchmark_scores=store.folder(manifest), failure_modes=store.folder(failures))
        for one in claims:
            answer = "[green]yes[/]" if one.holds else "[yellow]no [/]"
            yield f"  {answer}  {name}: {escape(one.claim)}: {escape(one.evidence)}"


def _places(store: Store, found: _Found) -> Iterator[RenderableType]:
    yield "\n[bold]Where it is[/]"
    if corpus := found.artifact("finemed_de"):
        yield f"  corpus        {escape(store.uri(corpus))}/data"
    for label, asset, below in (("merged model", "merged_models", "model"), ("model card  ", "model_cards", "README.md")):
        for manifest in found.per_base_model(asset).values():
            yield f"  {label}  {escape(store.uri(manifest))}/{below}"
    if report := found.artifact("report"):
        yield f"  [bold]report[/]        {escape(store.uri(report))}/{PAGE}"
    yield "\n[bold]What next[/]"
    yield "  make ui                                   see the graph, its pictures and lineage at http://127.0.0.1:3000"
    first = next(iter(found.recipe.base_models))
    packaged = "" if found.recipe.name == "demo" else " --recipe …"
    yield f"  definemed report report.html{packaged}   a copy of the page that tells all this, to read, print or send"
    yield f"  definemed lineage show model_cards/{first}{packaged}   everything behind a result, down to the source files"
    yield "  definemed run --recipe my.yaml            the same graph on your own files and models (README: Real input)"


def _interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"

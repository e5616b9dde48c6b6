"""`definemed`: the graph from a shell. What a person reads stands here; what happens stands elsewhere."""

import os
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from definemed_pipeline.errors import UserError

if TYPE_CHECKING:  # imported where they are used, so that `definemed --help` answers at once
    from concurrent.futures import Executor

    from duckdb import DuckDBPyRelation

    from definemed_pipeline.artifacts.lineage import Lineage
    from definemed_pipeline.artifacts.store import Store
    from definemed_pipeline.recipe import Recipe
    from definemed_pipeline.runs import Event, PlannedRun

FAILED, BAD_INPUT = 1, 2
MARKS = {
    "built": "[green]✓[/]",
    "reused": "[blue]=[/]",
    "check_warned": "[yellow]![/]",
    "check_failed": "[red]![/]",
    "failed": "[red]✗[/]",
}

debugging = ContextVar("debugging", default=False)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Turn the open web into specialised language models, reproducibly, on your own hardware.\n\n"
    "Start with [bold]definemed demo[/], then look at what it built with [bold]make ui[/].",
)
lineage_app = typer.Typer(no_args_is_help=True, help="Show where an artifact came from.")
recipe_app = typer.Typer(no_args_is_help=True, help="Validate recipes before anything runs.")
app.add_typer(lineage_app, name="lineage")
app.add_typer(recipe_app, name="recipe")
LOG_WIDTH = 120  # of a file or pipe, which has no width of its own
SECONDS_BETWEEN_PROGRESS = 2.0
ROWS_SHOWN = 40
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else LOG_WIDTH)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

RecipeOption = Annotated[str, typer.Option(help="A packaged recipe (demo, paper) or the path of your own YAML file.")]
LakeOption = Annotated[
    str | None, typer.Option(help="Folder or URL (s3://…) of the lake.", envvar="DEFINEMED_LAKE", show_default="lake/")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Rebuild artifacts that are complete.")]


def main() -> None:
    """Run the command line; an error the user can cure is told in a line or two, `--debug` shows where it came from."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        debugging.set(True)
    try:
        app()
    except UserError as error:
        if debugging.get():
            raise
        errors.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(BAD_INPUT)


@app.callback()
def _root(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


@app.command()
def demo(lake: LakeOption = None, force: ForceOption = False) -> None:
    """Run the whole graph in the small German world the project generates itself: offline, on a laptop, in minutes.

    It shows the paper's effect: continual pre-training raises medical accuracy and costs instruction-following, and merging restores
    most of it. Every number printed is measured; a second run reuses every artifact.
    """
    _run("demo", lake, select=[], partition=None, force=force)


@app.command()
def run(
    recipe: RecipeOption = "demo",
    select: Annotated[
        list[str] | None,
        typer.Option(help="Assets in Dagster's selection syntax, e.g. 'finemed_de', '+finemed_de', 'group:corpus'. Repeatable."),
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Only this shard or base model.")] = None,
    lake: LakeOption = None,
    force: ForceOption = False,
) -> None:
    """Materialize assets of a recipe, parents first; what is complete is reused. The UI can do the same.

    Examples: definemed run --recipe my.yaml · definemed run --select '+finemed_de' · definemed run --select cpt_checkpoints
    --partition demo-qwen2 --force
    """
    _run(recipe, lake, select=select or [], partition=partition, force=force)


@app.command()
def report(
    to: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="Where a copy of the page goes: a file, or a folder that exists.")
    ] = None,
    recipe: RecipeOption = "demo",
    lake: LakeOption = None,
) -> None:
    """Copy the page that tells what a recipe's run measured to a place of your own, and say where it is.

    One HTML file without scripts or links to the outside: open it in a browser, send it by mail, print it. It holds the verdict in words,
    accuracy, win rates and failures with intervals, answers to read, facts of the corpus, and for every number the file it was read
    from. Nothing is measured or built here: a page that is older than the results says so. Without PATH it only says where the lake has it.

    Examples: definemed report report.html · definemed report ~/Downloads --recipe my.yaml
    """
    from definemed_pipeline.artifacts.store import Store
    from definemed_pipeline.evaluation.report.copying import copy_page, older_than
    from definemed_pipeline.recipe import load_recipe

    store, name = Store(_lake_url(lake)), load_recipe(recipe).name
    page = store.require(name, "report")
    if outdated := older_than(store, name, page):
        errors.print(
            f"[yellow]older than what it tells of:[/] {escape(', '.join(outdated))}; `definemed run` brings it up to date"
        )
    console.print(escape(str(copy_page(store, page, to))))


@lineage_app.command("show")
def lineage_show(
    artifact: Annotated[str, typer.Argument(metavar="ASSET[/PARTITION]", help="For example model_cards/demo-qwen2.")],
    recipe: RecipeOption = "demo",
    lake: LakeOption = None,
) -> None:
    """Print the tree of artifacts and versions behind an artifact, read from manifests alone: no database is needed."""
    from definemed_pipeline.artifacts.lineage import lineage_of
    from definemed_pipeline.artifacts.store import Store
    from definemed_pipeline.recipe import load_recipe

    asset, _, partition = artifact.partition("/")
    store = Store(_lake_url(lake))
    tree = lineage_of(store, store.require(load_recipe(recipe).name, asset, partition or "_"))
    console.print(_draw(tree, Tree(_label(tree)), set()))


@recipe_app.command("check")
def recipe_check(path: Annotated[str, typer.Argument(help="A packaged recipe's name or a YAML file.")]) -> None:
    """Validate a recipe and print what it would build."""
    from definemed_pipeline.recipe import load_recipe
    from definemed_pipeline.summary import describe_recipe

    for line in describe_recipe(load_recipe(path)):
        console.print(line)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A packaged recipe (demo, paper) or a YAML file.")],
    *,
    gpu: Annotated[
        str, typer.Option(help="Kind of GPU: h100, h200, a100, …; an unknown one is told with the known ones.")
    ] = "h100",
    gpu_memory_gib: Annotated[
        float | None, typer.Option(help="Memory of a GPU in GiB, where it is another than that of --gpu.", min=0.1)
    ] = None,
    processes: Annotated[int | None, typer.Option(help="GPUs that train one model together.", min=1)] = None,
    tokens_per_s: Annotated[float | None, typer.Option(help="A measured rate of one GPU.", min=0.001)] = None,
    mfu: Annotated[
        float | None, typer.Option(help="Share of the GPU's peak that training uses, e.g. 0.4.", min=0.001, max=1)
    ] = None,
    tokens_per_word: Annotated[
        float | None, typer.Option(help="Tokens the models make of a word of the corpus, where it is not built.", min=0.1)
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Say what continual pre-training will cost before it runs: tokens, steps, FLOPs, memory, hours, storage. Nothing is built.

    What the lake holds is read from it: shapes of models, tokens of the corpus, the rate of an earlier training. The rest comes from
    published shapes and the recipe's section `plan`; every assumption is marked as one. Where a model does not fit the GPU's memory, the
    plan says what would. A rate is that of one GPU: as given, else as measured, else from an assumed share of the GPU's peak (MFU).

    Examples: definemed plan paper · definemed plan paper --gpu h200 --processes 8 · definemed plan my.yaml --tokens-per-s 7200
    """
    from definemed_pipeline.artifacts.store import Store
    from definemed_pipeline.plan.planner import Given, plan_recipe
    from definemed_pipeline.plan.tables import describe_plans
    from definemed_pipeline.recipe import load_recipe
    from definemed_pipeline.training.gpus import gpu_named

    given = Given(
        gpu=gpu_named(gpu),
        gpu_memory_gib=gpu_memory_gib,
        processes=processes,
        tokens_per_s=tokens_per_s,
        mfu=mfu,
        tokens_per_word=tokens_per_word,
    )
    loaded = load_recipe(recipe)
    for part in describe_plans(loaded, given, plan_recipe(Store(_lake_url(lake)), loaded, given)):
        console.print(part)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One statement that reads; without it the tables are listed.")] = None,
    recipe: RecipeOption = "demo",
    lake: LakeOption = None,
    output: Annotated[
        Literal["table", "csv", "jsonl"],
        typer.Option("--format", help="A table of the first rows to read, or all rows for a program."),
    ] = "table",
    database: Annotated[
        Path | None, typer.Option(help="Write a duckdb database with these tables as views, for other programs.")
    ] = None,
) -> None:
    """Ask the recipe's latest artifacts in SQL (duckdb). Nothing is copied, and nothing can be changed.

    Examples: definemed sql · definemed sql "DESCRIBE finemed_de" · definemed sql "SELECT dump, count(*) FROM finemed_de GROUP BY ALL"
    """
    from definemed_pipeline.artifacts.store import Store
    from definemed_pipeline.database import asked, list_tables, write_database
    from definemed_pipeline.recipe import load_recipe

    store, name = Store(_lake_url(lake)), load_recipe(recipe).name
    if database is not None:
        tables = write_database(store, name, database)
        console.print(
            f"{escape(str(database))} has {len(tables)} views of the lake {escape(store.url)}; they read it where it is"
        )
        if not store.is_local:
            console.print("a program that opens it needs duckdb's httpfs extension and credentials for the lake")
    elif query is None:
        for table in list_tables(store, name):
            console.print(f"{table.name:<32} {table.rows:>14,} rows  {len(table.files)} files")
    else:
        with asked(store, name, query) as answer:
            if output != "table":
                _write_rows(answer, as_csv=output == "csv")
            else:
                answer.show(max_rows=ROWS_SHOWN, max_width=console.width)


def _write_rows(answer: "DuckDBPyRelation", *, as_csv: bool) -> None:
    """Write an answer's rows to standard output, some at a time; a nested value becomes JSON in CSV."""
    import csv
    import json

    def as_text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, default=str)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(answer.columns)
    for batch in answer.to_arrow_reader(1_000):
        rows = batch.to_pylist()
        if as_csv:
            writer.writerows([as_text(one) if isinstance(one, list | dict) else one for one in row.values()] for row in rows)
        else:
            sys.stdout.writelines(f"{as_text(row)}\n" for row in rows)


def _run(recipe_name: str, lake: str | None, *, select: list[str], partition: str | None, force: bool) -> None:
    from definemed_pipeline.artifacts.store import Store
    from definemed_pipeline.compute.backends import payloads_for
    from definemed_pipeline.recipe import load_recipe
    from definemed_pipeline.runs import worker_processes

    started = time.monotonic()
    recipe = load_recipe(recipe_name)
    url = _lake_url(lake)
    _choose(recipe_name, url)
    with payloads_for(recipe.compute), worker_processes(recipe.compute.concurrency) as workers:  # before a thread is started
        store = Store(url)
        store.check_writable()  # so that it is told before any work starts
        plan = _plan(store, recipe, select, partition)
        fine = _follow(plan, workers, recipe.compute.concurrency, force=force, started=started)
    if not fine:
        errors.print(
            "\n[red]The run failed.[/] What was completed is kept: cure the cause above and run the command again. --debug shows tracebacks."
        )
        sys.exit(FAILED)
    if not select:  # a part of the graph has no result of its own
        from definemed_pipeline.summary import summarise

        console.print()
        for part in summarise(store, recipe):
            console.print(part)
    console.print(f"\nDone in {_clock(time.monotonic() - started)}.")


def _choose(recipe_name: str, lake: str) -> None:
    """Tell this process and its workers which recipe and lake they serve, in which Dagster instance (`.dagster/` unless DAGSTER_HOME is set)."""
    from definemed_pipeline.recipe import ENVIRONMENT_VARIABLE

    os.environ[ENVIRONMENT_VARIABLE] = str(Path(recipe_name).resolve()) if Path(recipe_name).is_file() else recipe_name
    os.environ["DEFINEMED_LAKE"] = lake
    os.environ.setdefault("DAGSTER_HOME", str(Path.cwd() / ".dagster"))


def _plan(store: "Store", recipe: "Recipe", select: list[str], partition: str | None) -> "list[PlannedRun]":
    """List the source's files, register them as partitions, plan the runs and say what is going to happen."""
    from definemed_pipeline.corpus.sources.listing import files_of, refresh_listing
    from definemed_pipeline.runs import SHARDS, plan_runs, prepare_instance

    listing = refresh_listing(
        store, recipe.name, recipe.source, run_id="planning", report=lambda text: console.print(escape(text))
    )
    shards = list(files_of(store, listing))
    registered = prepare_instance(Path.cwd(), shards)
    from definemed_pipeline.definitions import defs

    partitions = {SHARDS: shards, "base_model": list(recipe.base_models)}
    plan = plan_runs(defs, partitions, select, partition, registered=registered)
    models = ", ".join(recipe.base_models)
    console.print(f"[bold]definemed[/] recipe {recipe.name} · {len(shards)} shards · base models: {models} · {len(plan)} runs")
    console.print(f"lake {store.url} · Dagster instance {os.environ['DAGSTER_HOME']}\n")
    return plan


def _follow(plan: "list[PlannedRun]", workers: "Executor", concurrency: int, *, force: bool, started: float) -> bool:
    """Execute the runs and tell what happens; return whether all of it went well."""
    from definemed_pipeline.runs import execute

    fine = True
    told: dict[tuple[str, str | None], float] = {}
    for event in execute(plan, workers, concurrency=concurrency, force=force):
        fine = fine and event.kind not in ("failed", "check_failed")
        elapsed = time.monotonic() - started
        place = (event.asset, event.partition)
        if event.kind != "progress" or elapsed - told.get(place, 0.0) >= SECONDS_BETWEEN_PROGRESS:
            told[place] = elapsed
            _tell(event, elapsed)
    return fine


def _lake_url(lake: str | None) -> str:
    return lake if lake and "://" in lake else str(Path(lake or "lake").resolve())


def _tell(event: "Event", elapsed: float) -> None:
    name = event.asset if event.partition is None else f"{event.asset}[{event.partition}]"
    text = escape(event.text)
    if event.kind in ("built", "reused"):
        text = f"{event.kind}, {event.seconds:.1f} s" + (f", {text}" if text else "")
    if event.trace and debugging.get():
        errors.print(escape(event.trace))
    console.print(f"{_clock(elapsed)}  {MARKS.get(event.kind, ' ')} {escape(name)}  {text}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _label(node: "Lineage") -> str:
    if node.manifest is None:
        return f"{escape(node.name)}  {node.version}  [red]no longer in the lake[/]"
    made = node.manifest.provenance
    return (
        f"[bold]{escape(node.name)}[/]  {node.version}  {made.created_at}  commit {made.code_commit[:12]}  run {made.run_id[:8]}"
    )


def _draw(node: "Lineage", tree: Tree, seen: set[tuple[str, str]]) -> Tree:
    """Draw each artifact's inputs once; where it comes up again, a reference."""
    for source in node.sources:
        tree.add(f"[dim]source {source.name}: {escape(source.location)}  {source.digest[:16]}[/]")
    for one in node.inputs:
        if (one.name, one.version) in seen:
            tree.add(f"{escape(one.name)}  {one.version}  [dim]see above[/]")
            continue
        seen.add((one.name, one.version))
        _draw(one, tree.add(_label(one)), seen)
    return tree


if __name__ == "__main__":
    main()

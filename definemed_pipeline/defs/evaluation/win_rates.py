"""Asset `win_rates`: every model against the recipe's opponent, and against each other."""

import dagster as dg
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.evaluation.responses import responses
from definemed_pipeline.defs.materialization import (
    OWNERS,
    blocking,
    build_here,
    check,
    code_version,
    result,
    warning,
)
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.evaluation.pairwise.compare import compare_responses, judge_sources
from definemed_pipeline.evaluation.stages import STAGES
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().win_rates
CHECKS = active_recipe().checks


@dg.asset(
    group_name="evaluation",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    deps=[responses],
    code_version=code_version("3", SECTION),
    check_specs=[
        *blocking("win_rates", complete="Every ordered pair of different models has a win rate."),
        *warning(
            "win_rates",
            readable_verdicts="Of the judge's verdicts no more than the recipe's share could not be read.",
            independent_judge="The judge is of another family than the base models: judges prefer their kin.",
        ),
    ],
)
def win_rates(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """How often a model's response is judged better than another's to the same instruction, ties counted half.

    The judge is named in the recipe: a chat model that sees every pair in both orders, or `reference`, which compares with reference
    answers offline. Intervals are by resampling instructions; beside each raw rate stands the one at equal length.
    """
    manifest = build_here(
        context,
        lake,
        compare_responses,
        section=SECTION,
        inputs=lake.artifacts("responses", active_recipe().base_models),
        sources=lake.sources(judge_files()),
    )
    folder = lake.store.folder(manifest)
    table = pl.read_parquet(folder / "win_rates.parquet")
    return result(
        context,
        lake,
        manifest,
        table="win_rates.parquet",
        plots={
            "win_rate_matrix": _matrix(table),
            "against_the_opponent": _against_the_opponent(table),
            "strengths": _strengths(pl.read_parquet(folder / "strengths.parquet")),
        },
        checks=_checks(table, manifest),
    )


def judge_files() -> dict[str, str | None]:
    """Return the files the recipe's judge works from."""
    with final_failures():
        return judge_sources(SECTION)


def _checks(table: pl.DataFrame, manifest: Manifest) -> list[dg.AssetCheckResult]:
    models = len(STAGES) * len(active_recipe().base_models)
    known = table["win_rate"].count()
    metrics = manifest.metrics
    share = metrics["unreadable_verdicts"] / metrics["games"]
    kin = metrics.get("kin_of_judge", "")
    return [
        check("complete", known == models * (models - 1), pairs=known, models=models),
        check(
            "readable_verdicts", share <= CHECKS.unreadable_verdicts, warns=True, share=share, allowed=CHECKS.unreadable_verdicts
        ),
        check("independent_judge", not kin, warns=True, kin=kin),
    ]


def _matrix(table: pl.DataFrame) -> str:
    named = table.drop_nulls("win_rate").with_columns(
        model=pl.format("{}/{}", "base_model", "stage"),
        opponent=pl.format("{}/{}", "opponent_base_model", "opponent_stage"),
    )
    rows = {(row["model"], row["opponent"]): row for row in named.iter_rows(named=True)}
    return plots.matrix(
        named["model"].unique(maintain_order=True).to_list(),
        {pair: row["win_rate"] for pair, row in rows.items()},
        intervals={pair: (row["low"], row["high"]) for pair, row in rows.items()},
        label="win rate of the row against the column, with 95 % intervals",
    )


def _against_the_opponent(table: pl.DataFrame) -> str:
    """Draw the raw rates against the recipe's opponent beside those at equal length."""
    against = table.filter(opponent_base_model=SECTION.opponent_base_model, opponent_stage=SECTION.opponent_stage)
    shown = {}
    for row in against.drop_nulls("win_rate").iter_rows(named=True):
        name = f"{row['base_model']}/{row['stage']}"
        shown[name] = (row["win_rate"], row["low"], row["high"])
        if row["length_controlled"] is not None:
            shown[f"{name}, at equal length"] = tuple(row[f"length_controlled{bound}"] for bound in ("", "_low", "_high"))
    return plots.bars(
        {name: value for name, (value, _, _) in shown.items()},
        label=f"win rate against {SECTION.opponent_base_model}/{SECTION.opponent_stage}",
        intervals={name: (low, high) for name, (_, low, high) in shown.items()},
    )


def _strengths(table: pl.DataFrame) -> str:
    rows = {f"{row['base_model']}/{row['stage']}": row for row in table.iter_rows(named=True)}
    return plots.bars(
        {name: row["strength"] for name, row in rows.items()},
        label="Bradley-Terry strength against the opponent, log odds",
        intervals={name: (row["low"], row["high"]) for name, row in rows.items()},
    )

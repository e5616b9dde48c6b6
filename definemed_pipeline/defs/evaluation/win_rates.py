"""Asset `win_rates`: every model against the recipe's opponent, and against each other."""

import dagster as dg
import polars as pl

from definemed_pipeline.defs import plots
from definemed_pipeline.defs.evaluation.responses import responses
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.evaluation.compare import compare_responses
from definemed_pipeline.evaluation.stages import STAGES
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().win_rates


@dg.asset(
    group_name="evaluation",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    deps=[responses],
    code_version=code_version("1", SECTION),
    check_specs=blocking("win_rates", complete="Every ordered pair of different models has a win rate."),
)
def win_rates(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """How often a model's response is judged better than another's to the same instruction, ties counted half.

    The judge is named in the recipe; `reference` compares with reference answers, since no LLM judge runs offline.
    """
    manifest = build_here(
        context,
        lake,
        compare_responses,
        section=SECTION,
        inputs=lake.artifacts("responses", active_recipe().base_models),
    )
    table = pl.read_parquet(lake.store.folder(manifest) / "win_rates.parquet")
    models = len(STAGES) * len(active_recipe().base_models)
    return result(
        context,
        lake,
        manifest,
        table="win_rates.parquet",
        plots={"win_rate_matrix": _matrix(table)},
        checks=[check("complete", table.height == models * (models - 1), pairs=table.height, models=models)],
    )


def _matrix(table: pl.DataFrame) -> str:
    named = table.with_columns(
        model=pl.format("{}/{}", "base_model", "stage"),
        opponent=pl.format("{}/{}", "opponent_base_model", "opponent_stage"),
    )
    cells = {(row["model"], row["opponent"]): row["win_rate"] for row in named.iter_rows(named=True)}
    names = named["model"].unique(maintain_order=True).to_list()
    return plots.matrix(names, cells, label="win rate of the row against the column")

"""Asset `failure_modes`: what CPT and the merge bring in besides knowledge."""

import dagster as dg
import polars as pl

from definemed_pipeline.defs import plots
from definemed_pipeline.defs.evaluation.responses import responses
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.evaluation.failures import diagnose_responses
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().failure_modes


@dg.asset(
    group_name="evaluation",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    deps=[responses],
    code_version=code_version("1", SECTION),
    check_specs=blocking("failure_modes", every_response="Every response has been diagnosed."),
)
def failure_modes(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Language mixing, verbosity, answers that never end, repeat themselves or miss the point: rates with intervals by stage."""
    inputs = lake.artifacts("responses", active_recipe().base_models)
    manifest = build_here(context, lake, diagnose_responses, section=SECTION, inputs=inputs)
    folder = lake.store.folder(manifest)
    diagnosed, expected = pl.read_parquet(folder / "failures.parquet").height, sum(one.rows for one in inputs)
    return result(
        context,
        lake,
        manifest,
        table="failure_rates.parquet",
        plots={"failure_rates": _rates(pl.read_parquet(folder / "failure_rates.parquet"))},
        checks=[check("every_response", diagnosed == expected, diagnosed=diagnosed, responses=expected)],
    )


def _rates(table: pl.DataFrame) -> str:
    named = [(f"{row['base_model']}/{row['stage']} {row['failure']}", row) for row in table.iter_rows(named=True)]
    return plots.bars(
        {name: row["rate"] for name, row in named},
        label="share of responses",
        intervals={name: (row["low"], row["high"]) for name, row in named},
    )

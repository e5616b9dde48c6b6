"""Asset `failure_modes`: what CPT and the merge bring in besides knowledge, and what they trade for it."""

import dagster as dg
import polars as pl

from definemed_pipeline.defs import plots
from definemed_pipeline.defs.evaluation.benchmark_scores import benchmark_scores
from definemed_pipeline.defs.evaluation.responses import responses
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.evaluation.failures.failure_modes import diagnose_responses
from definemed_pipeline.evaluation.failures.tradeoffs import readable
from definemed_pipeline.evaluation.stages import STAGES
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().failure_modes


@dg.asset(
    group_name="evaluation",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    deps=[benchmark_scores, responses],
    code_version=code_version("3", SECTION),
    check_specs=blocking("failure_modes", every_response="Every response has been diagnosed."),
)
def failure_modes(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """What goes wrong in answers, by stage: other languages, length, repetition, refusals, broken formats; and what the stages trade for accuracy.

    Rates carry 95 % intervals, differences are paired by instruction, and failed answers lie in `examples.parquet` to be read.
    """
    base_models = active_recipe().base_models
    inputs = [*lake.artifacts("responses", base_models), *lake.artifacts("benchmark_scores", base_models)]
    manifest = build_here(context, lake, diagnose_responses, section=SECTION, inputs=inputs, sources=lake.sources(_lexicons()))
    folder = lake.store.folder(manifest)
    diagnosed = pl.read_parquet(folder / "failures.parquet").height
    expected = sum(one.rows for one in inputs if one.identity.asset == "responses")
    traded = pl.read_parquet(folder / "tradeoffs.parquet")
    return result(
        context,
        lake,
        manifest,
        table="failure_rates.parquet",
        plots={"tradeoffs": plots.table(readable(traded)), "measures_by_stage": _by_stage(traded)},
        checks=[check("every_response", diagnosed == expected, diagnosed=diagnosed, responses=expected)],
    )


def _lexicons() -> dict[str, str]:
    with final_failures():
        return SECTION.sources()


def _by_stage(traded: pl.DataFrame) -> str:
    panels: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for row in traded.filter(unit="share").iter_rows(named=True):
        points = [(row[stage], row[f"{stage}_low"], row[f"{stage}_high"]) for stage in STAGES]
        panels.setdefault(row["measure"].replace("_", " "), {})[row["base_model"]] = points
    return plots.panels(panels, x=STAGES, label="share of questions or responses, with 95 % intervals")

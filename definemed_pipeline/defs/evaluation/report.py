"""Asset `report`: what the whole run measured, on one page to read and to print."""

import dagster as dg

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.defs.corpus.annotations import annotations
from definemed_pipeline.defs.corpus.cascade_certificate import cascade_certificate
from definemed_pipeline.defs.corpus.finemed_de import finemed_de
from definemed_pipeline.defs.corpus.medical_classifier import medical_classifier
from definemed_pipeline.defs.evaluation.benchmark_scores import benchmark_scores
from definemed_pipeline.defs.evaluation.failure_modes import failure_modes
from definemed_pipeline.defs.evaluation.model_cards import model_cards
from definemed_pipeline.defs.evaluation.responses import responses
from definemed_pipeline.defs.evaluation.win_rates import win_rates
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.models.merge_sweep import merge_sweep
from definemed_pipeline.defs.models.merged_models import merged_models
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.evaluation.report.page import PAGE, write_report
from definemed_pipeline.evaluation.report.verify import contradictions
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().report
GATHERED = ("annotations", "medical_classifier", "cascade_certificate", "finemed_de", "win_rates", "failure_modes")
PER_BASE_MODEL = ("merge_sweep", "merged_models", "benchmark_scores", "responses", "model_cards")


@dg.asset(
    group_name="evaluation",
    kinds={"html"},
    owners=OWNERS,
    deps=[
        annotations,
        medical_classifier,
        cascade_certificate,
        finemed_de,
        merge_sweep,
        merged_models,
        benchmark_scores,
        responses,
        win_rates,
        failure_modes,
        model_cards,
    ],
    code_version=code_version("2", SECTION),
    check_specs=blocking("report", every_number_traced="Every number on the page is found again in the file it names."),
)
def report(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """One HTML page for people: the verdict in words, every table with its intervals, answers to read, and where each number came from.

    It needs no server and no network, reads on a phone and on paper; `definemed report` puts a copy where you want it.
    """
    base_models = active_recipe().base_models
    inputs = [
        *(lake.artifact(asset) for asset in GATHERED),
        *(one for asset in PER_BASE_MODEL for one in lake.artifacts(asset, base_models)),
    ]
    manifest = build_here(context, lake, write_report, section=SECTION, inputs=inputs)
    wrong = _contradictions(lake, manifest)
    return result(
        context,
        lake,
        manifest,
        checks=[check("every_number_traced", not wrong, numbers=manifest.metrics["numbers"], wrong=wrong[:10])],
    )


def _contradictions(lake: Lake, manifest: Manifest) -> list[str]:
    return contradictions((lake.store.folder(manifest) / PAGE).read_text("utf-8"), lake.store, manifest)

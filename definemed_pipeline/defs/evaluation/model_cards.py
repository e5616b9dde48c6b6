"""Asset `model_cards`: what a merged model is, where each of its numbers came from, and what it is not for."""

import dagster as dg

from definemed_pipeline.defs.corpus.finemed_de import finemed_de
from definemed_pipeline.defs.evaluation.benchmark_scores import benchmark_scores
from definemed_pipeline.defs.evaluation.failure_modes import failure_modes
from definemed_pipeline.defs.evaluation.win_rates import win_rates
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result, warning
from definemed_pipeline.defs.models.base_models import base_models
from definemed_pipeline.defs.models.merged_models import merged_models
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.evaluation.cards import UNKNOWN, write_card
from definemed_pipeline.evaluation.complete_card import gaps_of
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().model_cards


@dg.asset(
    group_name="evaluation",
    kinds={"markdown", "huggingface"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[finemed_de, base_models, merged_models, benchmark_scores, win_rates, failure_modes],
    code_version=code_version("4", SECTION),
    check_specs=[
        *blocking("model_cards", complete="The Hub reads the card, and it says all that a user of the weights must be told."),
        *warning("model_cards", licence_known="The recipe names the licence of the base model."),
    ],
)
def model_cards(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """A Hugging Face model card for the merged model, every number read from the artifacts behind it."""
    own = [lake.artifact(asset, context.partition_key) for asset in ("base_models", "merged_models", "benchmark_scores")]
    shared = [lake.artifact(asset) for asset in ("finemed_de", "win_rates", "failure_modes")]
    manifest = build_here(context, lake, write_card, section=SECTION, inputs=[*own, *shared])
    card = (lake.store.folder(manifest) / "README.md").read_text("utf-8")
    gaps, licence = gaps_of(card), SECTION.licenses.get(context.partition_key, UNKNOWN)
    return result(
        context,
        lake,
        manifest,
        plots={"card": card},
        checks=[
            check("complete", not gaps, gaps=gaps),
            check("licence_known", licence != UNKNOWN, warns=True, licence=licence),
        ],
    )

"""Asset `annotations`: a sample of the web, labelled by the recipe's annotator and measured against gold labels."""

import dagster as dg

from definemed_pipeline.corpus.annotations import annotate, annotator_sources
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().annotations


@dg.asset(
    group_name="corpus",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    deps=[fineweb2_shards],
    code_version=code_version("1", SECTION),
    check_specs=blocking("annotations", both_labels="The sample holds documents of both labels, or nothing can be learnt."),
)
def annotations(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """A random sample of documents labelled medical or not (the paper: 260,000, by Mixtral-8x7B zero-shot).

    Documents with gold labels are set apart: they measure the annotator and the classifier and train neither.
    """
    manifest = build_here(
        context,
        lake,
        annotate,
        section=SECTION,
        inputs=lake.artifacts("fineweb2_shards", lake.shards()),
        sources=lake.sources({**annotator_files(), "gold": SECTION.gold}),
    )
    sampled, positive_share = manifest.metrics["sample_documents"], manifest.metrics["prevalence"]
    agreement = {name: manifest.metrics[name] for name in ("precision", "recall", "f1") if manifest.metrics.get(name) is not None}
    pictures = {}
    if agreement:
        intervals = {name: (manifest.metrics[f"{name}_low"], manifest.metrics[f"{name}_high"]) for name in agreement}
        pictures["agreement_with_gold"] = plots.bars(agreement, label="annotator against gold labels", intervals=intervals)
    return result(
        context,
        lake,
        manifest,
        table="annotations.parquet",
        plots=pictures,
        checks=[check("both_labels", 0 < positive_share < 1, positive_share=positive_share, sampled=sampled)],
    )


def annotator_files() -> dict[str, str]:
    """Return the lexicon or the prompt the recipe's annotator works from."""
    with final_failures():
        return annotator_sources(SECTION.annotator)

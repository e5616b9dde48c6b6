"""Asset `annotations`: samples of the web, labelled by the recipe's annotator and measured against gold labels."""

import dagster as dg

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.corpus.annotation.annotations import annotate, annotator_sources
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
from definemed_pipeline.defs.corpus.sampling_frames import sampling_frames
from definemed_pipeline.defs.materialization import HUB, OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.intervals import wilson
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().annotations
CHECKS = active_recipe().checks


@dg.asset(
    group_name="corpus",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    pool=HUB,
    deps=[fineweb2_shards, sampling_frames],
    code_version=code_version("2", SECTION),
    check_specs=blocking(
        "annotations",
        both_labels="The sample holds documents of both labels, or nothing can be learnt.",
        annotator_f1="The annotator's F1 on gold labels reaches the recipe's floor; it holds where there are none.",
    ),
)
def annotations(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Documents labelled medical or not (the paper: 260,000, by Mixtral-8x7B zero-shot), in samples that share none.

    `sample` is stratified by dump and a cheap score, so that rare medicine is seen, and trains the classifier; `hold_out` is purely
    random and nothing is tuned on it; `gold` measures the annotator. A further random sample stays unlabelled, for the certificate.
    """
    locations = lake.shards()
    manifest = build_here(
        context,
        lake,
        annotate,
        section=SECTION,
        inputs=[*lake.artifacts("fineweb2_shards", locations), *lake.artifacts("sampling_frames", locations)],
        sources=lake.sources({**annotator_files(), "gold": SECTION.gold}),
    )
    sampled, positives = manifest.metrics["sample_documents"], manifest.metrics["sample_positives"]
    f1 = manifest.metrics.get("f1")
    return result(
        context,
        lake,
        manifest,
        table="annotations.parquet",
        plots=_pictures(manifest),
        checks=[
            check("both_labels", 0 < positives < sampled, positives=positives, sampled=sampled),
            check("annotator_f1", f1 is None or f1 >= CHECKS.annotator_f1, found=f1, floor=CHECKS.annotator_f1),
        ],
    )


def annotator_files() -> dict[str, str]:
    """Return the lexicon or the prompt the recipe's annotator works from."""
    with final_failures():
        return annotator_sources(SECTION.annotator)


def _pictures(manifest: Manifest) -> dict[str, str]:
    """Draw the sample per score bin, and the annotator against gold where there is any."""
    shares, intervals = {}, {}
    for found in manifest.metrics["score_bins"]:
        label = f"{found['score_bin']}: {found['documents']:,} of {found['population']:,}"
        share = wilson(found["positives"], found["documents"])
        shares[label], intervals[label] = share.value, (share.low, share.high)
    pictures = {
        "sample_by_score_bin": plots.bars(shares, label="labelled positive, per score bin (sampled of all)", intervals=intervals)
    }
    agreement = {name: manifest.metrics[name] for name in ("precision", "recall", "f1") if manifest.metrics.get(name) is not None}
    if agreement:
        bounds = {name: (manifest.metrics[f"{name}_low"], manifest.metrics[f"{name}_high"]) for name in agreement}
        pictures["agreement_with_gold"] = plots.bars(agreement, label="annotator against gold labels", intervals=bounds)
    return pictures

"""Asset `cpt_corpus`: FineMed-de in a base model's own tokens, and what is held out of it."""

import dagster as dg
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.finemed_de import finemed_de
from definemed_pipeline.defs.materialization import (
    OWNERS,
    RETRIES,
    blocking,
    build_in_payload,
    check,
    code_version,
    result,
    warning,
)
from definemed_pipeline.defs.models.base_models import base_models
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().cpt_corpus


@dg.asset(
    group_name="models",
    kinds={"huggingface", "numpy"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, finemed_de],
    code_version=code_version("2", SECTION),
    retry_policy=RETRIES,  # general documents may be out of reach for a while
    check_specs=[
        *blocking(
            "cpt_corpus",
            no_document_lost="Every document of the corpus is trained on or held out.",
            no_token_lost="The blocks hold every token of their documents.",
        ),
        *warning(
            "cpt_corpus", enough_general_documents="There are as many general documents as the recipe holds out and replays."
        ),
    ],
)
def cpt_corpus(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """FineMed-de tokenised and packed into blocks of one length; documents in a block never see each other in training.

    A share of it is held out and never trained on, beside as much general text; by recipe general text is replayed against forgetting.
    """
    corpus = lake.artifact("finemed_de")
    with final_failures():
        general_files = SECTION.sources()
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.training.cpt_corpus",
        section=SECTION,
        inputs=[lake.artifact("base_models", context.partition_key), corpus],
        sources=lake.sources(general_files),
    )
    found = manifest.metrics
    divided, tokens, packed = (
        found["train_documents"] + found["held_out_corpus_documents"],
        found["tokens"],
        found["packed_tokens"],
    )
    lacking, replayed = found["general_lacking_tokens"], found["replay_share"]
    return result(
        context,
        lake,
        manifest,
        table="train/segments.parquet",
        plots=_pictures(lake, manifest),
        checks=[
            check("no_document_lost", divided == corpus.metrics["kept"], divided=divided, documents=corpus.metrics["kept"]),
            check("no_token_lost", tokens == packed, tokens=tokens, packed_tokens=packed),
            check("enough_general_documents", not lacking, warns=True, lacking_tokens=lacking, replay_share=replayed),
        ],
    )


def _pictures(lake: Lake, manifest: Manifest) -> dict[str, str]:
    """Draw what the tokens are for, and how long the documents are that are trained on."""
    found = manifest.metrics
    roles = ("train", "replay", "held_out_corpus", "held_out_general")
    tokens = {role.replace("_", " "): found[f"{role}_tokens"] for role in roles}
    return {
        "tokens_by_role": plots.bars({**tokens, "padding": found["padding"]}, label="tokens", logarithmic=True),
        "document_lengths": plots.columns(_documents_by_length(lake, manifest), label="documents trained on, by tokens"),
    }


def _documents_by_length(lake: Lake, manifest: Manifest) -> dict[str, int]:
    """Count the documents that are trained on by their tokens, from one power of two to the next."""
    segments = pl.scan_parquet(lake.store.folder(manifest) / "train" / "segments.parquet")
    is_last = pl.col("document_start").shift(-1, fill_value=0) == 0
    lengths = segments.filter(is_last).select(power=(pl.col("document_start") + pl.col("tokens")).log(2).floor().cast(pl.Int64))
    counts = dict(lengths.group_by("power").len().collect().iter_rows())
    return {f"{1 << power:,}–{(2 << power) - 1:,}": counts.get(power, 0) for power in range(min(counts), max(counts) + 1)}

"""Asset `cpt_corpus`: FineMed-de in a base model's own tokens."""

import dagster as dg

from definemed_pipeline.defs.corpus.finemed_de import finemed_de
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.models.base_models import base_models
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe
from definemed_pipeline.training.packing import pack_corpus

SECTION = active_recipe().cpt_corpus


@dg.asset(
    group_name="models",
    kinds={"huggingface", "numpy"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, finemed_de],
    code_version=code_version("1", SECTION),
    check_specs=blocking("cpt_corpus", no_token_lost="The blocks hold every token of the corpus."),
)
def cpt_corpus(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """FineMed-de tokenised and packed into blocks of one length; documents in a block never see each other in training."""
    manifest = build_here(
        context,
        lake,
        pack_corpus,
        section=SECTION,
        inputs=[lake.artifact("base_models", context.partition_key), lake.artifact("finemed_de")],
    )
    tokens, packed = manifest.metrics["tokens"], manifest.metrics["packed_tokens"]
    return result(context, lake, manifest, checks=[check("no_token_lost", tokens == packed, tokens=tokens, packed_tokens=packed)])

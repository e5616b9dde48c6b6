"""Asset `base_models`: the instruction-tuned models everything starts from."""

import dagster as dg

from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs.materialization import (
    OWNERS,
    RETRIES,
    blocking,
    build_in_payload,
    check,
    code_version,
    result,
)
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe
from definemed_pipeline.training.settings import BaseModelSettings

SECTION = active_recipe().base_models


@dg.asset(
    group_name="models",
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    partitions_def=base_model,
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("base_models", loadable="The model loads from safetensors alone, with remote code off."),
)
def base_models(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """An instruct model with its tokenizer and chat template: from the Hub at a pinned revision, a folder, or trained small here."""
    section = SECTION[context.partition_key]
    manifest = build_in_payload(
        context,
        lake,
        compute,
        PAYLOADS[section.kind],
        section=section,
        inputs=[],
        sources=lake.sources(_files_of(section)),
    )
    parameters = manifest.metrics["parameters"]
    return result(context, lake, manifest, checks=[check("loadable", parameters > 0, parameters=parameters)])


def _files_of(section: BaseModelSettings) -> dict[str, str]:
    with final_failures():
        return section.sources()


PAYLOADS = {
    "pretrain": "definemed_pipeline.training.pretrain",
    "hub": "definemed_pipeline.training.provide_base_model",
    "folder": "definemed_pipeline.training.provide_base_model",
}

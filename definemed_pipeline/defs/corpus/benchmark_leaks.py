"""Asset `benchmark_leaks`: which medical documents of a shard quote the evaluation."""

import dataclasses

import dagster as dg

from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.corpus.settings import QuestionColumns
from definemed_pipeline.defs.corpus.medical_documents import medical_documents
from definemed_pipeline.defs.materialization import (
    OWNERS,
    SHARDS_PER_RUN,
    blocking,
    build_partitions_in_payload,
    check,
    code_version,
    partitions_result,
)
from definemed_pipeline.defs.partitions import fineweb2_shard
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe


def question_columns() -> dict[str, QuestionColumns]:
    """Return where the questions of benchmarks stand whose files are not laid out as usual, by source."""
    found = {}
    for source, columns in active_recipe().benchmark_scores.columns().items():
        choices = (columns.choices,) if isinstance(columns.choices, str) else columns.choices
        found[source] = QuestionColumns(id=columns.id, texts=(columns.question, *choices))
    return found


SECTION = dataclasses.replace(active_recipe().benchmark_leaks, columns=question_columns())


@dg.asset(
    group_name="corpus",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    partitions_def=fineweb2_shard,
    backfill_policy=SHARDS_PER_RUN,
    deps=[medical_documents],
    code_version=code_version("1", SECTION),
    check_specs=blocking(
        "benchmark_leaks", every_document="Every medical document of the shard was compared with the questions."
    ),
)
def benchmark_leaks(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """The pairs of medical document and evaluation question where the document quotes the question, by runs of words.

    Every benchmark and instruction set of the recipe is looked for. Another one makes this asset read the documents again and nothing before it.
    """
    documents = {key: lake.artifact("medical_documents", key) for key in context.partition_keys}
    questions = lake.sources(evaluation_sources())
    manifests = build_partitions_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.assembly.benchmark_leaks",
        section=SECTION,
        inputs=lambda key: [documents[key]],
        sources=lambda _: questions,
    )
    wrong = [key for key, one in manifests.items() if one.metrics["documents"] != documents[key].metrics["medical_documents"]]
    return partitions_result(
        context,
        lake,
        manifests,
        table="leaks.parquet",
        checks=[check("every_document", not wrong, shards=len(manifests), wrong_shards=wrong)],
    )


def evaluation_sources() -> dict[str, str | None]:
    """Return every file of questions and instructions the models will be tested on: none of it may be in the corpus."""
    return {**active_recipe().benchmark_scores.sources(), **active_recipe().responses.sources()}

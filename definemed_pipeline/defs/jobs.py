"""Jobs: the corpus, the models with their evaluation, and everything.

An asset job of Dagster takes one partitions definition, and the graph has two with unpartitioned assets between them. So each job here
requests the backfill that "Materialize all" requests in the UI: the daemon then starts the runs, parents first, within the instance's
limits, and the backfill's page shows and cancels them. Artifacts that are complete are reused, so asking for everything costs little.
"""

import time

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill  # what the webserver itself uses; there is no public way yet

from definemed_pipeline.defs.partitions import fineweb2_shard
from definemed_pipeline.defs.resources import Lake

CORPUS = dg.AssetSelection.groups("corpus")
MODELS = dg.AssetSelection.groups("models", "evaluation")


def backfill_job(name: str, selection: dg.AssetSelection, description: str) -> dg.JobDefinition:
    """Return a job that registers the source's files as partitions and requests a backfill of a selection over all partitions."""

    @dg.op(name=f"request_{name}", description=description)
    def request(context: dg.OpExecutionContext, lake: Lake) -> None:
        context.instance.add_dynamic_partitions(fineweb2_shard.name or "", list(lake.shards(watching=True)))
        graph = context.repository_def.asset_graph
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=context.run_id[:8],
            asset_graph=graph,
            partition_names=None,
            asset_selection=sorted(selection.resolve(graph)),
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=context.instance,
            all_partitions=True,
            title=f"{name}: all partitions",
            description=description,
            run_config=None,
        )
        context.instance.add_backfill(backfill)
        context.log.info(f"requested backfill {backfill.backfill_id}; follow it under Runs > Backfills")

    @dg.job(name=name, description=description)
    def job() -> None:
        request()

    return job


corpus_job = backfill_job("corpus", CORPUS, "From the source's files to FineMed-de.")
models_job = backfill_job("models", MODELS, "From base models and FineMed-de to model cards.")
# What a refresh is made of: each a plain asset job, since its assets have the same partitions.
list_source = dg.define_asset_job("list_source", dg.AssetSelection.assets("source_files"), description="Lists the source anew.")
refresh_shards = dg.define_asset_job(
    "refresh_shards",
    dg.AssetSelection.assets("fineweb2_shards", "classifier_scores", "medical_documents", "benchmark_leaks"),
    description="Brings some shards up to their medical documents, with the classifier there is.",
)
assemble_corpus_job = dg.define_asset_job(
    "assemble_corpus", dg.AssetSelection.assets("finemed_de"), description="Builds FineMed-de from all shards."
)
everything_job = backfill_job("everything", CORPUS | MODELS, "The whole graph.")

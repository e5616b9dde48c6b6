"""The one place where assets, resources and automation meet; what `workspace.yaml` loads."""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from definemed_pipeline import defs as graph
from definemed_pipeline.compute.backends import compute_for
from definemed_pipeline.defs.jobs import assemble_corpus_job, corpus_job, everything_job, list_source, models_job, refresh_shards
from definemed_pipeline.defs.resources import lake_from_environment
from definemed_pipeline.defs.schedules import weekly_refresh
from definemed_pipeline.defs.sensors import corpus_refresh, fineweb2_shard_discovery, orphaned_jobs
from definemed_pipeline.recipe import active_recipe


def build_definitions(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the definitions of the active recipe; tests replace resources here and nowhere else."""
    os.environ.update(active_recipe().source.environment())  # read by whatever opens a shard, payloads included
    on_kubernetes = active_recipe().compute.backend == "kubernetes"
    return dg.Definitions(
        assets=dg.load_assets_from_package_module(graph),
        jobs=[corpus_job, models_job, everything_job, list_source, refresh_shards, assemble_corpus_job],
        schedules=[weekly_refresh],
        sensors=[fineweb2_shard_discovery, corpus_refresh, *([orphaned_jobs] if on_kubernetes else [])],
        executor=dg.in_process_executor,  # the heavy steps have processes of their own, the others would pay an import each
        resources={
            "lake": lake_from_environment(),
            "compute": compute_for(active_recipe().compute),
            **(resource_overrides or {}),
        },
    )


defs = build_definitions()

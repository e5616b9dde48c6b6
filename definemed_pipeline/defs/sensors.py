"""Sensors: find the source's files, so that every one of them is a partition before anybody asks for it."""

import dagster as dg

from definemed_pipeline.defs.partitions import fineweb2_shard
from definemed_pipeline.defs.resources import Lake


@dg.sensor(
    name="fineweb2_shard_discovery",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers each file of the recipe's source as a partition. Starts no run.",
)
def fineweb2_shard_discovery(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Register files that are not partitions yet; say so when there are none."""
    known = set(context.instance.get_dynamic_partitions(fineweb2_shard.name or ""))
    new = [partition for partition in lake.shards(watching=True) if partition not in known]
    if not new:
        return dg.SkipReason(f"all {len(known)} files of the source are registered")
    return dg.SensorResult(dynamic_partitions_requests=[fineweb2_shard.build_add_request(new)])

"""The two ways the graph is cut: by source file for the corpus, by base model for the models."""

import itertools
from collections.abc import Sequence

import dagster as dg

from definemed_pipeline.recipe import active_recipe

# Registered by `definemed run` and by the discovery sensor, one partition a source file.
fineweb2_shard = dg.DynamicPartitionsDefinition(name="fineweb2_shard")
base_model = dg.StaticPartitionsDefinition(list(active_recipe().base_models))


def neighbours(keys: Sequence[str], registered: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """Divide shards into runs of at most `most` that stand next to each other among the registered ones.

    Dagster knows a run of several partitions by the first and the last of them, so no run may reach over a shard it is not to take.
    """
    runs: list[tuple[str, ...]] = []
    wanted = set(keys)
    for is_wanted, group in itertools.groupby(registered, wanted.__contains__):
        if is_wanted:
            stretch = list(group)
            runs += [tuple(stretch[start : start + most]) for start in range(0, len(stretch), most)]
    return runs


def range_tags(partitions: Sequence[str]) -> dict[str, str]:
    """Return the tags by which Dagster knows the partitions of a run; none for an unpartitioned one."""
    if not partitions:
        return {}
    return {"dagster/asset_partition_range_start": partitions[0], "dagster/asset_partition_range_end": partitions[-1]}

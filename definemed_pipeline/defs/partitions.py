"""The two ways the graph is cut: by source file for the corpus, by base model for the models."""

import dagster as dg

from definemed_pipeline.recipe import active_recipe

# Registered by `definemed run` and by the discovery sensor, one partition a source file.
fineweb2_shard = dg.DynamicPartitionsDefinition(name="fineweb2_shard")
base_model = dg.StaticPartitionsDefinition(list(active_recipe().base_models))

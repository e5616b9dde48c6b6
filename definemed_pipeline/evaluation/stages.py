"""The three stages of a base model and where their weights lie; how tables of results are written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft

STAGE_ASSETS = {"base": "base_models", "cpt": "cpt_checkpoints", "merged": "merged_models"}
STAGES = tuple(STAGE_ASSETS)
# What a stage is compared with: what training gained, what the merge ends with, what the merge changed.
STAGE_PAIRS = (("base", "cpt"), ("base", "merged"), ("cpt", "merged"))


def model_folder(draft: Draft[Any], stage: str) -> Path:
    """Return the folder with the weights and tokenizer of a stage of the draft's base model."""
    return draft.input(STAGE_ASSETS[stage], draft.identity.partition) / "model"


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet file, the same bytes for the same table."""
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", compression_level=3)

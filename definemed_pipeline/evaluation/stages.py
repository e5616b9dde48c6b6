"""The three stages of a base model and where their weights lie; tables of results kept per stage until all are done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.files import written_whole

STAGE_ASSETS = {"base": "base_models", "cpt": "cpt_checkpoints", "merged": "merged_models"}
STAGES = tuple(STAGE_ASSETS)
# What a stage is compared with: what training gained, what the merge ends with, what the merge changed.
STAGE_PAIRS = (("base", "cpt"), ("base", "merged"), ("cpt", "merged"))


def model_folder(draft: Draft[Any], stage: str) -> Path:
    """Return the folder with the weights and tokenizer of a stage of the draft's base model."""
    return draft.input(STAGE_ASSETS[stage], draft.identity.partition) / "model"


def table_of_stages(draft: Draft[Any], measure: Callable[[str], pa.Table]) -> pa.Table:
    """Measure every stage and return their tables as one; stages finished before a kill are read back, not measured again."""
    tables = []
    for stage in STAGES:
        kept = draft.checkpoints / f"{stage}.parquet"
        if not kept.exists():
            with written_whole(kept) as unfinished:
                pq.write_table(measure(stage), unfinished)
        tables.append(pq.read_table(kept))
    return pa.concat_tables(tables)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet file, the same bytes for the same table."""
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", compression_level=3)

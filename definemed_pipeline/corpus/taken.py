"""The documents that the classifier took, copied out of the shards to local files: one to two percent of the web, read several times.

The copies live in a draft's checkpoints: a shard that was copied whole is not copied again after a kill.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA, Shard

SCORE_COLUMNS = ("medical_probability", "decided_by")


@dataclass(frozen=True)
class Taken:
    """Local files of taken documents, one per shard; a document's number is its position over all of them."""

    files: tuple[Path, ...]

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the documents in order of their number, `document`, a row group at a time."""
        for path, start in zip(self.files, self._starts(), strict=True):
            position = start
            with pq.ParquetFile(path) as parquet:
                for group in range(parquet.num_row_groups):
                    frame = pl.DataFrame(pl.from_arrow(parquet.read_row_group(group)))
                    yield frame.with_row_index("document", position)
                    position += frame.height

    def rows(self, documents: pl.Series, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the documents of these numbers with `document` and `columns` (None: all columns of all shards, null where a shard lacks one)."""
        wanted = pl.col("document").is_in(documents.implode())
        parts = []
        for path, start in zip(self.files, self._starts(), strict=True):
            found = pl.scan_parquet(path, row_index_name="document", row_index_offset=start).filter(wanted)
            parts.append(found if columns is None else found.select("document", *columns))
        return pl.concat([part.collect() for part in parts], how="diagonal_relaxed")

    def _starts(self) -> list[int]:
        heights = [pq.read_metadata(path).num_rows for path in self.files]
        return [sum(heights[:index]) for index in range(len(heights))]


def take(shard: Shard, scores: Path, folder: Path) -> Path:
    """Copy the documents of a shard that its scores call medical, with the scores, `shard`, `row` and `words`; return the file.

    Raise ValueError where the scores are not this shard's.
    """
    path = folder / f"{shard.name}.parquet"
    if path.exists():
        return path
    if pl.scan_parquet(scores).select(pl.len()).collect().item() != shard.record.documents:
        raise ValueError(f"{scores} does not score shard {shard.name}: it has another number of documents")
    taken = pl.scan_parquet(scores).filter("is_medical").select("row", *SCORE_COLUMNS, pl.col("id").alias("scored_id")).collect()
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    _write(shard, taken, partial)
    os.replace(partial, path)
    return path


def _write(shard: Shard, taken: pl.DataFrame, path: Path) -> None:
    columns = [*FINEWEB2_SCHEMA, *shard.extra_columns]
    writer = None
    for frame in shard.row_groups(columns):
        found = frame.join(taken, on="row", how="inner", maintain_order="left")
        if not found["id"].equals(found["scored_id"]):
            raise ValueError(f"the scores of shard {shard.name} are of other documents")
        table = (
            found.drop("scored_id")
            .with_columns(shard=pl.lit(shard.name), words=pl.col("text").str.count_matches(r"\S+").cast(pl.Int64))
            .to_arrow()
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is None:  # a shard without a row group
        no_texts = pl.DataFrame(schema=FINEWEB2_SCHEMA).with_columns(shard=pl.lit(None, pl.String), words=pl.lit(None, pl.Int64))
        pl.concat([taken.drop("scored_id").clear(), no_texts], how="horizontal").write_parquet(path)
    else:
        writer.close()

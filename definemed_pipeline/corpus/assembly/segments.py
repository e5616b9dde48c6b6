"""The index over all medical documents: a segment a shard, written once and never touched again.

    documents.parquet    a shard's medical documents, whole, sorted by id
    signatures.parquet   of the same documents in the same order: what the rules ask for, a digest of all words, and a hash per MinHash band

The index is the set of its segments: a new shard adds one, and nothing depends on the order in which they came. Over all segments, in the
order of their names, a document's position is its *number*. Columns are read one at a time as arrays over the numbers, texts a row
group at a time: so an index of millions of documents takes a few bytes of memory for each.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from definemed_pipeline.corpus.assembly.minhash import signatures
from definemed_pipeline.corpus.parquet import ParquetStream
from definemed_pipeline.corpus.settings import MedicalDocumentsSettings
from definemed_pipeline.corpus.text import word_hashes

DOCUMENTS, SIGNATURES = "documents.parquet", "signatures.parquet"
# Few rows a group: the corpus is merged with a row group of every shard in memory, and single texts are read to verify duplicates.
ROWS_PER_GROUP = 256
HASHED_AT_ONCE = 2_000
INDEXED = {"id": pl.String, "row": pl.Int64, "language_score": pl.Float64, "words": pl.Int64}
Numbers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def write_segment(frames: Iterable[pl.DataFrame], schema: pl.Schema, folder: Path, settings: MedicalDocumentsSettings) -> int:
    """Write a segment from frames that are sorted by id, one after the other; return its number of documents."""
    written = 0
    empty = _signed(pl.DataFrame(schema=schema), settings)
    with (
        ParquetStream(folder / DOCUMENTS, schema, ROWS_PER_GROUP) as documents,
        ParquetStream(folder / SIGNATURES, empty.schema) as signed,
    ):
        for frame in frames:
            documents.write(frame)
            signed.write(pl.concat([empty, *(_signed(part, settings) for part in frame.iter_slices(HASHED_AT_ONCE))]))
            written += frame.height
    return written


def _signed(documents: pl.DataFrame, settings: MedicalDocumentsSettings) -> pl.DataFrame:
    return documents.select(*INDEXED).hstack(signatures(word_hashes(documents["text"]), settings))


@dataclass(frozen=True)
class Segments:
    """The segments in `folders`, which belong to the shards `names`."""

    names: tuple[str, ...]
    folders: tuple[Path, ...]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Numbers:
        """The number of each segment's first document, and behind them the number of all documents."""
        return np.cumsum([0, *(pq.read_metadata(folder / SIGNATURES).num_rows for folder in self.folders)])

    def of(self, index: int) -> slice:
        """Return the numbers of one segment's documents."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def owners(self, numbers: Numbers) -> Numbers:
        """Return the segment each document stands in."""
        return np.searchsorted(self.starts, numbers, side="right") - 1

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of numbers over all documents."""
        parts = [pl.read_parquet(folder / SIGNATURES, columns=[name])[name].to_numpy() for folder in self.folders]
        return np.concatenate(parts) if parts else np.empty(0)

    def id_ranks(self) -> npt.NDArray[np.uint32]:
        """Return each document's place in the order of all ids; documents of one id share a place."""
        return self._ids().rank("dense").cast(pl.UInt32).to_numpy()

    def _ids(self) -> pl.Series:
        parts = [pl.read_parquet(folder / SIGNATURES, columns=["id"])["id"] for folder in self.folders]
        return pl.concat([pl.Series("id", dtype=pl.String), *parts])

    def ids(self, numbers: Numbers) -> pl.Series:
        """Return the ids of some documents, whose numbers ascend."""
        cuts = np.searchsorted(numbers, self.starts)
        parts = [
            pl.read_parquet(folder / SIGNATURES, columns=["id"])["id"].gather(numbers[low:high] - start)
            for folder, start, low, high in zip(self.folders, self.starts, cuts, cuts[1:], strict=False)
            if low < high
        ]
        return pl.concat([pl.Series("id", dtype=pl.String), *parts])

    def find(self, ids: pl.Series) -> pl.DataFrame:
        """Return `id`, `number` of the documents that have one of some ids."""
        parts = [
            pl.scan_parquet(folder / SIGNATURES, row_index_name="number", row_index_offset=int(start))
            .select("id", pl.col("number").cast(pl.Int64))
            .filter(pl.col("id").is_in(ids.implode()))
            .collect()
            for folder, start in zip(self.folders, self.starts, strict=False)
        ]
        return pl.concat([pl.DataFrame(schema={"id": pl.String, "number": pl.Int64}), *parts])

    def texts(self, wanted: Bools) -> Iterator[tuple[Numbers, pl.Series]]:
        """Yield numbers and texts of the documents that `wanted` is true for, by number, a row group at a time."""
        for index, folder in enumerate(self.folders):
            start = int(self.starts[index])
            for position, frame in read_rows(folder / DOCUMENTS, wanted[self.of(index)], ["text"]):
                yield start + position, frame["text"]


def read_rows(path: Path, wanted: Bools, columns: list[str] | None = None) -> Iterator[tuple[Numbers, pl.DataFrame]]:
    """Yield the wanted rows of a file and their positions, a row group at a time; row groups without any are not read.

    The file is open only while it is read, so that any number of files may be read side by side.
    """
    metadata = pq.read_metadata(path)
    bounds = np.cumsum([0, *(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))])
    del metadata
    for group, (low, high) in enumerate(itertools.pairwise(bounds)):
        chosen = np.flatnonzero(wanted[low:high])
        if len(chosen):
            with pq.ParquetFile(path) as file:
                table = file.read_row_group(group, columns=columns)
            yield low + chosen, pl.DataFrame(pl.from_arrow(table))[chosen]

"""The web's documents as shards: FineWeb2-shaped parquet files that stay where they are and are read row group by row group.

How a shard is registered stands in `register`; what is decided about documents belongs elsewhere.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.sources.files import SHARD
from definemed_pipeline.corpus.sources.opening import open_file
from definemed_pipeline.errors import UserError, one_line

ASSET = "fineweb2_shards"
EXTRACTED = "documents.parquet"  # of the artifact, where the source's own file is no parquet
CURE = "correct the file or leave it out of source.files"
LOG = logging.getLogger(__name__)
FINEWEB2_SCHEMA: dict[str, type[pl.DataType]] = {
    "text": pl.String,
    "id": pl.String,
    "dump": pl.String,
    "url": pl.String,
    "date": pl.String,
    "file_path": pl.String,
    "language": pl.String,
    "language_score": pl.Float64,
    "language_script": pl.String,
    "minhash_cluster_size": pl.Int64,
    "top_langs": pl.String,
}


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What registering learnt about a file: enough to know it again and to plan reading it. Written to `shard.json`.

    The file's location is not part of it: it stands in the manifest's source, so that moving a file changes no digest.
    """

    digest: str
    footer_sha256: str
    bytes: int
    documents: int
    row_groups: int
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A registered shard: `name` is its partition key, `location` the path or URL of its file.

    `scratch` is where a copy of a remote file is kept while it is read, `report` where it is told that one is fetched.
    """

    name: str
    location: str
    record: ShardRecord
    scratch: Path
    report: Callable[[str], None] = LOG.info

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns of this file beyond FineWeb2's."""
        return tuple(column for column in self.record.columns if column not in FINEWEB2_SCHEMA)

    def row_groups(self, columns: Sequence[str], *, start: int = 0) -> Iterator[pl.DataFrame]:
        """Yield the row groups from number `start` on, one in memory at a time: `row` (i64 position in the shard) and `columns`.

        A FineWeb2 column that the file lacks is null. Raise UserError where the file is gone, was changed since it was
        registered, or cannot be read.
        """
        with self._open() as parquet:
            row = sum(parquet.metadata.row_group(group).num_rows for group in range(start))
            for group in range(start, parquet.num_row_groups):
                frame = _numbered(_read_row_group(parquet, group, columns), row, columns)
                yield frame
                row += frame.height

    def rows(self, rows: pl.Series, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the documents at these positions in their order, as `row_groups` does, reading only row groups that hold any."""
        wanted = rows.cast(pl.Int64).unique().sort()
        with self._open() as parquet:
            row = 0
            for group in range(parquet.num_row_groups):
                end = row + parquet.metadata.row_group(group).num_rows
                here = wanted.filter((wanted >= row) & (wanted < end))
                if here.len():
                    chosen = _read_row_group(parquet, group, columns, only=here - row)
                    yield chosen.with_columns(row=here).select("row", *columns)
                row = end

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        """Open the file for reading; raise UserError where it is not the one that was registered."""
        record = self.record
        with (
            reading(self.location),
            open_file(self.location, record.digest, size=record.bytes, scratch=self.scratch, report=self.report) as file,
        ):
            if footer_digest(file) != record.footer_sha256:
                raise UserError(f"{self.location} was changed since it was registered: materialize {ASSET}[{self.name}] again")
            yield pq.ParquetFile(file, page_checksum_verification=True)  # only some writers leave checksums; verifying is quick


def open_shard(draft: Draft[Any], name: str) -> Shard:
    """Return the shard that is an input of a draft, for example `open_shard(draft, "000_00000")`."""
    folder = draft.input(ASSET, name)
    record = json.loads((folder / "shard.json").read_text("utf-8"))
    source = draft.input_manifest(ASSET, name).identity.source(SHARD)
    extracted = folder / EXTRACTED
    return Shard(
        name=name,
        location=str(extracted) if extracted.exists() else source.location,
        record=ShardRecord(**{**record, "columns": tuple(record["columns"])}),
        scratch=draft.store.scratch,
        report=draft.report,
    )


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Turn the faults of a file that cannot be read into one line with the cure."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"there is no file {location}; put it back, or correct source.files and materialize {ASSET} with --force"
        ) from error
    except PermissionError as error:
        raise UserError(f"{location} cannot be read: {one_line(error)}; correct its permissions or your credentials") from error
    except (ConnectionError, TimeoutError):  # worth another try
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last from names in the footer
        raise UserError(
            f"{location} cannot be read as parquet ({one_line(error)}): it is truncated or damaged; fetch it again"
        ) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UserError(f"{location} holds what does not fit ({one_line(error)}); {CURE}") from error


def footer_digest(file: IO[bytes]) -> str:
    """Digest a parquet file's footer: schema, sizes, offsets and statistics of all its columns, so any rewriting shows.

    The last 8 bytes of a parquet file are the footer's length (little endian) and the magic `PAR1`.
    """
    size = file.seek(0, 2)
    file.seek(max(size - 8, 0))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little") + 8
    if tail[4:] == b"PARE":
        raise pa.ArrowInvalid("its footer is encrypted")
    if tail[4:] != b"PAR1" or length > size:
        raise pa.ArrowInvalid("no parquet footer at its end")
    file.seek(size - length)
    digest = hashlib.sha256(file.read(length)).hexdigest()
    file.seek(0)
    return digest


def _read_row_group(parquet: pq.ParquetFile, group: int, columns: Sequence[str], only: pl.Series | None = None) -> pl.DataFrame:
    """Read columns of a row group, `only` some of its rows; raise pyarrow's or polars' errors where it is damaged.

    What is no UTF-8 is found here, since nobody looks later: the strings of polars are UTF-8 by assumption, and its behaviour is undefined
    where they are not.
    """
    present = set(parquet.schema_arrow.names)
    table = parquet.read_row_group(group, columns=[column for column in columns if column in present])
    rows = parquet.metadata.row_group(group).num_rows
    table.validate(full=True)
    if table.num_columns and table.num_rows != rows:
        raise pa.ArrowInvalid(f"row group {group} has {table.num_rows} rows, not {rows}")
    if only is not None:  # chosen here, where they are copied: rows chosen from a frame of polars hold on to all the group's text
        table, rows = table.take(only.to_arrow()), only.len()
    frame = pl.DataFrame(pl.from_arrow(table)) if table.num_columns else pl.DataFrame(height=rows)
    known = [column for column in columns if column in FINEWEB2_SCHEMA]
    return frame.with_columns(
        (pl.col(column) if column in present else pl.lit(None)).cast(FINEWEB2_SCHEMA[column]).alias(column) for column in known
    )


def _numbered(frame: pl.DataFrame, first: int, columns: Sequence[str]) -> pl.DataFrame:
    """Put each row's position in the shard before the columns."""
    return frame.with_columns(row=pl.int_range(first, first + frame.height, dtype=pl.Int64)).select("row", *columns)

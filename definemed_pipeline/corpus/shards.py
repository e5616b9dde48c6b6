"""The web's documents as shards: FineWeb2-shaped parquet files that stay where they are and are read row group by row group.

Registering a shard proves that its file is whole and profiles it. What is decided about documents belongs elsewhere.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.corpus.settings import SourceSettings
from definemed_pipeline.errors import UserError

ASSET = "fineweb2_shards"
REQUIRED_COLUMNS = ("text", "id")
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
# What the pipeline adds to a document's row; a file that already has such a column would have it overwritten.
ADDED_COLUMNS = ("row", "shard", "words", "medical_probability", "decided_by")


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
    """A registered shard: `name` is its partition key, `location` the path or URL of its file."""

    name: str
    location: str
    record: ShardRecord

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns of this file beyond FineWeb2's."""
        return tuple(column for column in self.record.columns if column not in FINEWEB2_SCHEMA)

    def row_groups(self, columns: Sequence[str], *, start: int = 0) -> Iterator[pl.DataFrame]:
        """Yield the row groups from number `start` on, one in memory at a time: `row` (i64 position in the shard) and `columns`.

        A FineWeb2 column that the file lacks is null. Raise UserError where the file is gone, was changed since it was
        registered, or cannot be read.
        """
        with _reading(self.location), open_source(self.location) as file:
            if _footer_digest(file) != self.record.footer_sha256:
                raise UserError(f"{self.location} was changed since it was registered: materialize {ASSET}[{self.name}] again")
            parquet = pq.ParquetFile(file)
            row = sum(parquet.metadata.row_group(group).num_rows for group in range(start))
            for group in range(start, parquet.num_row_groups):
                frame = _read_row_group(parquet, group, columns)
                yield frame.with_columns(pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row")).select(
                    "row", *columns
                )
                row += frame.height


def open_shard(draft: Draft[Any], name: str) -> Shard:
    """Return the shard that is an input of a draft, for example `open_shard(draft, "000_00000")`."""
    record = json.loads((draft.input(ASSET, name) / "shard.json").read_text("utf-8"))
    (source,) = draft.input_manifest(ASSET, name).identity.sources
    return Shard(name=name, location=source.location, record=ShardRecord(**{**record, "columns": tuple(record["columns"])}))


def list_shards(source: SourceSettings) -> dict[str, str]:
    """Return partition key (file stem, such as `000_00000`) -> location of every file the recipe names, sorted by key.

    Raise UserError where a pattern finds nothing, a place cannot be read, or two files would share a key.
    """
    shards: dict[str, str] = {}
    for pattern in source.files:
        for location in _expand(pattern):
            key = PurePosixPath(location).stem
            if shards.setdefault(key, location) != location:
                raise UserError(
                    f"source.files: {shards[key]} and {location} would both be shard {key!r}; rename one of them or leave it out"
                )
    return dict(sorted(shards.items()))


def register_shard(draft: Draft[SourceSettings]) -> None:
    """Check that the file of source "shard" is a whole FineWeb2-shaped parquet file, profile it and write `shard.json`.

    Raise UserError where it is not; a file without a single document is allowed and says so.
    """
    source = draft.source("shard")
    name = draft.identity.partition
    with _reading(source.location), open_source(source.location) as file:
        footer = _footer_digest(file)
        parquet = pq.ParquetFile(file)
        _check_schema(parquet.schema_arrow, source.location)
        record = ShardRecord(
            digest=source.digest,
            footer_sha256=footer,
            bytes=file.seek(0, 2),
            documents=parquet.metadata.num_rows,
            row_groups=parquet.num_row_groups,
            columns=tuple(parquet.schema_arrow.names),
        )
    draft.metrics |= {"bytes": record.bytes, **_profile(Shard(name=name, location=source.location, record=record))}
    if not record.documents:
        draft.report(f"shard {name} holds no document: {source.location}")
    draft.write_json("shard.json", asdict(record))


def _expand(pattern: str) -> list[str]:
    """Return the sorted locations a path, glob or URL stands for."""
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        if filesystem.isdir(path):
            raise UserError(f"source.files: {pattern} is a folder; write {pattern.rstrip('/')}/*.parquet")
        found = sorted(filesystem.glob(path))
    except UserError:
        raise
    except Exception as error:  # each remote filesystem has errors of its own
        raise UserError(
            f"source.files: {pattern} cannot be listed: {_one_line(error)}; correct it in the recipe, or make its host reachable"
        ) from error
    if not found:
        raise UserError(f"source.files: {pattern} finds no file; correct the path in the recipe")
    if isinstance(filesystem, LocalFileSystem):
        return found
    return [filesystem.unstrip_protocol(path) for path in found]


@contextmanager
def _reading(location: str) -> Iterator[None]:
    """Turn the faults of a file that cannot be read into one line with the cure."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"there is no file {location}; put it back, or correct source.files and materialize {ASSET} with --force"
        ) from error
    except PermissionError as error:
        raise UserError(f"{location} cannot be read: {_one_line(error)}; correct its permissions or your credentials") from error
    except (ConnectionError, TimeoutError):  # worth another try
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{location} cannot be read as parquet ({_one_line(error)}): it is truncated or damaged; fetch it again"
        ) from error


def _footer_digest(file: IO[bytes]) -> str:
    """Digest a parquet file's footer: schema, sizes, offsets and statistics of all its columns, so any rewriting shows.

    The last 8 bytes of a parquet file are the footer's length (little endian) and the magic `PAR1`.
    """
    size = file.seek(0, 2)
    file.seek(max(size - 8, 0))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little") + 8
    if tail[4:] != b"PAR1" or length > size:
        raise pa.ArrowInvalid("no parquet footer at its end")
    file.seek(size - length)
    digest = hashlib.sha256(file.read(length)).hexdigest()
    file.seek(0)
    return digest


def _check_schema(schema: pa.Schema, location: str) -> None:
    """Name every column that is missing or of the wrong type at once."""
    faults = [f"column {name} is missing" for name in REQUIRED_COLUMNS if name not in schema.names]
    faults += [
        f"column {name} is {schema.field(name).type}, not {dtype.__name__.lower()}"
        for name, dtype in FINEWEB2_SCHEMA.items()
        if name in schema.names and not _holds(schema.field(name).type, dtype)
    ]
    faults += [f"column {name} would be overwritten" for name in ADDED_COLUMNS if name in schema.names]
    if faults:
        raise UserError(
            f"{location} is not FineWeb2-shaped: {'; '.join(faults)}. Correct the file or leave it out of source.files"
        )


def _holds(found: pa.DataType, wanted: type[pl.DataType]) -> bool:
    """Say whether a column's values can be read as the wanted type without loss; an all-null column always can."""
    if pa.types.is_null(found):
        return True
    if wanted is pl.String:
        value = found.value_type if pa.types.is_dictionary(found) else found
        return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)
    return pa.types.is_integer(found) or (wanted is pl.Float64 and pa.types.is_floating(found))


def _read_row_group(parquet: pq.ParquetFile, group: int, columns: Sequence[str]) -> pl.DataFrame:
    present = set(parquet.schema_arrow.names)
    table = parquet.read_row_group(group, columns=[column for column in columns if column in present])
    rows = parquet.metadata.row_group(group).num_rows
    frame = pl.DataFrame(pl.from_arrow(table)) if table.num_columns else pl.DataFrame(height=rows)
    known = [column for column in columns if column in FINEWEB2_SCHEMA]
    return frame.with_columns(
        (pl.col(column) if column in present else pl.lit(None)).cast(FINEWEB2_SCHEMA[column]).alias(column) for column in known
    )


def _profile(shard: Shard) -> dict[str, Any]:
    """Count documents, words and oddities of a shard in one pass; raise UserError where a document has no id."""
    counts: Counter[str] = Counter()
    dumps: Counter[str] = Counter()
    ids: list[pl.Series] = []
    for frame in shard.row_groups(["id", "dump", "text"]):
        counts.update(
            frame.select(
                documents=pl.len(),
                null_ids=pl.col("id").null_count(),
                null_texts=pl.col("text").null_count(),
                empty_texts=(pl.col("text").str.strip_chars() == "").sum(),
                words=pl.col("text").str.count_matches(r"\S+").sum(),
            ).row(0, named=True)
        )
        dumps.update(dict(frame["dump"].fill_null("unknown").value_counts().iter_rows()))
        ids.append(frame["id"].hash())
    if counts["null_ids"]:
        raise UserError(f"{shard.location}: {counts['null_ids']} documents have no id; give them one or leave the file out")
    distinct = pl.concat(ids).n_unique() if ids else 0
    return {
        **{name: counts[name] for name in ("documents", "null_texts", "empty_texts", "words")},
        "duplicate_ids": counts["documents"] - distinct,
        "documents_by_dump": dict(sorted(dumps.items())),
    }


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def write_parquet(frame: pl.DataFrame, path: Path, *, row_group_size: int = 10_000) -> None:
    """Write a frame the way every corpus file is written: the same rows give the same bytes."""
    frame.write_parquet(path, compression="zstd", compression_level=9, row_group_size=row_group_size, statistics=True)

"""Read the documents of a file, parquet or JSON Lines, in batches that fit into memory. What they are for is the caller's to say."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError, one_line

# A batch is full with so many documents or so many bytes of text per core, whichever comes first: few enough that what is made of them stays
# near the processor, many enough that no core waits long for the one that has the longest document.
DOCUMENTS_PER_CORE, BYTES_PER_CORE = 128, 1 << 20
ROWS_AT_ONCE = 1024
COLUMNS = ["id", "text"]
PARQUET, JSON_LINES = ".parquet", ".jsonl"


@dataclass(frozen=True)
class Documents:
    """Some documents: their ids and their texts."""

    ids: list[str]
    texts: list[str]


def refuse_unknown_format(location: str) -> None:
    """Raise UserError where a file's name ends with neither .parquet nor .jsonl."""
    if not location.endswith((PARQUET, JSON_LINES)):
        raise UserError(f"{location} is neither {PARQUET} nor {JSON_LINES}; convert it, or name another file")


def read_documents(location: str, name: str, *, cores: int = 1) -> Iterator[Documents]:
    """Yield the documents of a file in their order: parquet with columns `id` and `text`, or JSON Lines of {"text": ...}.

    They come in batches that give so many cores enough to do. A line has no id of its own and is called `<name>:<number of the line>`.
    Raise UserError where the file is damaged, lacks a column, or holds a document without id or text.
    """
    refuse_unknown_format(location)
    with _reading(location), open_source(location) as file:
        if PurePosixPath(location).suffix == PARQUET:
            yield from _parquet(file, location, cores)
        else:
            yield from _json_lines(file, location, name, cores)


def read_ids(location: str) -> Iterator[list[str]]:
    """Yield the ids of a parquet file in its order. Raise UserError as `read_documents` does."""
    with _reading(location), open_source(location) as file:
        for batch in _rows(file, location, ["id"], ROWS_AT_ONCE):
            yield batch["id"].to_pylist()


def _parquet(file: IO[bytes], location: str, cores: int) -> Iterator[Documents]:
    for batch in _rows(file, location, COLUMNS, DOCUMENTS_PER_CORE * cores):
        full = np.cumsum(pc.binary_length(batch["text"]).to_numpy()) // (BYTES_PER_CORE * cores)
        edges = [0, *(np.flatnonzero(np.diff(full)) + 1), len(batch)]
        for start, end in itertools.pairwise(edges):
            piece = batch.slice(start, end - start)
            yield Documents(piece["id"].to_pylist(), piece["text"].to_pylist())


def _rows(file: IO[bytes], location: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield some rows at a time; refuse what is no text and what is null."""
    parquet = pq.ParquetFile(file)
    schema = parquet.schema_arrow
    faults = [f"column {name} is missing" for name in columns if name not in schema.names]
    faults += [
        f"column {name} is {schema.field(name).type}, not string"
        for name in columns
        if name in schema.names and not _is_text(schema.field(name).type)
    ]
    if faults:
        raise UserError(f"{location}: {'; '.join(faults)}; a document is a row with `id` and `text`")
    row = 0
    for group in range(parquet.num_row_groups):  # one by one: a reader of all keeps the bytes of each until it is through
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=columns):
            _refuse_nulls(batch, columns, location, row)
            yield batch.select(columns).cast(pa.schema([(name, pa.large_string()) for name in columns]))
            row += len(batch)


def _refuse_nulls(batch: pa.RecordBatch, columns: list[str], location: str, first_row: int) -> None:
    for name in columns:
        if batch[name].null_count:
            row = first_row + int(np.flatnonzero(batch[name].is_null().to_numpy(zero_copy_only=False))[0])
            raise UserError(f"{location}: the {name} of row {row} is null (counted from 0); give it one or remove the row")


def _json_lines(file: IO[bytes], location: str, name: str, cores: int) -> Iterator[Documents]:
    ids: list[str] = []
    texts: list[str] = []
    size = 0
    for number, line in enumerate(file, start=1):
        ids.append(f"{name}:{number}")
        texts.append(_text_of(line, f"{location}, line {number}"))
        size += len(line)
        if len(ids) == DOCUMENTS_PER_CORE * cores or size >= BYTES_PER_CORE * cores:
            yield Documents(ids, texts)
            ids, texts, size = [], [], 0
    if ids:
        yield Documents(ids, texts)


def _text_of(line: bytes, place: str) -> str:
    try:
        text = json.loads(line)["text"]
        text.encode()  # half of a surrogate pair is valid JSON and no text
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{place}: not a JSON object with a "text"; correct or remove the line') from error
    return str(text)


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


@contextmanager
def _reading(location: str) -> Iterator[None]:
    """Turn the faults of a file that cannot be read into one line with the cure."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"there is no file {location} any more; put it back, or correct the recipe") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{location} cannot be read ({one_line(error)}): it is truncated or damaged; replace it") from error

"""Rows of the files of questions and instructions that a recipe names, each with its place: JSON Lines or parquet, local or on the Hub.

What a row must hold is said where it is used (`benchmarks/questions.py`, `benchmarks/rules.py`, `examples.py`).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError

Row = dict[str, Any]


def read_rows(source: Source) -> Iterator[tuple[str, Row]]:
    """Yield each row of a source with its place. Raise UserError naming file and line of what is no object, and for a file without rows."""
    rows = _parquet_rows(source) if source.location.endswith(".parquet") else _json_rows(source)
    found = False
    for place, row in rows:
        found = True
        yield place, row
    if not found:
        raise UserError(f"{source.location} holds no records; name a file with at least one")


def require_texts(place: str, row: Row, keys: Sequence[str]) -> None:
    """Raise UserError where one of the named keys holds no text."""
    for key in keys:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UserError(f"{place}: {key!r} must be a non-empty text; expected keys are {', '.join(keys)}")


class UniqueIds:
    """Refuse an id that a file has used before."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, place: str, one: str) -> None:
        """Raise UserError where the id is not new."""
        if one in self._seen:
            raise UserError(f"{place}: the id {one!r} occurs twice; ids must be unique within a file")
        self._seen.add(one)


def json_lines(source: Source) -> Iterator[tuple[str, Any]]:
    """Yield the value of each line of a JSON Lines source with its place; blank lines are passed over. Raise UserError for what is no JSON."""
    with open_source(source.location) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{source.location}, line {number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(f"{place}: this is no JSON ({error}); the file must hold one JSON object per line") from error
            yield place, value


def _json_rows(source: Source) -> Iterator[tuple[str, Row]]:
    for place, row in json_lines(source):
        if not isinstance(row, dict):
            raise UserError(f"{place}: this is no JSON object; the file must hold one JSON object per line")
        yield place, row


def _parquet_rows(source: Source) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_source(source.location) as file:
        content = pa.BufferReader(file.read())
    try:
        # By this thread alone: another might be about to let go of the bytes, which are Python's, while Python ends, and abort the process.
        table = pq.ParquetFile(content, pre_buffer=False).read(use_threads=False)
    except pa.ArrowInvalid as error:
        raise UserError(f"{source.location} is no parquet file ({error}); correct the path in the recipe") from error
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{source.location}, row {number}", row

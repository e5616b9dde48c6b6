"""Payload of the asset `fineweb2_shards`: prove that a source file is whole and FineWeb2-shaped, and profile it.

Web pages become such a file first, which is then a part of the artifact.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.shards import CURE, EXTRACTED, FINEWEB2_SCHEMA, Shard, ShardRecord, footer_digest, reading
from definemed_pipeline.corpus.sources.files import SHARD
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.opening import open_file
from definemed_pipeline.corpus.sources.settings import SourceSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import run_payload

REQUIRED_COLUMNS = ("text", "id")
# What the pipeline adds to a document's row; a file that already has such a column would have it overwritten.
ADDED_COLUMNS = ("row", "shard", "words", "medical_probability", "decided_by")


def register_shard(draft: Draft[Any]) -> None:
    """Check that the file of source "shard" is a whole FineWeb2-shaped parquet file, profile it and write `shard.json`.

    Raise UserError where it is not; a file without a single document is allowed and says so. Pages are extracted to `documents.parquet`.
    """
    source, scratch = draft.source(SHARD), draft.store.scratch
    location = _extracted(draft) if isinstance(draft.settings, HtmlSource) else source.location
    with (
        reading(location),
        open_file(location, source.digest, scratch=scratch, report=draft.report) as file,
    ):
        footer = footer_digest(file)
        parquet = pq.ParquetFile(file)
        _check_schema(parquet.schema_arrow, location)
        _check_footer(parquet.metadata)
        record = ShardRecord(
            digest=source.digest,
            footer_sha256=footer,
            bytes=file.seek(0, 2),
            documents=parquet.metadata.num_rows,
            row_groups=parquet.num_row_groups,
            columns=tuple(parquet.schema_arrow.names),
        )
    shard = Shard(name=draft.identity.partition, location=location, record=record, scratch=scratch, report=draft.report)
    draft.metrics |= {"bytes": record.bytes, **_profile(shard)}
    if not record.documents:
        draft.report(f"shard {shard.name} holds no document: {source.location}")
    draft.write_json("shard.json", asdict(record))


def _extracted(draft: Draft[HtmlSource]) -> str:
    """Extract the pages to a file of the artifact and return its path."""
    from definemed_pipeline.corpus.sources.html import extract_pages

    target = draft.folder / EXTRACTED
    draft.metrics |= extract_pages(
        draft.source(SHARD).location, draft.settings, target, checkpoints=draft.checkpoints, report=draft.report
    )
    return str(target)


def _check_schema(schema: pa.Schema, location: str) -> None:
    """Name every column that is missing, of the wrong type or of no use at once."""
    faults = [f"column {name} is missing" for name in REQUIRED_COLUMNS if name not in schema.names]
    faults += [f"column {name!r} is there {count} times" for name, count in Counter(schema.names).items() if count > 1]
    faults += [
        f"column {field.name} is {field.type}, not {FINEWEB2_SCHEMA[field.name].__name__.lower()}"
        for field in schema
        if field.name in FINEWEB2_SCHEMA and not _holds(field.type, FINEWEB2_SCHEMA[field.name])
    ]
    faults += [
        f"column {field.name!r} is {field.type}, and polars takes no such type or name"
        for field in schema
        if field.name not in FINEWEB2_SCHEMA and not _fits_polars(field)
    ]
    faults += [f"column {name} would be overwritten" for name in ADDED_COLUMNS if name in schema.names]
    if faults:
        raise UserError(f"{location} is not FineWeb2-shaped: {'; '.join(faults)}. {CURE.capitalize()}")


def _fits_polars(field: pa.Field) -> bool:
    """Say whether polars takes a column of this type and name, and gives it back under the same name."""
    try:
        frame = pl.DataFrame(pl.from_arrow(pa.schema([field]).empty_table()))
        return list(frame.to_arrow().column_names) == [field.name]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException):
        return False


def _check_footer(metadata: pq.FileMetaData) -> None:
    """Raise ArrowInvalid where the footer contradicts itself; nobody else would notice."""
    rows = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if rows != metadata.num_rows:
        raise pa.ArrowInvalid(f"its row groups have {rows} rows, and the file {metadata.num_rows}")


def _holds(found: pa.DataType, wanted: type[pl.DataType]) -> bool:
    """Say whether a column's values can be read as the wanted type without loss; an all-null column always can."""
    if pa.types.is_null(found):
        return True
    if wanted is pl.String:
        value = found.value_type if pa.types.is_dictionary(found) else found
        return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)
    return pa.types.is_integer(found) or (wanted is pl.Float64 and pa.types.is_floating(found))


def _profile(shard: Shard) -> dict[str, Any]:
    """Count documents, words and oddities of a shard in one pass; raise UserError where a document has no id.

    All columns are read, although three are looked at: a shard that is registered is one that later stages can read. That costs a twelfth of
    the time; counting words is most of it.
    """
    counts: Counter[str] = Counter()
    dumps: Counter[str] = Counter()
    ids: list[pl.Series] = []
    for frame in shard.row_groups([*FINEWEB2_SCHEMA, *shard.extra_columns]):
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


if __name__ == "__main__":
    run_payload(SourceSettings, register_shard, parse=TypeAdapter(SourceSettings).validate_python)  # type: ignore[arg-type]

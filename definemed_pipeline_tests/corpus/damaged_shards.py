"""Parquet files as disks, transfers and other people's tools leave them: case number n is the same file each time it is written.

The files are small, so that random damage hits page headers, statistics and the footer as often as data.
"""

import datetime
import decimal
import io
import random
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline_tests.corpus.shard_files import documents

WORDS = [
    "Der",
    "Patient",
    "klagt",
    "über",
    "Schmerzen",
    "in",
    "der",
    "Medizin",
    "und",
    "die",
    "Straße",
    "nach",
    "Köln",
    "ist",
    "lang,",
    "wie",
    "der",
    "Bericht",
    "sagt.",
    "",
]
CODECS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")
MEBI = 1 << 20
Case = Callable[[random.Random], bytes]


def parquet_case(number: int) -> bytes:
    """Return the bytes of a file: one of the `WRITTEN` in turn, and behind the last of them randomly damaged ones."""
    chance = random.Random(number)
    if number < len(WRITTEN):
        return WRITTEN[number](chance)
    return DAMAGES[number % len(DAMAGES)](_whole(chance), chance)


# What a whole file may be


def table(chance: random.Random, rows: int = 40) -> pa.Table:
    """Return documents of which every fourth or so is about medicine, with an odd one in between."""
    texts: list[str | None] = [" ".join(chance.choices(WORDS, k=chance.randrange(1, 60))) for _ in range(rows)]
    for odd in (None, "", " \n\t ", "Ein\0Nullzeichen", "😀 \u0301 \u202e \ufffe"):
        if rows:
            texts[chance.randrange(rows)] = odd
    return documents(texts).to_arrow().cast(pa.schema([(name, _plain(kind)) for name, kind in FINEWEB2_SCHEMA.items()]))


def _plain(kind: Any) -> pa.DataType:
    return {"String": pa.string(), "Float64": pa.float64(), "Int64": pa.int64()}[kind.__name__]


def written(content: pa.Table, **options: Any) -> bytes:
    """Return a table as a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(content, buffer, **{"row_group_size": 16, "compression": "zstd"} | options)
    return buffer.getvalue()


def _whole(chance: random.Random) -> bytes:
    options = {
        "compression": chance.choice(CODECS),
        "use_dictionary": chance.random() < 0.5,
        "data_page_size": chance.choice([200, MEBI]),
        "data_page_version": chance.choice(["1.0", "2.0"]),
        "write_page_checksum": chance.random() < 0.3,
        "write_page_index": chance.random() < 0.3,
        "row_group_size": chance.choice([7, 16, 1000]),
        "store_schema": chance.random() < 0.5,  # Arrow's own copy of the schema is a large part of a small footer
    }
    return written(table(chance, chance.choice([10, 40, 200])), **options)


# Random damage


def cut(whole: bytes, chance: random.Random) -> bytes:
    """A download that broke off."""
    return whole[: chance.randrange(len(whole))]


def cut_out(whole: bytes, chance: random.Random) -> bytes:
    """A block that was lost in the middle."""
    start = chance.randrange(len(whole))
    return whole[:start] + whole[start + chance.choice([1, 7, 512]) :]


def flipped(whole: bytes, chance: random.Random) -> bytes:
    """Bits that fell over, anywhere."""
    damaged = bytearray(whole)
    for _ in range(chance.randrange(1, 21)):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def flipped_footer(whole: bytes, chance: random.Random) -> bytes:
    """The same in the footer, whose magic and length are spared: it is read."""
    damaged, length = bytearray(whole), int.from_bytes(whole[-8:-4], "little")
    for _ in range(chance.randrange(1, 4)):
        damaged[len(damaged) - 8 - 1 - chance.randrange(length)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def flipped_once(whole: bytes, chance: random.Random) -> bytes:
    """One bit before the footer."""
    damaged, length = bytearray(whole), int.from_bytes(whole[-8:-4], "little")
    damaged[chance.randrange(4, len(whole) - 8 - length)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def zeroed(whole: bytes, chance: random.Random) -> bytes:
    """A range that was never written."""
    start, length = chance.randrange(len(whole)), chance.choice([1, 16, 512])
    return whole[:start] + bytes(len(whole[start : start + length])) + whole[start + length :]


def overwritten(whole: bytes, chance: random.Random) -> bytes:
    """A range with bytes of another file."""
    start, length = chance.randrange(len(whole)), chance.choice([1, 16, 512])
    return whole[:start] + chance.randbytes(len(whole[start : start + length])) + whole[start + length :]


DAMAGES = (flipped, flipped_footer, flipped_once, cut, flipped_footer, flipped, zeroed, overwritten, cut_out, flipped_footer)


# Whole files that are not what they should be

TEXTS = ["eins", "zwei", None, "vier"]
VALUES: dict[str, pa.Array] = {
    "bool": pa.array([True, False, None, True]),
    "int8": pa.array([1, -2, None, 4], pa.int8()),
    "int64": pa.array([1, -(1 << 63), None, (1 << 63) - 1]),
    "uint64": pa.array([1, 2, None, (1 << 64) - 1], pa.uint64()),
    "float16": pa.array(np.array([1, 2, 3, 4], np.float16)),
    "float32": pa.array([0.5, float("nan"), None, float("inf")], pa.float32()),
    "float64": pa.array([0.5, float("nan"), None, -float("inf")]),
    "decimal128": pa.array([decimal.Decimal("0.5")] * 4, pa.decimal128(5, 2)),
    "decimal256": pa.array([decimal.Decimal("0.5")] * 4, pa.decimal256(60, 2)),
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string_view": pa.array(TEXTS, pa.string_view()),
    "binary": pa.array([b"eins", b"\xff\xfe", None, b""]),
    "large_binary": pa.array([b"eins", b"\xff\xfe", None, b""], pa.large_binary()),
    "binary_view": pa.array([b"eins", b"\xff\xfe", None, b""], pa.binary_view()),
    "fixed_size_binary": pa.array([b"0123456789abcdef"] * 4, pa.binary(16)),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "dictionary_of_int": pa.array([1, 2, None, 1]).dictionary_encode(),
    "dictionary_of_large_string": pa.array(TEXTS, pa.large_string()).dictionary_encode(),
    "null": pa.nulls(4),
    "date32": pa.array([datetime.date(2024, 1, 1)] * 4),
    "date64": pa.array([datetime.date(2024, 1, 1)] * 4, pa.date64()),
    "time64": pa.array([1, 2, None, 4], pa.time64("us")),
    "timestamp_s": pa.array([1, 2, None, 4], pa.timestamp("s")),
    "timestamp_ns": pa.array([1, 2, None, (1 << 63) - 1], pa.timestamp("ns", "Europe/Berlin")),
    "timestamp_mars": pa.array([1, 2, None, 4], pa.timestamp("us", "Mars/Olympus")),
    "duration": pa.array([1, 2, None, 4], pa.duration("us")),
    "list": pa.array([["a"], [], None, ["b", None]]),
    "large_list": pa.array([["a"], [], None, ["b", None]], pa.large_list(pa.string())),
    "fixed_size_list": pa.array([[1, 2]] * 4, pa.list_(pa.int32(), 2)),
    "struct": pa.array([{"a": "x", "b": 1}, None, {"a": None, "b": 2}, {"a": "y", "b": None}]),
    "nested": pa.array([[{"a": ["x"]}], [], None, [{"a": None}]]),
    "uuid": pa.array([b"0123456789abcdef"] * 4, pa.uuid()),
    "json": pa.array(['{"a": 1}', "kein JSON", None, "{}"], pa.json_()),
    "map": pa.array([[("a", 1)], [], None, [("b", None)]], pa.map_(pa.string(), pa.int32())),
}
BROKEN = (b"\xff\xfe", b"ein \xed\xa0\x80 halbes Zeichen", b"\xc0\xaf", b"abgeschnitten \xf0\x9f\x98", b"\xf4\x90\x80\x80")
NAMES = (
    "a.b",
    "",
    " ",
    "Text",
    "place",
    "scored_id",
    "number",
    "meta\nzwei\ndrei",
    "nul\0",
    "kept",
    "title",
    "row",
    "shard",
    "é",
    "e\u0301",
)


def retyped(column: str, kind: str) -> Case:
    """Four documents with a column, one of FineWeb2's or a further one, that has another type."""

    def case(chance: random.Random) -> bytes:
        content = table(chance, 4)
        values = VALUES[kind]
        place = content.schema.get_field_index(column)
        content = content.append_column(column, values) if place < 0 else content.set_column(place, column, values)
        return written(content, row_group_size=2)

    return case


def broken_text(column: str, value: bytes) -> Case:
    """A string column with bytes that are no UTF-8, as careless writers leave it."""

    def case(chance: random.Random) -> bytes:
        content = table(chance, 20)
        place = content.schema.get_field_index(column)
        values = content[column].to_pylist()
        encoded = pa.array([None if value is None else value.encode() for value in values[:-1]] + [value], pa.binary())
        claimed = pa.Array.from_buffers(pa.string(), len(encoded), encoded.buffers())
        return written(content.set_column(place, column, claimed), use_dictionary=chance.random() < 0.5)

    return case


def named(*names: str) -> Case:
    """Further columns of these names."""

    def case(chance: random.Random) -> bytes:
        content = table(chance)
        for name in names:
            content = content.append_column(name, pa.array(["x"] * content.num_rows))
        return written(content)

    return case


def without(*names: str) -> Case:
    """A file without some columns."""
    return lambda chance: written(table(chance).drop_columns(list(names)))


def stored(**options: Any) -> Case:
    """A whole file, stored in some unusual way."""
    return lambda chance: written(table(chance), **options)


def holding(texts: Callable[[], Sequence[str | None]], **options: Any) -> Case:
    """A whole file with unusual texts."""
    return lambda _: written(documents(texts()).to_arrow(), **options)


def replaced(column: str, values: Callable[[int], pa.Array]) -> Case:
    """A whole file with unusual values in a column."""

    def case(chance: random.Random) -> bytes:
        content = table(chance)
        return written(content.set_column(content.schema.get_field_index(column), column, values(content.num_rows)))

    return case


def empty_row_groups(chance: random.Random) -> bytes:
    """Row groups of no rows between others."""
    content, buffer = table(chance), io.BytesIO()
    with pq.ParquetWriter(buffer, content.schema) as writer:
        for rows in (0, 10, 0, 0, 30, 0):
            writer.write_table(content.slice(0, rows))
    return buffer.getvalue()


def no_row_group(chance: random.Random) -> bytes:
    """A footer and nothing else."""
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, table(chance).schema).close()
    return buffer.getvalue()


class _KeyStore(pe.KmsClient):
    """A key store that hides nothing: keys are "wrapped" as they are."""

    def __init__(self, _: pe.KmsConnectionConfig) -> None:
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
        return key_bytes.hex().encode()

    def unwrap_key(self, wrapped_key: bytes, _: str) -> bytes:
        return bytes.fromhex(wrapped_key.decode())


def encrypted(*, plaintext_footer: bool) -> Case:
    """A file that only who has the key can read."""

    def case(chance: random.Random) -> bytes:
        content, buffer = table(chance), io.BytesIO()
        config = pe.EncryptionConfiguration(
            footer_key="footer", column_keys={"text": ["text", "id"]}, plaintext_footer=plaintext_footer
        )
        properties = pe.CryptoFactory(_KeyStore).file_encryption_properties(pe.KmsConnectionConfig(), config)
        with pq.ParquetWriter(buffer, content.schema, encryption_properties=properties) as writer:
            writer.write_table(content)
        return buffer.getvalue()

    return case


def exactly(content: bytes) -> Case:
    """A file of another kind under this name."""
    return lambda _: content


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("000_00000.parquet", "kein parquet")
    return buffer.getvalue()


def _arrow_file() -> bytes:
    content, buffer = table(random.Random(0)), io.BytesIO()
    with pa.ipc.new_file(buffer, content.schema) as writer:
        writer.write_table(content)
    return buffer.getvalue()


def many_empty(_: random.Random) -> bytes:
    """A million documents without text, in one row group."""
    rows = MEBI
    numbers = pa.array(np.arange(rows)).cast(pa.string())
    return written(
        pa.table({"id": numbers, "text": pa.array([""]).take(pa.array(np.zeros(rows, np.int64)))}), row_group_size=rows
    )


OTHER_FILES = (
    b"",
    b"PAR1",
    b"PAR1PAR1",
    b"PAR1\0\0\0\0PAR1",
    b"PAR1" + b"\xff" * 8 + b"PAR1",
    b"PAR1" + bytes(100) + (100).to_bytes(4, "little") + b"PAR1",
    bytes(5000),
    b"Dies ist Text.\n" * 100,
    b"\x89PNG\r\n\x1a\n" + bytes(100),
    b'{"text": "a", "id": "b"}\n' * 100,
    b"text,id\na,b\n",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    b"<!doctype html><title>404</title>",
    _zip(),
    _arrow_file(),
)
WRITTEN: tuple[Case, ...] = (
    *(retyped("text", kind) for kind in VALUES),
    *(retyped("id", kind) for kind in VALUES),
    *(retyped("notes", kind) for kind in VALUES),
    *(retyped("language_score", kind) for kind in VALUES),
    *(retyped("minhash_cluster_size", kind) for kind in VALUES),
    *(retyped(column, kind) for column in ("date", "dump", "url") for kind in ("timestamp_ns", "dictionary", "binary", "list")),
    *(broken_text("text", value) for value in BROKEN),
    *(broken_text(column, BROKEN[0]) for column in ("id", "dump", "url", "top_langs")),
    *(named(name) for name in NAMES),
    *(named(name, name) for name in ("notes", "text", "id", "a.b")),
    *(without(name) for name in FINEWEB2_SCHEMA),
    without("text", "id"),
    without(*FINEWEB2_SCHEMA),
    *(stored(compression=codec, data_page_version=version) for codec in CODECS for version in ("1.0", "2.0")),
    *(
        stored(use_dictionary=False, column_encoding={"text": encoding})
        for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
    ),
    stored(use_dictionary=False, column_encoding={"language_score": "BYTE_STREAM_SPLIT"}),
    stored(version="1.0"),
    stored(row_group_size=1),
    stored(write_statistics=False),
    stored(store_schema=False),
    *(encrypted(plaintext_footer=plain) for plain in (True, False)),
    *(exactly(content) for content in OTHER_FILES),
    empty_row_groups,
    no_row_group,
    many_empty,
    holding(list),
    holding(lambda: ["Medizin " + "x" * (100 * MEBI)]),
    holding(lambda: ["Der Arzt und die Medizin. " * MEBI, "Medizin", None]),
    holding(lambda: ["\n" * MEBI, "\0" * MEBI, "\u0301" * MEBI, "😀" * MEBI, "Medizin " * (MEBI // 8)]),
    holding(lambda: [f"Medizin {number}" for number in range(20_000)], row_group_size=20_000),
    holding(lambda: [None] * 50),
    replaced("id", lambda rows: pa.array([None] + ["x"] * (rows - 1))),
    replaced("id", lambda rows: pa.nulls(rows, pa.string())),
    replaced("id", lambda rows: pa.array([""] * rows)),
    replaced("id", lambda rows: pa.array(["x" * MEBI] * rows)),
    replaced("id", lambda rows: pa.array(["zwei\nZeilen\0"] * rows)),
    replaced("dump", lambda rows: pa.array(["zwei\nZeilen/../.."] * rows)),
    replaced("language_score", lambda rows: pa.array([float("nan"), float("inf"), -float("inf"), -0.0] * (rows // 4))),
)

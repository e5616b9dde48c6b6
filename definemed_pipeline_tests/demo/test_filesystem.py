"""The demo world as files: names, schemas, determinism, and that nothing can be written."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.demo.filesystem import FILES, DemoFileSystem
from definemed_pipeline.demo.world import World

FINEWEB2_COLUMNS = [
    ("text", pa.string()),
    ("id", pa.string()),
    ("dump", pa.string()),
    ("url", pa.string()),
    ("date", pa.string()),
    ("file_path", pa.string()),
    ("language", pa.string()),
    ("language_score", pa.float64()),
    ("language_script", pa.string()),
    ("minhash_cluster_size", pa.int64()),
    ("top_langs", pa.string()),
]
PRINT_DIGESTS = (
    "from definemed_pipeline.demo.filesystem import FILES, DemoFileSystem; "
    "fs = DemoFileSystem(); print(*(fs.info(name)['sha256'] for name in FILES))"
)


@pytest.fixture
def files() -> DemoFileSystem:
    fsspec.register_implementation("demo", DemoFileSystem, clobber=True)
    filesystem = fsspec.filesystem("demo")
    assert isinstance(filesystem, DemoFileSystem)
    return filesystem


def test_the_web_has_six_shards_named_as_fineweb2_names_them(files: DemoFileSystem) -> None:
    assert files.glob("demo://web/*.parquet") == [f"web/000_{number:05d}.parquet" for number in range(6)]


def test_every_shard_has_fineweb2s_columns_in_order_and_several_row_groups(files: DemoFileSystem) -> None:
    for name in files.ls("demo://web", detail=False):
        with files.open(name) as shard:
            parquet = pq.ParquetFile(shard)
            assert [(field.name, field.type) for field in parquet.schema_arrow] == FINEWEB2_COLUMNS
            assert parquet.num_row_groups > 1
            assert b"pandas" not in (parquet.schema_arrow.metadata or {})


def test_the_shards_together_hold_every_document_once(files: DemoFileSystem, demo: World) -> None:
    ids = [id for name in files.glob("web/*.parquet") for id in pq.read_table(files.open(name))["id"].to_pylist()]
    assert sorted(ids) == sorted(demo.truth)
    assert 3000 <= len(ids) <= 3600


def test_gold_labels_are_served_as_they_are_in_the_world(files: DemoFileSystem, demo: World) -> None:
    table = pq.read_table(files.open("gold_labels.parquet"))
    assert table.schema.names == ["id", "is_medical", "kind"]
    assert [tuple(row.values()) for row in table.to_pylist()] == [(g.id, g.is_medical, g.kind) for g in demo.gold_labels]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("questions.jsonl", {"id", "subject", "question", "choices", "answer"}),
        ("instructions.jsonl", {"id", "kind", "instruction", "reference"}),
        ("pretraining/general.jsonl", {"text"}),
        ("pretraining/held_out.jsonl", {"text"}),
        ("pretraining/chat.jsonl", {"messages"}),
    ],
)
def test_each_json_lines_file_has_one_record_a_line_with_its_keys(files: DemoFileSystem, name: str, keys: set[str]) -> None:
    rows = [json.loads(line) for line in files.cat_file(name).decode().splitlines()]
    assert rows
    assert all(set(row) == keys for row in rows)


def test_info_gives_the_size_and_digest_of_what_is_read(files: DemoFileSystem) -> None:
    for name in FILES:
        content = files.cat_file(name)
        info = files.info(f"demo://{name}")
        assert info["size"] == len(content)
        assert info["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_files_are_the_same_bytes_in_another_process_with_another_hash_seed(files: DemoFileSystem) -> None:
    here = [files.info(name)["sha256"] for name in FILES]
    for hash_seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        there = subprocess.run([sys.executable, "-c", PRINT_DIGESTS], env=environment, capture_output=True, text=True, check=True)
        assert there.stdout.split() == here


def test_another_seed_makes_another_web_of_the_same_size(demo: World) -> None:
    other = World(seed=demo.seed + 1)
    assert len(other.documents) == len(demo.documents)
    assert {document.id for document in other.documents}.isdisjoint(demo.truth)


def test_writing_is_refused_with_a_clear_error(files: DemoFileSystem) -> None:
    for attempt in (
        lambda: files.open("web/new.parquet", "wb"),
        lambda: files.rm("questions.jsonl"),
        lambda: files.mkdir("elsewhere"),
        lambda: files.pipe_file("questions.jsonl", b""),
    ):
        with pytest.raises(OSError, match="read-only") as refused:
            attempt()
        assert refused.value.errno == errno.EROFS


def test_a_file_that_is_not_there_is_named_with_those_that_are(files: DemoFileSystem) -> None:
    with pytest.raises(FileNotFoundError, match=r"questions\.jsonl"):
        files.open("demo://answers.jsonl")

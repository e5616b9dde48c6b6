"""The demo world as a read-only fsspec filesystem under ``demo://``; files are built in memory on first use and kept per process."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from definemed_pipeline.demo.questions import Question
from definemed_pipeline.demo.web import WebDocument
from definemed_pipeline.demo.world import DEFAULT_SEED, SHARDS, GoldLabel, World, world

ROWS_PER_GROUP = 200
WEB_SCHEMA = pa.schema(
    [
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
)
GOLD_SCHEMA = pa.schema([("id", pa.string()), ("is_medical", pa.bool_()), ("kind", pa.string())])


def _parquet(records: Sequence[WebDocument] | Sequence[GoldLabel], schema: pa.Schema) -> bytes:
    import polars as pl  # whose columns become Arrow's without pandas, which pyarrow imports to look at Python's

    frame = pl.DataFrame({name: [getattr(record, name) for record in records] for name in schema.names})
    buffer = io.BytesIO()
    pq.write_table(
        frame.to_arrow().cast(schema),
        buffer,
        compression="zstd",
        compression_level=3,
        row_group_size=ROWS_PER_GROUP,
        version="2.6",
    )
    return buffer.getvalue()


def _json_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _questions(questions: Iterable[Question]) -> bytes:
    kept = ("id", "subject", "question", "choices", "answer")
    return _json_lines({name: getattr(question, name) for name in kept} for question in questions)


def _conversations(demo: World) -> bytes:
    return _json_lines({"messages": [vars(message) for message in turns]} for turns in demo.conversations)


def _shard(number: int) -> Callable[[World], bytes]:
    return lambda demo: _parquet(demo.shard(number), WEB_SCHEMA)


FILES: dict[str, Callable[[World], bytes]] = {
    **{f"web/000_{number:05d}.parquet": _shard(number) for number in range(SHARDS)},
    "questions.jsonl": lambda demo: _questions(demo.questions),
    "general_questions.jsonl": lambda demo: _questions(demo.general_questions),
    "checked_instructions.jsonl": lambda demo: _json_lines(asdict(instruction) for instruction in demo.checked_instructions),
    "gold_labels.parquet": lambda demo: _parquet(demo.gold_labels, GOLD_SCHEMA),
    "instructions.jsonl": lambda demo: _json_lines(asdict(instruction) for instruction in demo.instructions),
    "pretraining/general.jsonl": lambda demo: _json_lines({"text": text} for text in demo.general_texts),
    "pretraining/held_out.jsonl": lambda demo: _json_lines({"text": text} for text in demo.held_out_texts),
    "pretraining/chat.jsonl": _conversations,
}


@cache
def file_bytes(seed: int, path: str) -> bytes:
    """Return the content of one file of the world of a seed."""
    return FILES[path](world(seed))


class DemoFileSystem(AbstractFileSystem):
    """Serve the demo world: ``ls``, ``info`` (with size and sha256), ``glob`` and ``open(path, "rb")``."""

    protocol = "demo"
    root_marker = ""

    def __init__(self, seed: int = DEFAULT_SEED, **storage_options: Any) -> None:
        super().__init__(seed=seed, **storage_options)
        self.seed = seed

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, type, size and, for a file, its sha256."""
        name = self._strip_protocol(path)
        if name in FILES:
            content = file_bytes(self.seed, name)
            return {"name": name, "type": "file", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if name == "" or any(file.startswith(name + "/") for file in FILES):
            return {"name": name, "type": "directory", "size": 0}
        raise FileNotFoundError(errno.ENOENT, f"the demo world has no such file; it has {', '.join(FILES)}", path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a directory, or the file itself."""
        entry = self.info(path)
        names = [entry["name"]] if entry["type"] == "file" else self._children(entry["name"])
        return [self.info(name) for name in names] if detail else names

    def _children(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        return sorted({prefix + file[len(prefix) :].split("/")[0] for file in FILES if file.startswith(prefix)})

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BytesIO:
        if mode != "rb":
            self._refuse(path)
        if self.info(path)["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "cannot open a directory of the demo world", path)
        return io.BytesIO(file_bytes(self.seed, self._strip_protocol(path)))

    def ukey(self, path: str) -> str:
        """Return the sha256 of a file: equal content, equal key."""
        return str(self.info(path)["sha256"])

    def checksum(self, path: str) -> str:
        """Return the sha256 of a file."""
        return self.ukey(path)

    def _refuse(self, path: str, *args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(errno.EROFS, "the demo world is read-only; write to the lake instead", path)

    mkdir = makedirs = rmdir = _rm = rm_file = cp_file = touch = _refuse

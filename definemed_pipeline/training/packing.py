"""Pack documents into training blocks of one length: a packed set. How it is read back stands in `blocks`.

Documents are laid end to end in the order they come in and cut every `sequence_length` tokens. A document that crosses a cut goes on in the
next block as a segment of its own; nothing is dropped, and only the last block is padded. Each segment's positions start at zero,
by which the models keep documents apart (see `PackedBlocks`). Blocks are shuffled when they are trained on, not here, so packing is
one pass in constant memory.

    tokens.npy           (blocks, sequence_length), uint16 where the vocabulary allows, else uint32
    segment_starts.npy   (segments,), int64: where each segment starts in the flattened tokens; the padding is the last one
    segments.parquet     which tokens of which document stand where: block, start, id, document_start, tokens, role
    packing.json         the counts

A set is written in parts that follow each other, each into a folder of its own, and joined at the end. A part that is complete need not be
written again; that is what packing a large corpus goes on from after a kill.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from definemed_pipeline.training.encoding import Ids

TRAIN = "train"  # the role of documents that nobody gave another
CUTS = pa.schema(
    [
        ("block", pa.int64()),
        ("start", pa.int32()),
        ("id", pa.string()),
        ("document_start", pa.int64()),
        ("tokens", pa.int32()),
    ]
)
SEGMENTS = CUTS.append(pa.field("role", pa.string()))
SEGMENTS_PER_GROUP = 100_000
TOKENS_FILE, STARTS_FILE, CUTS_FILE, PART_FILE = "tokens.bin", "segment_starts.bin", "segments.arrow", "part.json"
COPIED_AT_ONCE = 16 << 20  # bytes
Batch = Sequence[tuple[str, Ids]]


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """What the blocks of a set look like; `padding_id` fills up the last one."""

    sequence_length: int
    vocabulary_size: int
    padding_id: int

    @property
    def token_type(self) -> np.dtype[Any]:
        """Return the smallest type that holds every token."""
        return np.dtype(np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A complete part of a set: where it lies, what its documents are for, the position of its first token in the set, its counts."""

    folder: Path
    role: str
    offset: int
    documents: int
    tokens: int
    segments: int
    split_documents: int

    @classmethod
    def read(cls, folder: Path, block_format: BlockFormat) -> "Part":
        """Return the part in a folder; raise ValueError where it is not whole."""
        try:
            part = cls(folder=folder, **json.loads((folder / PART_FILE).read_text("utf-8")))
            sizes = [(folder / name).stat().st_size for name in (TOKENS_FILE, STARTS_FILE)]
            rows = sum(len(table) for table in part.cuts())
        except (OSError, TypeError, ValueError, pa.ArrowException) as error:
            raise ValueError(f"{folder} is no whole part") from error
        if (*sizes, rows) != (part.tokens * block_format.token_type.itemsize, part.segments * 8, part.segments):
            raise ValueError(f"{folder} has other files than its counts say")
        return part

    def ids(self) -> Iterator[str]:
        """Yield the ids of the documents."""
        for table in self.cuts():
            yield from table.filter(pc.equal(table["document_start"], 0))["id"].to_pylist()

    def cuts(self) -> Iterator[pa.Table]:
        """Yield the segments, some thousand at a time."""
        with pa.memory_map(str(self.folder / CUTS_FILE)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])


class PartWriter:
    """Write documents as a part of a set whose first token is the set's token number `offset`. A context manager.

    `part` is there when it was left without an error.
    """

    def __init__(self, folder: Path, block_format: BlockFormat, *, role: str, offset: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.part: Part | None = None
        self._format = block_format
        self._counted = Part(folder=folder, role=role, offset=offset, documents=0, tokens=0, segments=0, split_documents=0)
        self._open = ExitStack()
        self._tokens, self._starts, cuts = (
            self._open.enter_context((folder / name).open("wb")) for name in (TOKENS_FILE, STARTS_FILE, CUTS_FILE)
        )
        self._files = (self._tokens, self._starts, cuts)
        self._cuts = pa.ipc.new_stream(cuts, CUTS)

    @property
    def tokens(self) -> int:
        """Return how many tokens were written."""
        return self._counted.tokens

    def append(self, batch: Batch) -> None:
        """Write some documents behind those before."""
        if not batch:
            return
        counted = self._counted
        table, starts = _cut(batch, offset=counted.offset + counted.tokens, sequence_length=self._format.sequence_length)
        tokens = np.concatenate([ids for _, ids in batch])
        self._tokens.write(tokens.astype(self._format.token_type, copy=False).data)
        self._starts.write(starts.data)
        self._cuts.write_table(table)
        self._counted = dataclasses.replace(
            counted,
            documents=counted.documents + len(batch),
            tokens=counted.tokens + len(tokens),
            segments=counted.segments + len(table),
            split_documents=counted.split_documents + _split_documents(table),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._open:
            self._cuts.close()
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
        if kind is None:
            counts = {name: value for name, value in dataclasses.asdict(self._counted).items() if name != "folder"}
            (self._counted.folder / PART_FILE).write_text(json.dumps(counts), "utf-8")
            self.part = self._counted


def pack(
    documents: Iterable[Batch], folder: Path, *, sequence_length: int, vocabulary_size: int, padding_id: int
) -> dict[str, int]:
    """Pack batches of (id, token ids) into `folder` and return the counts that `packing.json` holds."""
    block_format = BlockFormat(sequence_length=sequence_length, vocabulary_size=vocabulary_size, padding_id=padding_id)
    with PartWriter(folder / "part", block_format, role=TRAIN, offset=0) as writer:
        for batch in documents:
            writer.append(batch)
    assert writer.part is not None
    count = join([writer.part], folder, block_format)
    shutil.rmtree(writer.part.folder)
    return count


def join(parts: Sequence[Part], folder: Path, block_format: BlockFormat) -> dict[str, int]:
    """Write parts, in their order, as one packed set and return the counts that `packing.json` holds.

    `tokens` counts what came in, `packed_tokens` what a reader of the segments finds: they are equal, or a token was lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = {name: sum(getattr(part, name) for part in parts) for name in ("documents", "tokens", "segments", "split_documents")}
    length = block_format.sequence_length
    padding = -count["tokens"] % length
    blocks = (count["tokens"] + padding) // length
    with (folder / "tokens.npy").open("wb") as file:
        _copy_array(file, parts, TOKENS_FILE, block_format.token_type, (blocks, length))
        file.write(np.full(padding, block_format.padding_id, block_format.token_type).data)
    with (folder / "segment_starts.npy").open("wb") as file:
        _copy_array(file, parts, STARTS_FILE, np.dtype(np.int64), (count["segments"] + bool(padding),))
        if padding:
            file.write(np.array([count["tokens"]], dtype=np.int64).data)
    count |= {"packed_tokens": _join_segments(parts, folder / "segments.parquet")}
    count |= {"padding": padding, "blocks": blocks, "sequence_length": length}
    (folder / "packing.json").write_text(json.dumps(count, indent=2, sort_keys=True) + "\n", "utf-8")
    return count


def _cut(batch: Batch, *, offset: int, sequence_length: int) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Cut a batch of documents, the first of which starts at token `offset` of the set, at every multiple of `sequence_length`.

    Return the segments and where each starts in the set.
    """
    lengths = np.array([len(ids) for _, ids in batch], dtype=np.int64)
    document_starts = offset + np.concatenate([[0], np.cumsum(lengths)])
    cuts = np.arange(-(-offset // sequence_length) * sequence_length, document_starts[-1], sequence_length)
    starts = np.unique(np.concatenate([document_starts[:-1], cuts]))
    document = np.searchsorted(document_starts, starts, side="right") - 1
    table = pa.table(
        {
            "block": starts // sequence_length,
            "start": (starts % sequence_length).astype(np.int32),
            "id": pa.array([batch[index][0] for index in document], pa.string()),
            "document_start": starts - document_starts[document],
            "tokens": np.diff(starts, append=document_starts[-1]).astype(np.int32),
        },
        schema=CUTS,
    )
    return table, starts


def _split_documents(cuts: pa.Table) -> int:
    """Count the documents that go on in another block, by their first continuation."""
    is_continued = cuts["document_start"].to_numpy() > 0
    return int(np.sum(is_continued[1:] & ~is_continued[:-1]))


def _copy_array(file: IO[bytes], parts: Iterable[Part], name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write the header of an array's .npy file and the values that the parts hold."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        with (part.folder / name).open("rb") as values:
            shutil.copyfileobj(values, file, COPIED_AT_ONCE)


def _join_segments(parts: Iterable[Part], path: Path) -> int:
    """Write the segments of the parts in row groups of one size, however they came in, and return how many tokens are theirs."""
    tokens = 0
    with pq.ParquetWriter(path, SEGMENTS, compression="zstd") as writer:
        for group in _in_groups(_with_role(parts)):
            tokens += int(np.sum(group["tokens"]))
            writer.write_table(group)
    return tokens


def _with_role(parts: Iterable[Part]) -> Iterator[pa.Table]:
    for part in parts:
        for table in part.cuts():
            yield table.append_column(SEGMENTS.field("role"), pa.array([part.role] * len(table), pa.string()))


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut tables anew, into ones of SEGMENTS_PER_GROUP rows in one piece: pages of parquet end where pieces do."""
    held = SEGMENTS.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while len(held) >= SEGMENTS_PER_GROUP:
            yield held.slice(0, SEGMENTS_PER_GROUP).combine_chunks()
            held = held.slice(SEGMENTS_PER_GROUP)
    if len(held):
        yield held.combine_chunks()

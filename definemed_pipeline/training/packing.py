"""Pack documents into training blocks of one length, and read the blocks back without loading them.

Documents are laid end to end in the corpus' order and cut every `sequence_length` tokens. A document that crosses a cut goes on in the
next block as a segment of its own; nothing is dropped, and only the last block is padded. Each segment's positions start at zero,
by which the models keep documents apart (see `PackedBlocks`). Blocks are shuffled when they are trained on, not here, so packing is
one pass in constant memory.

    tokens.npy           (blocks, sequence_length), uint16 where the vocabulary allows, else uint32
    segment_starts.npy   (segments,), int64: where each segment starts in the flattened tokens; the padding is the last one
    segments.parquet     which tokens of which document stand where: block, start, id, document_start, tokens
    packing.json         the counts
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.training.encoding import DocumentEncoder
from definemed_pipeline.training.settings import CptCorpusSettings

DOCUMENTS_AT_ONCE = 1024
IGNORED = -100  # the label that takes no part in the loss
SEGMENTS = pa.schema(
    [
        ("block", pa.int64()),
        ("start", pa.int32()),
        ("id", pa.string()),
        ("document_start", pa.int64()),
        ("tokens", pa.int32()),
    ]
)
Ids = npt.NDArray[np.uint32]


def pack_corpus(draft: Draft[CptCorpusSettings]) -> None:
    """Tokenise FineMed-de with the base model's tokenizer and pack it. Raise UserError where the corpus is empty."""
    started = time.monotonic()
    model = draft.input("base_models", draft.identity.partition) / model_folder.FOLDER
    files = sorted((draft.input("finemed_de") / "data").glob("*.parquet"))
    encoder = DocumentEncoder(model)
    packing = pack(
        _encoded(files, encoder, draft),
        draft.folder,
        sequence_length=draft.settings.sequence_length,
        vocabulary_size=model_folder.vocabulary_size(model),
        padding_id=encoder.end_id,
    )
    if not packing["documents"]:
        raise UserError("finemed_de holds no document to train on; lower the classifier's precision or widen the source")
    draft.metrics.update(packing)
    draft.metrics.update(document_end=encoder.end_token, tokens_per_s=round(packing["tokens"] / (time.monotonic() - started)))


def pack(
    documents: Iterable[Sequence[tuple[str, Ids]]], folder: Path, *, sequence_length: int, vocabulary_size: int, padding_id: int
) -> dict[str, int]:
    """Pack batches of (id, token ids) into `folder` and return the counts that `packing.json` holds.

    `tokens` counts what came in, `packed_tokens` what a reader of the blocks finds: they are equal, or a token was lost.
    """
    dtype = np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
    tokens = _GrowingArray(folder / "tokens.npy", dtype, row_length=sequence_length)
    starts = _GrowingArray(folder / "segment_starts.npy", np.int64)
    count = {"documents": 0, "tokens": 0, "packed_tokens": 0, "segments": 0, "split_documents": 0}
    with tokens, starts, pq.ParquetWriter(folder / "segments.parquet", SEGMENTS, compression="zstd") as segments:
        for batch in documents:
            table, first_positions = _segments(batch, offset=count["tokens"], sequence_length=sequence_length)
            tokens.append(np.concatenate([ids for _, ids in batch]))
            starts.append(first_positions)
            segments.write_table(table)
            count["documents"] += len(batch)
            count["tokens"] += sum(len(ids) for _, ids in batch)
            count["packed_tokens"] += int(np.sum(table["tokens"]))
            count["segments"] += len(table)
            count["split_documents"] += _split_documents(table)
        padding = -count["tokens"] % sequence_length
        if padding:
            starts.append(np.array([count["tokens"]]))
            tokens.append(np.full(padding, padding_id))
    count |= {"padding": padding, "blocks": tokens.rows, "sequence_length": sequence_length}
    (folder / "packing.json").write_text(json.dumps(count, indent=2, sort_keys=True) + "\n", "utf-8")
    return count


class PackedBlocks:
    """The blocks of a packed corpus, memory-mapped; `blocks[i]` is what a causal language model is trained on.

    `position_ids` restart at each segment. transformers reads them as document bounds only where no attention mask and no cache is
    given: an all-ones mask or `use_cache=True` silently lets documents see each other. `labels` leave out the padding and each
    segment's first token, which nothing that its model may see could predict.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = np.load(folder / "tokens.npy", mmap_mode="r")
        self.starts = np.load(folder / "segment_starts.npy", mmap_mode="r")
        self.count: dict[str, int] = model_folder.read_json(folder / "packing.json")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def sequence_length(self) -> int:
        return int(self.tokens.shape[1])

    def __getitem__(self, block: int) -> dict[str, Any]:
        """Return `input_ids`, `labels` and `position_ids` of a block, int64 of (sequence_length,), and the `block` itself."""
        length = self.sequence_length
        first, last = np.searchsorted(self.starts, [block * length, (block + 1) * length])
        starts = np.asarray(self.starts[first:last]) - block * length
        position = np.arange(length)
        segment_start = np.zeros(length, dtype=np.int64)
        segment_start[starts] = starts
        input_ids = self.tokens[block].astype(np.int64)
        labels = input_ids.copy()
        labels[starts] = IGNORED
        labels[max(0, self.count["tokens"] - block * length) :] = IGNORED
        return {
            "input_ids": input_ids,
            "labels": labels,
            "position_ids": position - np.maximum.accumulate(segment_start),
            "block": block,
        }

    def documents(self, blocks: Iterable[int]) -> list[str]:
        """Return the ids of the documents that stand in some blocks, sorted."""
        wanted = pq.read_table(self.folder / "segments.parquet", columns=["id"], filters=[("block", "in", sorted(set(blocks)))])
        return sorted(set(wanted["id"].to_pylist()))


def _encoded(files: Sequence[Path], encoder: DocumentEncoder, draft: Draft[Any]) -> Iterator[list[tuple[str, Ids]]]:
    """Yield encoded documents in the corpus' order, a batch at a time."""
    done = 0
    for number, path in enumerate(files, start=1):
        for batch in pq.ParquetFile(path).iter_batches(DOCUMENTS_AT_ONCE, columns=["id", "text"]):
            yield list(zip(batch["id"].to_pylist(), encoder.encode(batch["text"].to_pylist()), strict=True))
            done += len(batch)
        draft.report(f"packed {done:,} documents, file {number}/{len(files)}")


def _segments(batch: Sequence[tuple[str, Ids]], *, offset: int, sequence_length: int) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Cut a batch of documents, the first of which starts at token `offset` of the corpus, at every multiple of `sequence_length`."""
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
            "tokens": np.diff(np.append(starts, document_starts[-1])).astype(np.int32),
        },
        schema=SEGMENTS,
    )
    return table, starts


def _split_documents(segments: pa.Table) -> int:
    """Count the documents that go on in another block, by their first continuation."""
    is_continued = segments["document_start"].to_numpy() > 0
    return int(np.sum(is_continued[1:] & ~is_continued[:-1]))


class _GrowingArray:
    """A .npy file that is written from front to back without knowing its length beforehand."""

    def __init__(self, path: Path, dtype: type[np.generic], row_length: int | None = None) -> None:
        self.file = path.open("wb")
        self.dtype = np.dtype(dtype)
        self.row_length = row_length
        self.size = 0
        self._write_header()

    @property
    def rows(self) -> int:
        return self.size // (self.row_length or 1)

    def append(self, values: npt.NDArray[Any]) -> None:
        self.file.write(values.astype(self.dtype).tobytes())
        self.size += len(values)

    def _write_header(self) -> None:
        """Write the header; numpy pads it so that it keeps its length while the first dimension grows."""
        shape = (self.rows, self.row_length) if self.row_length else (self.rows,)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)

    def __enter__(self) -> "_GrowingArray":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.seek(0)
        self._write_header()
        self.file.close()

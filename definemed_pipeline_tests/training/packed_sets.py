"""Documents to pack whose every token tells where it comes from, and a way to unpack them that is not the reader's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from hypothesis import settings
from hypothesis import strategies as st

from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.encoding import Ids
from definemed_pipeline.training.packing import pack

PADDING = 7
fifty_examples = settings(deadline=None, max_examples=50)  # the machine may be busy
document_lengths = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5), min_size=1, max_size=6)
sequence_lengths = st.integers(2, 17)


def documents_of(batches: list[list[int]]) -> list[list[tuple[str, Ids]]]:
    """Number the documents; no token comes twice, so that a token in the wrong place is seen."""
    numbers, tokens = iter(range(10**6)), iter(range(10, 10**6))
    return [
        [(f"d{next(numbers)}", np.array([next(tokens) for _ in range(length)], dtype=np.uint32)) for length in batch]
        for batch in batches
    ]


def packed(
    folder: Path, batches: list[list[tuple[str, Ids]]], sequence_length: int, vocabulary_size: int = 10**6
) -> PackedBlocks:
    pack(batches, folder, sequence_length=sequence_length, vocabulary_size=vocabulary_size, padding_id=PADDING)
    return PackedBlocks(folder)


def unpack(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Put the documents together again from what `segments.parquet` says alone."""
    tokens = np.load(folder / "tokens.npy")
    found: dict[str, list[int]] = {}
    for row in pq.read_table(folder / "segments.parquet").to_pylist():
        assert row["document_start"] == len(found.setdefault(row["id"], []))
        found[row["id"]] += tokens[row["block"], row["start"] : row["start"] + row["tokens"]].tolist()
    yield from found.items()

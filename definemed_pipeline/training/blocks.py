"""Read the blocks of a packed set back without loading them; how they were packed stands in `packing`."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from definemed_pipeline import model_folder

IGNORED = -100  # the label that takes no part in the loss


class PackedBlocks:
    """The blocks of a packed set, memory-mapped; `blocks[i]` is what a causal language model is trained on.

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

    @cached_property
    def mean_attended_length(self) -> float:
        """The mean number of tokens that a token attends to, itself among them, padding left out; 0 where there is none.

        A segment of n tokens has n (n + 1) / 2 pairs of token and attended token: what attention costs follows from this number alone.
        """
        starts = np.asarray(self.starts[: self.count["segments"]])  # the one behind them is that of the padding
        lengths = np.diff(starts, append=self.count["tokens"])
        return float(np.sum(lengths * (lengths + 1) // 2)) / max(self.count["tokens"], 1)

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

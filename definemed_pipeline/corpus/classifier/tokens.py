"""Tokenized documents as one array, and the batches they are read in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """Documents as token ids: those of document i are `ids[starts[i]:starts[i + 1]]`; 4 bytes a token."""

    ids: Ids
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Return the tokens of each document."""
        return np.diff(self.starts)

    def document(self, index: int) -> Ids:
        """Return the ids of one document."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def padded(self, chosen: Ints, padding: int) -> Ids:
        """Return the ids of some documents, filled up to the longest, shape (documents, tokens)."""
        lengths = self.lengths[chosen]
        grid = np.full((len(chosen), lengths.max()), padding, dtype=np.int32)
        grid[np.arange(grid.shape[1]) < lengths[:, None]] = np.concatenate([self.document(index) for index in chosen])
        return grid


def tokens_of(documents: Sequence[Ids]) -> Tokens:
    """Lay documents end to end."""
    starts = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    return Tokens(np.concatenate([np.zeros(0, np.int32), *documents]), starts)


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Lay several lists of documents end to end."""
    lengths = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
    ids = np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)])
    return Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def batches_of_like_length(lengths: Ints, batch_tokens: int) -> list[Ints]:
    """Divide documents into batches of at most `batch_tokens` tokens, padding included; one longer than that is a batch by itself.

    Longest first: if a batch does not fit into memory, the first one does not.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        end = start + max(1, batch_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start:end])
        start = end
    return batches

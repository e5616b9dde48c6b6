"""Which documents are trained on, which are held out and which replayed: decided by ids and counts, never by how documents come in batches.

The corpus is divided by a keyed hash of each document's id. General documents are taken in their order: the first are held out, the next
replayed. One that the corpus holds too, or that was held out under the same id before, is passed over, so that nothing held out is trained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from definemed_pipeline.keyed_hash import keyed_hash
from definemed_pipeline.training.packing import TRAIN, Batch
from definemed_pipeline.training.parts import PASSED_OVER

REPLAY, HELD_OUT_CORPUS, HELD_OUT_GENERAL = "replay", "held_out_corpus", "held_out_general"
Keys = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CorpusDivision:
    """The corpus' documents: `known` are the keys of all, sorted; those of the `held_out` smallest are held out."""

    known: Keys
    held_out: int
    seed: int

    @classmethod
    def of(cls, ids: Iterable[Sequence[str]], *, share: float, seed: int) -> "CorpusDivision":
        """Draw documents to hold out, each with a probability of `share`.

        Of two or more at least one is held out, where a share is asked for, and at least one is trained on.
        """
        known = np.sort(np.concatenate([np.empty(0, np.uint64), *(keyed_hash(some, seed) for some in ids)]))
        drawn = int(np.searchsorted(known, np.uint64(round(share * (1 << 64)))))
        return cls(known=known, held_out=min(max(drawn, 1), len(known) - 1) if share and len(known) else 0, seed=seed)

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the documents of a batch by their role."""
        keys = keyed_hash((name for name, _ in batch), self.seed)
        is_held_out = keys < self.known[self.held_out] if self.held_out else np.zeros(len(batch), dtype=bool)
        return {TRAIN: _chosen(batch, ~is_held_out), HELD_OUT_CORPUS: _chosen(batch, is_held_out)}


@dataclass(kw_only=True)
class GeneralDivision:
    """General documents: they are held out until there are `held_out_tokens` of them, then replayed until there are `replay_tokens`.

    Both count down.
    """

    corpus: CorpusDivision
    held_out_tokens: int
    replay_tokens: int
    held_out_keys: Keys = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def lacking_tokens(self) -> int:
        """Return how many tokens are wanted still; a document is taken whole, so there may be some more than wanted."""
        return max(self.held_out_tokens, 0) + max(self.replay_tokens, 0)

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the documents of a batch by their role; what comes when there is enough has none."""
        keys = keyed_hash((name for name, _ in batch), self.corpus.seed)
        lengths = np.array([len(ids) for _, ids in batch], dtype=np.int64)
        is_new = ~_among(keys, self.corpus.known)
        to_hold_out = _wanted(lengths * is_new, self.held_out_tokens)
        held_out = is_new & to_hold_out
        self.held_out_keys = np.union1d(self.held_out_keys, keys[held_out])
        is_new &= ~_among(keys, self.held_out_keys)
        to_replay = _wanted(lengths * is_new, self.replay_tokens)
        replayed = is_new & to_replay
        self.held_out_tokens -= int(np.sum(lengths[held_out]))
        self.replay_tokens -= int(np.sum(lengths[replayed]))
        return {
            HELD_OUT_GENERAL: _chosen(batch, held_out),
            REPLAY: _chosen(batch, replayed),
            PASSED_OVER: _chosen(batch, (to_hold_out | to_replay) & ~held_out & ~replayed),
        }

    def go_on(self, held_out_ids: Iterable[str], *, held_out_tokens: int, replay_tokens: int) -> None:
        """Take over what an earlier try divided."""
        self.held_out_keys = np.union1d(self.held_out_keys, keyed_hash(held_out_ids, self.corpus.seed))
        self.held_out_tokens -= held_out_tokens
        self.replay_tokens -= replay_tokens


def _wanted(lengths: npt.NDArray[np.int64], tokens: int) -> Bools:
    """Say which documents come before there are so many tokens."""
    return np.cumsum(lengths) - lengths < tokens


def _among(keys: Keys, known: Keys) -> Bools:
    """Say which keys are among known ones, which are sorted."""
    places = np.searchsorted(known, keys)
    found = places < len(known)
    found[found] = known[places[found]] == keys[found]
    return found


def _chosen(batch: Batch, chosen: Bools) -> Batch:
    return [document for document, wanted in zip(batch, chosen, strict=True) if wanted]

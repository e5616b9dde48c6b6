"""Repeated n-grams of words, as the Gopher rules measure them (Rae et al. 2021, appendix A), for many documents at once.

Both measures are shares of a text's characters:
- top n-gram: the most frequent n-gram's length, the spaces between its words included, times its number of occurrences. Among
  equally frequent ones it is the one that comes first; where none is repeated, the first of all.
- duplicate n-grams: a text is read from left to right. An n-gram that was read before counts with the lengths of its words, and reading goes
  on behind it; else reading goes on with the next word. So no character counts twice, and n-grams that begin inside a found one are not read.

What makes it fast: a bound on how often each word occurs in its document rules nearly every document out of the first measure, and
n-grams holding a word that occurs once out of the second. Then, an n-gram can only be repeated where the two (n-1)-grams in it are. What is left is
sorted by hash, or read step by step, all documents at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from definemed_pipeline.corpus.text import GOLDEN, Hashes, Offsets, Ragged, mixed

Mask = npt.NDArray[np.bool_]
SLOTS_PER_WORD = 4  # of the table that bounds how often a word occurs; a shared slot costs time, and never changes an outcome


@dataclass(frozen=True)
class Texts:
    """The words of documents: their hashes, the length of each word and of each document's text in characters."""

    words: Ragged
    word_characters: Offsets
    text_characters: Offsets

    @cached_property
    def owners(self) -> Offsets:
        """The document each word belongs to."""
        return self.words.owners

    @cached_property
    def room(self) -> Offsets:
        """The words from each word to the end of its document, itself included."""
        return self.words.offsets[1:][self.owners] - np.arange(len(self.owners))

    @cached_property
    def ends(self) -> Offsets:
        """Characters before each word over all documents, and of all words: differences are lengths of n-grams without spaces."""
        return np.concatenate(([0], np.cumsum(self.word_characters)))

    @cached_property
    def occurrences(self) -> Offsets:
        """At least the number of times that each word occurs in its document."""
        slots = 1 << max(SLOTS_PER_WORD * len(self.owners), 1).bit_length()
        slot = (self.in_document(self.words.hashes, self.owners) & np.uint64(slots - 1)).astype(np.int64)
        return np.bincount(slot, minlength=slots)[slot]

    def in_document(self, hashes: Hashes, owners: Offsets) -> Hashes:
        """Make equal hashes of different documents different."""
        return mixed(hashes ^ mixed(owners.astype(np.uint64) + GOLDEN))

    def grams(self, starts: Offsets, n: int) -> Hashes:
        """Hash the n-grams that begin at these words, within their documents."""
        rolled = np.zeros(len(starts), np.uint64)
        for step in range(n):
            rolled = rolled * GOLDEN + self.words.hashes[starts + step]
        return self.in_document(rolled, self.owners[starts])

    def breaking(self, characters: Offsets, documents: Offsets, limit: float) -> Mask:
        """Say for each count of characters whether it is a larger share of its document's text than the limit."""
        return characters / self.text_characters[documents] > limit


def top_ngram_above(texts: Texts, n: int, limit: float) -> Offsets:
    """Return the documents, in order, whose most frequent n-gram of words takes more than `limit` of the text's characters.

    An n-gram occurs at most as often as its rarest word, which leaves few documents to look at.
    """
    runs = max(len(texts.owners) - n + 1, 0)  # including those that reach into the next document, left out below
    occurrences = texts.occurrences[:runs].copy()
    for step in range(1, n):
        np.minimum(occurrences, texts.occurrences[step : step + runs], out=occurrences)
    lengths = texts.ends[n : n + runs] - texts.ends[:runs] + n - 1
    possible = texts.breaking(occurrences * lengths, texts.owners[:runs], limit) & (texts.room[:runs] >= n)
    if not possible.any():
        return np.zeros(0, np.int64)
    looked_at = np.zeros(len(texts.words), np.bool_)
    looked_at[texts.owners[:runs][possible]] = True
    starts = np.flatnonzero(looked_at[texts.owners[:runs]] & (texts.room[:runs] >= n))
    _, firsts, counts = np.unique(texts.grams(starts, n), return_index=True, return_counts=True)
    documents = texts.owners[starts[firsts]]
    order = np.lexsort((firsts, -counts, documents))
    top = order[np.unique(documents[order], return_index=True)[1]]
    above = texts.breaking(counts[top] * lengths[starts[firsts[top]]], documents[top], limit)
    return documents[top][above]


def duplicate_ngrams_above(texts: Texts, limits: Mapping[int, float]) -> dict[int, Offsets]:
    """Return for each n, in ascending order, the documents whose duplicate n-grams take more than its limit of the text's characters.

    A document found for one n is not looked at for the next.
    """
    found: dict[int, Offsets] = {}
    starts, previous = np.flatnonzero(texts.occurrences > 1), 1
    for n in sorted(limits):
        for longer in range(previous + 1, n + 1):
            starts = _extended(starts, texts, longer)
        previous = n
        repeats = _Repeats.of(starts, texts, n)
        bound = repeats.covered(texts)
        above = repeats.above(texts, np.flatnonzero(texts.breaking(bound, np.arange(len(bound)), limits[n])), limits[n])
        found[n] = above
        later = [limit for other, limit in limits.items() if other > n]
        if not later:
            break
        left = texts.breaking(bound, np.arange(len(bound)), min(later))
        left[above] = False
        starts = repeats.starts[left[texts.owners[repeats.starts]]]
    return found


def _extended(starts: Offsets, texts: Texts, n: int) -> Offsets:
    """Return where an n-gram may begin that occurs twice, of the starts (in order) of such (n-1)-grams: where another begins at the next word."""
    followed = starts[:-1][np.diff(starts) == 1]
    return followed[texts.room[followed] >= n]


@dataclass(frozen=True)
class _Repeats:
    """The n-grams that occur more than once in their document, in order: where each begins, which one it is, whether it is the first."""

    n: int
    starts: Offsets
    gram: Offsets
    first: Mask

    @classmethod
    def of(cls, starts: Offsets, texts: Texts, n: int) -> "_Repeats":
        _, first, gram, counts = np.unique(texts.grams(starts, n), return_index=True, return_inverse=True, return_counts=True)
        is_first = np.zeros(len(starts), np.bool_)
        is_first[first] = True
        repeated = counts[gram] > 1
        return cls(n, starts[repeated], gram[repeated], is_first[repeated])

    def covered(self, texts: Texts) -> Offsets:
        """Count per document the characters in n-grams that stood in the text before: no fewer than reading finds, no more for a larger n."""
        starts = self.starts[~self.first]
        fresh = starts.copy()
        np.maximum(fresh[1:], starts[:-1] + self.n, out=fresh[1:])
        characters = texts.ends[starts + self.n] - texts.ends[fresh]
        covered = np.zeros(len(texts.words), np.int64)
        np.add.at(covered, texts.owners[starts], characters)
        return covered

    def above(self, texts: Texts, documents: Offsets, limit: float) -> Offsets:
        """Return those of the documents in which reading from left to right finds more than the limit."""
        is_read = np.ones(int(self.gram.max(initial=-1)) + 1, np.bool_)  # by n-gram; taken back for those that reading skips
        total = np.zeros(len(texts.words), np.int64)
        owners = np.append(texts.owners[self.starts], -1)
        starts = np.append(self.starts, np.iinfo(np.int64).max)
        # The next n-gram, from each on, that stood in the text before.
        entries = np.arange(len(starts))
        candidates = np.where(np.append(self.first, False), len(entries) - 1, entries)
        following = np.minimum.accumulate(candidates[::-1])[::-1]
        at = following[np.searchsorted(owners[:-1], documents)]
        while len(
            at
        ):  # a loop over steps: all documents take each step together, and the outcome of one decides where the next begins
            found = is_read[self.gram[at]]
            is_read[self.gram[at]] = True
            hits = at[found]
            total[owners[hits]] += texts.ends[starts[hits] + self.n] - texts.ends[starts[hits]]
            skipped = np.minimum(hits[:, None] + np.arange(1, self.n), len(entries) - 1)
            skipped = skipped[starts[skipped] < (starts[hits] + self.n)[:, None]]
            is_read[self.gram[skipped[self.first[skipped]]]] = False
            document = owners[at]
            at = following[np.searchsorted(starts, starts[at] + np.where(found, self.n, 1))]
            at = at[(owners[at] == document) & ~texts.breaking(total[document], document, limit)]
        return documents[texts.breaking(total[documents], documents, limit)]

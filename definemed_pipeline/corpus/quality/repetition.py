"""Repeated n-grams of words, as the Gopher rules measure them (Rae et al. 2021, appendix A), for many documents at once.

Both measures are shares of a text's characters:
- top n-gram: the most frequent n-gram's length, the spaces between its words included, times its number of occurrences. Among
  equally frequent ones it is the one that comes first; where none is repeated, the first of all.
- duplicate n-grams: a text is read from left to right. An n-gram that was read before counts with the lengths of its words, and reading goes
  on behind it; else reading goes on with the next word. So no character counts twice, and n-grams that begin inside a found one are not read.

What makes it fast: hardly an n-gram is made of words alone that recur in their document, and only such n-grams can be repeated. How often its rarest
word occurs bounds how often an n-gram does, which rules nearly every document out of the first measure. And an n-gram can only be repeated where
the two (n-1)-grams in it are. What is left is sorted by hash, or read step by step, all documents at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from definemed_pipeline.corpus.text import GOLDEN, Hashes, Offsets, Ragged, mixed, ranges

Mask = npt.NDArray[np.bool_]
SLOTS_PER_WORD = 2  # of the table that bounds how often a word occurs; a shared slot costs time, and never changes an outcome


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
    def ends(self) -> Offsets:
        """Characters before each word over all documents, and of all words: differences are lengths of n-grams without spaces."""
        return np.concatenate(([0], np.cumsum(self.word_characters)))

    @cached_property
    def hashes(self) -> Hashes:
        """The hash of each word, another one in each document."""
        salts = mixed(np.arange(len(self.words), dtype=np.uint64) + GOLDEN)
        return self.words.hashes ^ salts[self.owners]

    @cached_property
    def occurrences(self) -> Offsets:
        """At least the number of times that each word occurs in its document."""
        bits = max(SLOTS_PER_WORD * len(self.hashes), 1).bit_length()
        slot = ((self.hashes * GOLDEN) >> np.uint64(64 - bits)).view(np.int64)
        return np.bincount(slot, minlength=1 << bits)[slot]

    def recurring(self, n: int) -> Offsets:
        """Return where n words in a row begin, in order, of which each seems to recur in the document."""
        while len(self._recurring) < n:
            self._recurring.append(self.followed(self._recurring[-1], len(self._recurring) + 1))
        return self._recurring[n - 1]

    @cached_property
    def _recurring(self) -> list[Offsets]:
        """What `recurring` has found so far, by n - 1."""
        return [np.flatnonzero(self.occurrences > 1)]

    def followed(self, starts: Offsets, n: int) -> Offsets:
        """Return those starts of (n-1)-grams, in order, at whose next word another begins: the only places where an n-gram of two such begins."""
        followed = starts[:-1][starts[1:] - starts[:-1] == 1]
        return followed[followed + n <= self.words.offsets[self.owners[followed] + 1]]

    def grams(self, starts: Offsets, n: int) -> Hashes:
        """Hash the n-grams that begin at these words: equal where their words and their document are."""
        rolled = np.zeros(len(starts), np.uint64)
        for step in range(n):
            rolled = rolled * GOLDEN + self.hashes[starts + step]
        return mixed(rolled)

    def breaking(self, characters: Offsets, documents: Offsets, limit: float) -> Mask:
        """Say for each count of characters whether it is a larger share of its document's text than the limit."""
        return characters / self.text_characters[documents] > limit


def top_ngram_above(texts: Texts, n: int, limit: float) -> Offsets:
    """Return the documents, in order, whose most frequent n-gram of words takes more than `limit` of the text's characters."""
    documents = np.flatnonzero(texts.words.lengths >= n)
    first = texts.words.offsets[documents]
    recurring = texts.recurring(n)
    most = texts.occurrences[recurring]
    for step in range(1, n):
        most = np.minimum(most, texts.occurrences[recurring + step])
    possible = texts.breaking(most * _spaced(texts, recurring, n), texts.owners[recurring], limit)
    looked_at = np.zeros(len(texts.words), np.bool_)
    looked_at[texts.owners[recurring[possible]]] = True
    looked_at[documents[texts.breaking(_spaced(texts, first, n), documents, limit)]] = True  # where none is repeated
    return _top_ngram_above(texts, np.flatnonzero(looked_at), n, limit) if looked_at.any() else np.zeros(0, np.int64)


def _top_ngram_above(texts: Texts, documents: Offsets, n: int, limit: float) -> Offsets:
    """Return those of the documents, of at least n words each, that break the limit, by counting all their n-grams."""
    starts = ranges(texts.words.offsets[documents], texts.words.lengths[documents] - n + 1)
    _, firsts, counts = np.unique(texts.grams(starts, n), return_index=True, return_counts=True)
    owners = texts.owners[starts[firsts]]
    order = np.lexsort((firsts, -counts, owners))
    top = order[np.unique(owners[order], return_index=True)[1]]
    return documents[texts.breaking(counts[top] * _spaced(texts, starts[firsts[top]], n), documents, limit)]


def _spaced(texts: Texts, starts: Offsets, n: int) -> Offsets:
    """Return the lengths of n-grams with the spaces between their words."""
    return texts.ends[starts + n] - texts.ends[starts] + n - 1


def duplicate_ngrams_above(texts: Texts, limits: Mapping[int, float]) -> dict[int, Offsets]:
    """Return for each n, in ascending order, the documents whose duplicate n-grams take more than its limit of the text's characters.

    A document found for one n is not looked at for the next.
    """
    found: dict[int, Offsets] = {}
    everyone = np.arange(len(texts.words))
    previous = min(limits, default=1)
    starts = texts.recurring(previous)
    for n in sorted(limits):
        for longer in range(previous + 1, n + 1):
            starts = texts.followed(starts, longer)
        previous = n
        repeats = _Repeats.of(starts, texts, n)
        covered = repeats.covered(texts)
        found[n] = repeats.above(texts, np.flatnonzero(texts.breaking(covered, everyone, limits[n])), limits[n])
        later = [limit for other, limit in limits.items() if other > n]
        if not later:
            break
        left = texts.breaking(covered, everyone, min(later))
        left[found[n]] = False
        starts = repeats.starts[left[texts.owners[repeats.starts]]]
    return found


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
        # A loop over steps, which all documents take together: the outcome of one decides where the next begins.
        while len(at):
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

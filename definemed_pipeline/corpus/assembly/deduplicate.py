"""Exact and near duplicates among millions of documents: which say the same words as another, and which one of them stays.

Exact duplicates have the same folded words in the same order. Near duplicates share a band of their MinHash signatures (see `minhash`), and
each pair that does is verified by the exact Jaccard similarity of its shingle sets. Similar pairs are joined to groups.

**Keep-policy.** Of each group the best document stays: the one with the highest language score, among equals the longest, then the one with the
smallest id, then, where documents share an id too, the one with the smallest digest. So the outcome depends neither on the order of documents nor on
how they are divided into shards, and what stays holds no more duplicates.

**Memory.** A few arrays of numbers over all documents and one band at a time; pairs are made and verified in slices. The texts of
documents that share a band with another are read once, in the order of the files, and their shingle sets laid down in a file
(some 4 kB a document), from which pairs are then compared.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from definemed_pipeline.corpus.assembly.minhash import DIGEST, band_name, jaccard, shingles
from definemed_pipeline.corpus.assembly.segments import Bools, Numbers, Segments
from definemed_pipeline.corpus.settings import MedicalDocumentsSettings
from definemed_pipeline.corpus.text import Hashes, word_hashes

# In a band's bucket each document is compared with the best this many: a template copied 100,000 times costs 10^7 pairs, not 10^10.
COMPARED = 100
PAIRS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Duplicates:
    """Documents that say what another says. All are numbers; `kept[i]` is the document that stays in the place of `dropped[i]`."""

    dropped: Numbers
    kept: Numbers

    @classmethod
    def among(cls, ranked: Numbers, best: Numbers) -> "Duplicates":
        """Make it of documents in the order of the keep-policy, given the position of the best of each one's group."""
        others = np.flatnonzero(best != np.arange(len(best)))
        return cls(ranked[others], ranked[best[others]])


def best_first(segments: Segments, id_ranks: npt.NDArray[np.uint32]) -> Numbers:
    """Return the numbers of all documents in the order of the keep-policy."""
    scores = segments.column("language_score")
    unknown_last = np.where(np.isnan(scores), np.inf, -scores)
    high, low = (segments.column(name) for name in DIGEST)
    return np.lexsort((low, high, id_ranks, -segments.column("words").astype(np.int32), unknown_last))


def equal(ranked: Numbers, *columns: npt.NDArray[Any]) -> Duplicates:
    """Return the documents that agree with a better one in every column. `ranked` are numbers, best first."""
    values = [column[ranked] for column in columns]
    order = np.lexsort(values)  # stable: equal ones stay best first
    is_new = np.ones(len(order), bool)
    if len(order):
        is_new[1:] = np.any([value[order[1:]] != value[order[:-1]] for value in values], axis=0)
    best = np.empty(len(order), np.int64)
    best[order] = order[_run_starts(is_new)]
    return Duplicates.among(ranked, best)


def exact_duplicates(segments: Segments, ranked: Numbers) -> Duplicates:
    """Return the exact duplicates among some documents, given best first."""
    return equal(ranked, *(segments.column(name) for name in DIGEST))


def near_duplicates(
    segments: Segments, ranked: Numbers, settings: MedicalDocumentsSettings, min_jaccard: float, folder: Path
) -> Duplicates:
    """Return the near duplicates among some documents without exact ones, given best first.

    `settings` are those the segments were signed with; `folder` takes the shingle sets while this runs.
    """
    candidates = ranked[_share_a_band(segments, ranked, settings.bands)]
    if not len(candidates):
        return Duplicates(candidates, candidates)
    groups = _Groups(len(candidates))
    with _ShingleSets(folder / "shingles", segments, candidates, settings.ngram) as sets:
        for band in range(settings.bands):
            for left, right in _pairs(segments.column(band_name(band))[candidates]):
                _join(left, right, groups, sets, min_jaccard)
    return Duplicates.among(candidates, groups.best())


def _share_a_band(segments: Segments, ranked: Numbers, bands: int) -> Bools:
    """Say which documents share the bucket of at least one band with another: at most a few percent of a corpus."""
    found = np.zeros(len(ranked), bool)
    for band in range(bands):
        order, place = _buckets(segments.column(band_name(band))[ranked])
        is_shared = place > 0
        is_shared[:-1] |= place[1:] > 0
        found[order[is_shared]] = True
    return found


def _run_starts(is_new: Bools) -> Numbers:
    """Return for every element of a sorted array the position where its run of equal ones starts."""
    return np.maximum.accumulate(np.where(is_new, np.arange(len(is_new)), 0))


def _buckets(values: Hashes) -> tuple[Numbers, Numbers]:
    """Return positions ordered by value and, among equals, best first; and of each the place within its bucket."""
    order = np.argsort(values, kind="stable")
    found = values[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = found[1:] != found[:-1]
    return order, np.arange(len(order)) - _run_starts(is_new)


def _pairs(values: Hashes) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the pairs of positions to compare in one band, the better one left, in slices."""
    order, place = _buckets(values)
    later = np.flatnonzero(place)
    ends = np.cumsum(np.minimum(place[later], COMPARED))
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.append(np.searchsorted(ends, np.arange(0, total, PAIRS_AT_ONCE)), len(later)))
    for low, high in itertools.pairwise(cuts):
        members = later[low:high]
        counts = np.minimum(place[members], COMPARED)
        owner = np.repeat(np.arange(len(members)), counts)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield order[(members - place[members])[owner] + step], order[members[owner]]


def _join(left: Numbers, right: Numbers, groups: "_Groups", sets: "_ShingleSets", min_jaccard: float) -> None:
    """Join the similar pairs; those already in one group need no look, whichever pairs brought them there."""
    for a, b in zip(left.tolist(), right.tolist(), strict=True):  # a loop over pairs: each step depends on the one before
        if groups.root(a) != groups.root(b) and jaccard(sets[a], sets[b]) >= min_jaccard:
            groups.join(a, b)


class _Groups:
    """Union-find over positions; the root of a group is its smallest position, hence its best document."""

    def __init__(self, size: int) -> None:
        self._array = np.arange(size, dtype=np.uint32)
        self._parent = self._array.data  # single elements are read far faster through it

    def root(self, position: int) -> int:
        parent = self._parent
        while (above := parent[position]) != position:
            parent[position] = position = parent[above]
        return position

    def join(self, a: int, b: int) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        self._parent[high] = low

    def best(self) -> Numbers:
        """Return the root of every position."""
        best = self._array.astype(np.int64)
        for position in np.flatnonzero(best != np.arange(len(best))).tolist():
            best[position] = self.root(position)
        return best


class _ShingleSets:
    """The shingle sets of some documents in a file: `sets[position]` is sorted and without repeats.

    The file is read piece by piece and not mapped, so that it takes none of the memory that a process is allowed.
    """

    def __init__(self, path: Path, segments: Segments, numbers: Numbers, ngram: int) -> None:
        self._path = path
        wanted = np.zeros(len(segments), bool)
        wanted[numbers] = True
        position = np.zeros(len(segments), np.uint32)
        position[numbers] = np.arange(len(numbers))
        self._end = np.zeros(len(numbers), np.int64)
        self._size = np.zeros(len(numbers), np.int64)
        written = 0
        with path.open("wb") as file:
            for found, texts in segments.texts(wanted):
                shingled = shingles(word_hashes(texts), ngram)
                for index, place in enumerate(position[found]):
                    content = np.unique(shingled.document(index))
                    file.write(content.tobytes())
                    written += content.nbytes
                    self._end[place], self._size[place] = written, content.nbytes

    def __getitem__(self, position: int) -> Hashes:
        size = int(self._size[position])
        return np.frombuffer(os.pread(self._file.fileno(), size, int(self._end[position]) - size), np.uint64)

    def __enter__(self) -> "_ShingleSets":
        self._file = self._path.open("rb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._path.unlink()

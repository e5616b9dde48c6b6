"""Words of a text, their hashes and n-grams: the one notion of "the same words" that all corpus stages share.

Nothing here knows what the words are for.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

WORD = r"[\p{L}\p{M}\p{N}]+"
# German transcription of composed and decomposed letters, so that "Ärzte" in either form and "AERZTE" are one word.
TRANSCRIPTION = {"ä": "ae", "ö": "oe", "ü": "ue", "a\u0308": "ae", "o\u0308": "oe", "u\u0308": "ue", "ß": "ss"}
# Odd 64-bit constants of splitmix64 (Steele, Lea, Flood 2014).
GOLDEN, MIX_1, MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
WORD_SEED = 1


@dataclass(frozen=True)
class Ragged:
    """One array of hashes per document: those of document i are `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Offsets:
        """Hashes per document."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Offsets:
        """The document each hash belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def document(self, index: int) -> Hashes:
        """Return the hashes of one document."""
        return self.hashes[self.offsets[index] : self.offsets[index + 1]]


def fold(text: pl.Expr) -> pl.Expr:
    """Fold case and umlauts away; null stays null.

    Other letters are not normalised: FineWeb2's texts already are, and normalising all of them costs twice as much as the rest.
    """
    return text.str.to_lowercase().str.replace_many(list(TRANSCRIPTION), list(TRANSCRIPTION.values()))


def folded_words(text: pl.Expr) -> pl.Expr:
    """Return the folded words of a text as a list: runs of letters, marks and digits; empty for null."""
    return fold(text).fill_null("").str.extract_all(WORD)


def word_hashes(texts: pl.Series) -> Ragged:
    """Hash the folded words of every text, in order.

    The hash is polars' own: fast, and stable for one release of polars, which is what one artifact is made with.
    """
    words = pl.select(folded_words(pl.lit(texts.cast(pl.String))).alias("words"))["words"]
    lengths = words.list.len().to_numpy().astype(np.int64)
    flat = words.list.explode(keep_nulls=False, empty_as_null=False)
    return Ragged(flat.hash(WORD_SEED).to_numpy(), np.concatenate(([0], np.cumsum(lengths))))


def ngram_hashes(words: Ragged, n: int, *, whole_if_shorter: bool = False) -> Ragged:
    """Hash every run of n words in a row within a document.

    A document of fewer than n words has none, or one made of all its words where `whole_if_shorter`.
    The hash is a polynomial in the words' hashes modulo 2^64, mixed by splitmix64 so that its low bits are as good as its high ones.
    """
    counts = np.maximum(words.lengths - n + 1, 0)
    runs = max(len(words.hashes) - n + 1, 0)  # including those that reach into the next document, left out below
    rolled = np.zeros(runs, np.uint64)
    for step in range(n):
        rolled = rolled * GOLDEN + words.hashes[step : step + runs]
    within = rolled[ranges(words.offsets[:-1], counts)]
    grams = Ragged(mixed(within + np.uint64(n)), np.concatenate(([0], np.cumsum(counts))))
    return _with_short_documents(grams, words, n) if whole_if_shorter else grams


def _with_short_documents(grams: Ragged, words: Ragged, n: int) -> Ragged:
    """Give each document of 1 to n - 1 words the hash of them all."""
    short = np.flatnonzero((words.lengths > 0) & (words.lengths < n))
    values = [_whole(words.document(int(index))) for index in short]
    if not values:
        return grams
    lengths = grams.lengths.copy()
    lengths[short] = 1
    return Ragged(
        np.insert(grams.hashes, grams.offsets[short], np.concatenate(values)), np.concatenate(([0], np.cumsum(lengths)))
    )


def _whole(words: Hashes) -> Hashes:
    return ngram_hashes(Ragged(words, np.array([0, len(words)])), len(words)).hashes


def ranges(starts: Offsets, counts: Offsets) -> Offsets:
    """Concatenate start, start + 1, ... (count numbers) for every start."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + counts, counts)


def mixed(values: Hashes) -> Hashes:
    """Mix the bits of each value (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * MIX_1
    values = (values ^ (values >> np.uint64(27))) * MIX_2
    return values ^ (values >> np.uint64(31))

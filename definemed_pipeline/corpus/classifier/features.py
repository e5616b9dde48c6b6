"""Hashed subword features: from a polars column of texts to numpy arrays, without a Python loop over words or n-grams.

A document is a bag of words, and a word is the bag of itself and the character n-grams of 3 to 5 letters inside it (as in
fastText, Bojanowski et al. 2017), so that a German compound nobody has seen still shares most of its parts with known words. A word
counts log(1 + tf), and a document's word weights have unit length. Because the document is linear in its words, scoring costs one
weight per distinct word of the batch instead of some forty n-grams per running word.

Hashes are computed here in wrapping 64-bit integer arithmetic and nowhere else: they are the same on every machine, under every
version of polars and numpy, in every process.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.corpus.classifier.settings import LinearSettings
from definemed_pipeline.corpus.text import WORD, fold, mixed

UInts = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BETWEEN_WORDS = WORD.replace("[", "[^", 1)
SEPARATOR = 32  # the blank that stands between words, and as their first and last letter in n-grams
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, hence invertible modulo 2 ** 64
BASE_INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))
WHOLE_WORD = 0  # what stands for the n-gram's length in the hash of a whole word


@dataclass(frozen=True, kw_only=True)
class Features:
    """Documents x words and words x buckets, both as compressed sparse rows.

    Entries `word_starts[d]:word_starts[d + 1]` of `words` and `weights` belong to document d; entries
    `bucket_starts[w]:bucket_starts[w + 1]` of `buckets` to word w, each with weight 1 / sqrt(their number). `hashes` are the words'
    own, in rising order.
    """

    hashes: UInts
    word_starts: Ints
    words: Ints
    weights: Floats
    bucket_starts: Ints
    buckets: Ints
    buckets_power: int

    def __len__(self) -> int:
        return len(self.word_starts) - 1

    @property
    def bucket_weights(self) -> Floats:
        """Return the weight of every entry of `buckets`: the buckets of a word together have unit length."""
        sizes = np.diff(self.bucket_starts)
        return np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)

    def dot(self, weights: Floats) -> Floats:
        """Return the product of every document with one weight per bucket, shape (documents,).

        Sums run in an order that depends on the document alone, so its product is the same bit for bit in any batch.
        """
        words = _sums_of_rows(self.bucket_starts, weights[self.buckets] * self.bucket_weights)
        return _sums_of_rows(self.word_starts, words[self.words] * self.weights)


def features_of(texts: pl.Series, settings: LinearSettings) -> Features:
    """Return the features of a column of texts; a null or wordless text has none."""
    letters, document_of_letter = _letters(_words_and_blanks(texts, settings.max_characters))
    starts, ends = _word_bounds(letters)
    hashes = _word_hashes(letters, starts, ends)
    documents, keys, counts, example = _count_words(document_of_letter[starts], hashes)
    distinct, first, words = np.unique(keys, return_index=True, return_inverse=True)
    chosen = example[first]
    bucket_starts, buckets = _subword_buckets(letters, starts[chosen], ends[chosen], distinct, settings)
    return Features(
        hashes=distinct,
        word_starts=np.searchsorted(documents, np.arange(len(texts) + 1)),
        words=words,
        weights=_unit_rows(documents, np.log1p(counts), len(texts)),
        bucket_starts=bucket_starts,
        buckets=buckets,
        buckets_power=settings.buckets_power,
    )


def _words_and_blanks(texts: pl.Series, max_characters: int) -> pl.Series:
    """Return the folded words of each text's first characters, parted by single blanks."""
    text = fold(pl.lit(texts.fill_null("").str.slice(0, max_characters)))
    return pl.select(text.str.replace_all(BETWEEN_WORDS, " ").str.strip_chars()).to_series()


def _letters(texts: pl.Series) -> tuple[UInts, Ints]:
    """Return all texts as one array of code points, a blank before each and one after the last, and each one's document."""
    joined = "".join(f" {text}" for text in texts) + " "
    letters = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = texts.str.len_chars().to_numpy().astype(np.int64) + 1
    return letters, np.repeat(np.arange(len(texts) + 1), np.append(lengths, 1))


def _word_bounds(letters: UInts) -> tuple[Ints, Ints]:
    """Return first letter and one past the last letter of every word."""
    steps = np.diff((letters != SEPARATOR).astype(np.int8))
    return np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1


def _word_hashes(letters: UInts, starts: Ints, ends: Ints) -> UInts:
    """Return the polynomial hash of every word, from prefix sums over the whole array divided by the power at its start."""
    powers = _powers(BASE, len(letters))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(letters * powers)])
    return _salted((sums[ends] - sums[starts]) * _powers(BASE_INVERSE, len(letters))[starts], WHOLE_WORD)


def _count_words(documents: Ints, hashes: UInts) -> tuple[Ints, UInts, Ints, Ints]:
    """Count each document's words: document, hash, count and one running word that is an example, sorted by document and hash."""
    order = np.lexsort((hashes, documents))
    documents, hashes = documents[order], hashes[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(documents) != 0) | (hashes[1:] != hashes[:-1])
    first = np.flatnonzero(is_first)
    return documents[first], hashes[first], np.diff(np.append(first, len(order))), order[first]


def _subword_buckets(letters: UInts, starts: Ints, ends: Ints, hashes: UInts, settings: LinearSettings) -> tuple[Ints, Ints]:
    """Return the buckets of each word: its own, then those of its n-grams, blanks before and after it included."""
    found_words, found_hashes = [np.arange(len(starts))], [hashes]
    for length in range(settings.shortest_ngram, settings.longest_ngram + 1):
        counts = np.maximum(ends - starts + 2 - length + 1, 0)
        words = np.repeat(np.arange(len(starts)), counts)
        begins = np.repeat(starts - 1 - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        hashed = np.zeros(len(begins), np.uint64)
        for offset in range(length):
            hashed = hashed * BASE + letters[begins + offset]
        found_words.append(words)
        found_hashes.append(_salted(hashed, length))
    words = np.concatenate(found_words)
    order = np.argsort(words, kind="stable")
    buckets = np.concatenate(found_hashes)[order] >> np.uint64(64 - settings.buckets_power)
    return np.searchsorted(words[order], np.arange(len(starts) + 1)), buckets.astype(np.int64)


def _powers(base: np.uint64, count: int) -> UInts:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers)


def _salted(hashes: UInts, salt: int) -> UInts:
    """Tell equal polynomials of words and of n-grams of each length apart, and spread them over all 64 bits."""
    return mixed(hashes + np.uint64((salt + 1) * int(BASE) % (1 << 64)))


def _unit_rows(rows: Ints, values: Floats, count: int) -> Floats:
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=count))
    return values / lengths[rows]


def _sums_of_rows(starts: Ints, values: Floats) -> Floats:
    count = len(starts) - 1
    return np.bincount(np.repeat(np.arange(count), np.diff(starts)), values, minlength=count).astype(np.float64)

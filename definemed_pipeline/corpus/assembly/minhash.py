"""What makes two texts comparable: a digest of all words, and the MinHash signature of the word shingles, in bands.

Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3. Which documents are dropped is decided in `deduplicate`.
"""

import functools
import hashlib

import numpy as np
import numpy.typing as npt
import polars as pl
from rensa import RMinHash

from definemed_pipeline.corpus.settings import MedicalDocumentsSettings
from definemed_pipeline.corpus.text import GOLDEN, Hashes, Ragged, mixed, ngram_hashes, word_hashes

DIGEST = ("digest_high", "digest_low")


def band_name(band: int) -> str:
    """Return the name of a band's column."""
    return f"band_{band:02}"


def signatures(words: Ragged, settings: MedicalDocumentsSettings) -> pl.DataFrame:
    """Return one row per document, all u64: the digest of all its words (two halves), and a hash per band of its shingles."""
    digests = b"".join(  # a loop over rows: the digest runs in C at a gigabyte a second
        hashlib.blake2b(words.document(index).tobytes(), digest_size=16).digest() for index in range(len(words))
    )
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    bands = _bands(shingles(words, settings.ngram), settings)
    columns = {name: halves[:, half] for half, name in enumerate(DIGEST)}
    columns |= {band_name(band): bands[:, band] for band in range(settings.bands)}
    return pl.DataFrame({name: np.ascontiguousarray(values) for name, values in columns.items()})


def shingles(words: Ragged, ngram: int) -> Ragged:
    """Return the hashes of every document's word n-grams; a shorter document is one shingle."""
    return ngram_hashes(words, ngram, whole_if_shorter=True)


def jaccard(left: Hashes, right: Hashes) -> float:
    """Return the Jaccard similarity of two sets, given as arrays without repeats."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def _bands(shingled: Ragged, settings: MedicalDocumentsSettings) -> npt.NDArray[np.uint64]:
    """Return documents x bands: a hash of each band's rows of the MinHash signature."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingled.hashes, shingled.offsets.astype(np.uint64), settings.num_perm, settings.seed
    )
    rows = np.array(matrix.to_rows(), np.uint64).reshape(len(shingled), settings.bands, settings.num_perm // settings.bands)
    keys = np.broadcast_to(np.arange(settings.bands, dtype=np.uint64), rows.shape[:2])
    for row in range(rows.shape[2]):
        keys = keys * GOLDEN + rows[:, :, row]
    return mixed(keys)


@functools.cache
def signing_fingerprint() -> str:
    """Return what changes when the installed libraries would sign a text otherwise.

    Words are hashed by polars and permuted by rensa, whose next releases may do it in another way. Signatures of different releases must never
    meet in one index, so this is part of the code version of the asset that makes them.
    """
    probe = word_hashes(pl.Series(["Übelkeit, Erbrechen und Fieber nach der Operation am 3. Tag"]))
    signed = signatures(probe, MedicalDocumentsSettings())
    return hashlib.sha256(repr(signed.row(0)).encode()).hexdigest()[:8]

"""Exact and near duplicates: which documents say the same words as another, and which one of them stays.

Exact duplicates have the same folded words in the same order. Near duplicates are found by MinHash signatures of word shingles
in bands (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3) and each pair that meets in a band is verified by
the exact Jaccard similarity of its shingle sets. Similar pairs are joined to groups, and one document of each group stays:
the one with the highest language score, among equals the longest, among equals the one with the smallest id. So the outcome does not depend on
the order of the documents, and what stays holds no more duplicates.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
from rensa import RMinHash

from definemed_pipeline.corpus.settings import NearDuplicateSettings
from definemed_pipeline.corpus.text import GOLDEN, Hashes, Ragged, mixed, ngram_hashes, word_hashes

# In a band's bucket each document is compared with the best this many: a template copied 100,000 times costs 10^7 pairs, not 10^10.
COMPARED = 100
PAIRS_AT_ONCE = 20_000  # bounds the texts held while pairs are verified


def signatures(words: Ragged, settings: NearDuplicateSettings, seed: int) -> pl.DataFrame:
    """Return one row per document: `digest` of all its words (16 bytes) and `bands`, one u64 per band, of its shingles."""
    digests = [  # a loop over rows: the digest runs in C at a gigabyte a second
        hashlib.blake2b(words.document(index).tobytes(), digest_size=16).digest() for index in range(len(words))
    ]
    bands = _bands(_shingles(words, settings), settings, seed)
    return pl.DataFrame(
        {"digest": pl.Series(digests, dtype=pl.Binary), "bands": pl.Series(bands, dtype=pl.Array(pl.UInt64, settings.bands))}
    )


def find_duplicates(
    documents: pl.DataFrame, texts: Callable[[pl.Series], pl.DataFrame], settings: NearDuplicateSettings
) -> pl.DataFrame:
    """Return the documents to drop: `document`, `reason` ("exact_duplicate" or "near_duplicate"), `kept_id`.

    `documents` has `document` (a distinct number), `id` (distinct), `language_score` (may be null), `words`, `digest` and `bands`;
    `texts` returns `document`, `text` for some of the numbers, in any order.
    """
    ranked = documents.sort("language_score", "words", "id", descending=[True, True, False], nulls_last=True).with_row_index(
        "rank"
    )
    first = ranked.group_by("digest", maintain_order=True).first().select("digest", kept_id="id", first="rank")
    joined = ranked.join(first, on="digest", maintain_order="left")
    exact = joined.filter(pl.col("rank") != pl.col("first")).select(
        "document", reason=pl.lit("exact_duplicate"), kept_id="kept_id"
    )
    near = _near_duplicates(joined.filter(pl.col("rank") == pl.col("first")), texts, settings)
    return pl.concat([exact, near]).sort("document")


def _shingles(words: Ragged, settings: NearDuplicateSettings) -> Ragged:
    return ngram_hashes(words, settings.ngram, whole_if_shorter=True)


def _bands(shingles: Ragged, settings: NearDuplicateSettings, seed: int) -> npt.NDArray[np.uint64]:
    """Return documents x bands: a hash of each band's rows of the MinHash signature."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.offsets.astype(np.uint64), settings.num_perm, seed
    )
    rows = np.array(matrix.to_rows(), np.uint64).reshape(len(shingles), settings.bands, settings.num_perm // settings.bands)
    keys = np.broadcast_to(np.arange(settings.bands, dtype=np.uint64), rows.shape[:2])
    for row in range(rows.shape[2]):
        keys = keys * GOLDEN + rows[:, :, row]
    return mixed(keys)


def _near_duplicates(
    documents: pl.DataFrame, texts: Callable[[pl.Series], pl.DataFrame], settings: NearDuplicateSettings
) -> pl.DataFrame:
    pairs = _candidates(documents)
    similar = [_verified(chunk, documents, texts, settings) for chunk in pairs.iter_slices(PAIRS_AT_ONCE)]
    groups = _components(pl.concat(similar) if similar else pairs)
    return (
        groups.join(documents.select("rank", "document"), on="rank")
        .join(documents.select(best="rank", kept_id="id"), on="best")
        .select("document", reason=pl.lit("near_duplicate"), kept_id="kept_id")
    )


def _candidates(documents: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of ranks `left` < `right` that share a band's bucket, each once."""
    members = (
        documents.select("rank", pl.col("bands").arr.to_list())
        .explode("bands", keep_nulls=False, empty_as_null=False)
        .filter(pl.len().over("bands") > 1)
        .sort("rank")
    )
    best = members.filter(pl.int_range(pl.len()).over("bands") < COMPARED)
    return (
        best.rename({"rank": "left"})
        .join(members.rename({"rank": "right"}), on="bands")
        .filter(pl.col("left") < pl.col("right"))
        .select("left", "right")
        .unique()
        .sort("left", "right")
    )


def _verified(
    pairs: pl.DataFrame,
    documents: pl.DataFrame,
    texts: Callable[[pl.Series], pl.DataFrame],
    settings: NearDuplicateSettings,
) -> pl.DataFrame:
    """Keep the pairs whose shingle sets have at least the Jaccard similarity asked for."""
    wanted = pl.concat([pairs["left"], pairs["right"]]).unique()
    chosen = documents.filter(pl.col("rank").is_in(wanted.implode())).select("rank", "document")
    found = texts(chosen["document"]).join(chosen, on="document")
    shingles = _shingles(word_hashes(found["text"]), settings)
    sets = {rank: np.unique(shingles.document(index)) for index, rank in enumerate(found["rank"])}
    # A loop over pairs: each intersects two sorted arrays in C.
    similarity = [jaccard(sets[left], sets[right]) for left, right in pairs.iter_rows()]
    return pairs.filter(pl.Series(similarity, dtype=pl.Float64) >= settings.min_jaccard)


def jaccard(left: Hashes, right: Hashes) -> float:
    """Return the Jaccard similarity of two sets, given as arrays without repeats."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def _components(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return `rank`, `best` (the smallest rank it is connected to) of every rank that is not itself the best, by union-find."""
    parent: dict[int, int] = {}

    def root(rank: int) -> int:
        while (above := parent.get(rank, rank)) != rank:
            parent[rank] = rank = parent.get(above, above)
        return rank

    for left, right in pairs.select("left", "right").iter_rows():  # a loop over pairs: each step depends on the one before
        low, high = sorted((root(left), root(right)))
        if low != high:
            parent[high] = low
    found = {rank: root(rank) for rank in list(parent)}
    return pl.DataFrame(
        [(rank, best) for rank, best in found.items() if rank != best],
        schema={"rank": pairs.schema["left"], "best": pairs.schema["left"]},
        orient="row",
    )

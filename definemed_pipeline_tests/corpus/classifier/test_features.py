import hashlib
import subprocess
import sys

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.classifier.features import Features, features_of
from definemed_pipeline.corpus.classifier.settings import LinearSettings

SETTINGS = LinearSettings(buckets_power=16)
GOLDEN_TEXTS = ["Die Ärztin verordnet Antibiotika, Antibiotika.", "Straßenbahn ÜBER die Brücke – 12 km", "", "Ω 漢字 naïve"]
TEXTS = st.lists(st.none() | st.text(max_size=60), max_size=6)


def features(*texts: str | None, section: LinearSettings = SETTINGS) -> Features:
    return features_of(pl.Series(texts, dtype=pl.String), section)


def buckets(text: str) -> set[int]:
    return set(features(text).buckets.tolist())


def golden_digest() -> str:
    found = features(*GOLDEN_TEXTS)
    parts = (found.word_starts, found.words, found.weights.round(12), found.bucket_starts, found.buckets)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def test_features_are_the_same_in_every_release_of_the_libraries() -> None:
    assert golden_digest() == "572077b6bc3f7cd7"


def test_features_are_the_same_in_another_process() -> None:
    command = "from definemed_pipeline_tests.corpus.classifier.test_features import golden_digest; print(golden_digest())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == golden_digest()


@settings(deadline=None)
@given(TEXTS, st.integers(0, 2**32 - 1))
def test_a_document_scores_the_same_bit_for_bit_alone_and_in_company(texts: list[str | None], seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=1 << SETTINGS.buckets_power)
    together = features(*texts).dot(weights)
    assert together.tolist() == [features(text).dot(weights)[0] for text in texts]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_word_weights_of_a_document_have_unit_length(text: str) -> None:
    weights = features(text).weights
    assert weights.size == 0 or np.isclose((weights**2).sum(), 1)


def test_hashes_agree_with_their_definition() -> None:
    base, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1

    def bucket(letters: str, salt: int, reverse: bool) -> int:
        value = 0
        for letter in reversed(letters) if reverse else letters:
            value = (value * base + ord(letter)) & mask
        value = (value + (salt + 1) * base) & mask
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = ((value ^ (value >> shift)) * factor) & mask
        return (value ^ (value >> 31)) >> (64 - SETTINGS.buckets_power)

    grams = [" he", "her", "erz", "rz ", " her", "herz", "erz ", " herz", "herz "]
    expected = {bucket("herz", 0, True)} | {bucket(gram, len(gram), False) for gram in grams}
    assert buckets("Herz") == expected


def test_spelling_does_not_matter_where_it_means_the_same() -> None:
    assert buckets("Ärztin") == buckets("AERZTIN") == buckets("A\u0308rztin")


def test_a_compound_shares_subwords_with_its_parts_and_other_words_do_not() -> None:
    compound = buckets("Herzinsuffizienzbehandlung")
    assert len(compound & buckets("Herzinsuffizienz")) > 0.6 * len(buckets("Herzinsuffizienz"))
    assert len(compound & buckets("Fußballplatz")) < 3


def test_ngrams_do_not_reach_into_the_next_word_or_document() -> None:
    alone = [set(features(text).buckets.tolist()) for text in ("Herz", "Lunge")]
    assert buckets("Herz, Lunge!") == alone[0] | alone[1]
    assert set(features("Herz", "Lunge").buckets.tolist()) == alone[0] | alone[1]


def test_a_repeated_word_weighs_more_but_less_than_twice() -> None:
    found = features("Herz Lunge Herz")
    light, heavy = sorted(found.weights)
    assert np.isclose(heavy / light, np.log(3) / np.log(2))


def test_only_the_first_characters_are_read() -> None:
    section = LinearSettings(max_characters=100)
    head = "Herz " * 20
    longer, short = features(head + "Lunge", section=section), features(head, section=section)
    assert longer.buckets.tolist() == short.buckets.tolist()


def test_null_and_wordless_texts_have_no_features() -> None:
    found = features(None, "", " – !? ", "Herz")
    assert np.diff(found.word_starts).tolist() == [0, 0, 0, 1]
    assert len(features()) == 0

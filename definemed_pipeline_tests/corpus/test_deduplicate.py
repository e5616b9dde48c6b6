import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.deduplicate import find_duplicates, signatures
from definemed_pipeline.corpus.settings import NearDuplicateSettings
from definemed_pipeline.corpus.text import word_hashes

SETTINGS = NearDuplicateSettings()


def text(seed: int, words: int = 120) -> str:
    chance = random.Random(seed)
    return " ".join(f"wort{chance.randrange(5000)}" for _ in range(words))


def edited(original: str, *places: int) -> str:
    words = original.split()
    for place in places:
        words[place] = "anders"
    return " ".join(words)


def dropped(web: pl.DataFrame, section: NearDuplicateSettings = SETTINGS) -> dict[str, tuple[str, str]]:
    """Return id -> (reason, id of the document kept in its place)."""
    light = web.with_row_index("document").with_columns(words=pl.col("text").str.count_matches(r"\S+"))
    documents = pl.concat([light.drop("text"), signatures(word_hashes(web["text"]), section, 0)], how="horizontal")
    found = find_duplicates(
        documents, lambda wanted: light.filter(pl.col("document").is_in(wanted.implode())).select("document", "text"), section
    )
    named = found.join(light.select("document", "id"), on="document")
    return {name: (reason, kept) for name, reason, kept in named.select("id", "reason", "kept_id").iter_rows()}


def web(texts: dict[str, str], scores: dict[str, float | None] | None = None) -> pl.DataFrame:
    frame = pl.DataFrame({"id": list(texts), "text": list(texts.values())}, schema={"id": pl.String, "text": pl.String})
    values = [(scores or {}).get(name, 0.9) for name in texts]
    return frame.with_columns(language_score=pl.Series(values, dtype=pl.Float64))


def test_texts_that_differ_in_case_spelling_of_umlauts_and_spacing_are_exact_duplicates() -> None:
    assert dropped(web({"a": "Die  Übelkeit, heute!", "b": "die uebelkeit HEUTE", "c": "die uebelkeit gestern"})) == {
        "b": ("exact_duplicate", "a")
    }


def test_a_text_with_a_changed_word_is_a_near_duplicate_and_a_different_text_is_not() -> None:
    first = text(1)
    assert dropped(web({"a": first, "b": edited(first, 60), "c": text(2)})) == {"b": ("near_duplicate", "a")}


def test_candidates_below_the_threshold_stay() -> None:
    first = text(1)
    changed = edited(first, 20, 60)  # two words changed: 106 of 126 shingles shared, Jaccard 0.84
    assert dropped(web({"a": first, "b": changed}), NearDuplicateSettings(min_jaccard=0.83)) == {"b": ("near_duplicate", "a")}
    assert dropped(web({"a": first, "b": changed}), NearDuplicateSettings(min_jaccard=0.85)) == {}


def test_similarity_is_followed_through_the_group() -> None:
    first = text(1, 300)
    middle = edited(first, 30, 90, 150)
    last = edited(middle, 60, 120, 180, 240)
    assert dropped(web({"a": first, "b": middle, "c": last}), NearDuplicateSettings(min_jaccard=0.85)) == {
        "b": ("near_duplicate", "a"),
        "c": ("near_duplicate", "a"),
    }


def test_the_best_language_score_stays_then_the_longest_then_the_smallest_id() -> None:
    first = text(1)
    longer = first + " und noch ein Satz"
    assert dropped(web({"a": first, "b": edited(first, 50), "c": longer}, {"b": 0.95})).keys() == {"a", "c"}
    assert dropped(web({"a": first, "b": edited(first, 50), "c": longer})).keys() == {"a", "b"}
    assert dropped(web({"b": first, "a": edited(first, 50)})).keys() == {"b"}
    assert dropped(web({"a": first, "b": first}, {"a": None})).keys() == {"a"}


PLANS = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.integers(0, 119), max_size=3), st.sampled_from([0.8, 0.9])), max_size=12
)


def planned(plan: list[tuple[int, list[int], float]]) -> pl.DataFrame:
    texts = {f"id{number:02}": edited(text(seed), *places) for number, (seed, places, _) in enumerate(plan)}
    return web(texts, {f"id{number:02}": score for number, (_, _, score) in enumerate(plan)})


@settings(max_examples=30, deadline=None)
@given(PLANS, st.randoms(use_true_random=False))
def test_the_outcome_does_not_depend_on_the_order_of_the_documents(
    plan: list[tuple[int, list[int], float]], chance: random.Random
) -> None:
    documents = planned(plan)
    order = list(range(documents.height))
    chance.shuffle(order)
    assert dropped(documents[order]) == dropped(documents)


@settings(max_examples=30, deadline=None)
@given(PLANS)
def test_what_stays_holds_no_more_duplicates(plan: list[tuple[int, list[int], float]]) -> None:
    documents = planned(plan)
    gone = dropped(documents)
    assert {kept for reason, kept in gone.values() if reason == "near_duplicate"}.isdisjoint(gone)
    assert dropped(documents.filter(~pl.col("id").is_in(list(gone)))) == {}


@pytest.mark.parametrize("shared", [0, 30])
def test_a_bucket_with_very_many_copies_is_reduced_to_one(shared: int) -> None:
    first = text(1, 200)
    copies = {f"id{number:04}": edited(first, number % 100, 100 + shared) + f" nr{number}" for number in range(300)}
    assert len(dropped(web(copies))) == 299


def test_no_document_and_documents_without_words_are_no_trouble() -> None:
    assert dropped(web({})) == {}
    assert dropped(web({"a": "", "b": " ", "c": "ein Wort"})) == {"b": ("exact_duplicate", "a")}

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.assembly import deduplicate
from definemed_pipeline.corpus.assembly.deduplicate import best_first, equal, exact_duplicates, near_duplicates
from definemed_pipeline.corpus.assembly.segments import Segments, write_segment
from definemed_pipeline.corpus.settings import MedicalDocumentsSettings

SETTINGS = MedicalDocumentsSettings()
Division = Sequence[Sequence[int]]


def text(seed: int, words: int = 120) -> str:
    chance = random.Random(seed)
    return " ".join(f"wort{chance.randrange(5000)}" for _ in range(words))


def edited(original: str, *places: int) -> str:
    words = original.split()
    for place in places:
        words[place] = "anders"
    return " ".join(words)


def web(texts: Mapping[str, str], scores: Mapping[str, float | None] | None = None) -> pl.DataFrame:
    frame = pl.DataFrame({"id": list(texts), "text": list(texts.values())}, schema={"id": pl.String, "text": pl.String})
    values = [(scores or {}).get(name, 0.9) for name in texts]
    return frame.with_columns(
        language_score=pl.Series(values, dtype=pl.Float64),
        row=pl.int_range(pl.len(), dtype=pl.Int64),
        words=pl.col("text").str.count_matches(r"\S+").cast(pl.Int64),
    )


def segment(documents: pl.DataFrame, folder: Path) -> Path:
    folder.mkdir()
    write_segment([documents.sort("id", "row")], documents.schema, folder, SETTINGS)
    return folder


def found(folders: Sequence[Path], min_jaccard: float = 0.75) -> dict[str, tuple[str, str]]:
    """Return id -> (reason, id of the document kept in its place), of segments in which no id stands twice."""
    segments = Segments(tuple(folder.name for folder in folders), tuple(folders))
    ranked = best_first(segments, segments.id_ranks())
    exact = exact_duplicates(segments, ranked)
    left = ranked[~np.isin(ranked, exact.dropped)]
    with tempfile.TemporaryDirectory() as scratch:
        near = near_duplicates(segments, left, SETTINGS, min_jaccard, Path(scratch))
    ids = segments.ids(np.arange(len(segments))).to_list()
    return {
        ids[gone]: (reason, ids[kept])
        for reason, pairs in (("exact", exact), ("near", near))
        for gone, kept in zip(pairs.dropped.tolist(), pairs.kept.tolist(), strict=True)
    }


def dropped(documents: pl.DataFrame, division: Division | None = None, min_jaccard: float = 0.75) -> dict[str, tuple[str, str]]:
    """Return the same of documents that are divided into shards by their rows (default: one shard)."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [documents[list(rows)] for rows in division] if division is not None else [documents]
        return found([segment(part, Path(folder) / f"s{index}") for index, part in enumerate(parts)], min_jaccard)


def test_texts_that_differ_in_case_spelling_of_umlauts_and_spacing_are_exact_duplicates() -> None:
    assert dropped(web({"a": "Die  Übelkeit, heute!", "b": "die uebelkeit HEUTE", "c": "die uebelkeit gestern"})) == {
        "b": ("exact", "a")
    }


def test_a_text_with_a_changed_word_is_a_near_duplicate_and_a_different_text_is_not() -> None:
    first = text(1)
    assert dropped(web({"a": first, "b": edited(first, 60), "c": text(2)})) == {"b": ("near", "a")}


def test_candidates_below_the_threshold_stay() -> None:
    first = text(1)
    changed = edited(first, 20, 60)  # two words changed: 106 of 126 shingles shared, Jaccard 0.84
    assert dropped(web({"a": first, "b": changed}), min_jaccard=0.83) == {"b": ("near", "a")}
    assert dropped(web({"a": first, "b": changed}), min_jaccard=0.85) == {}


def test_similarity_is_followed_through_the_group() -> None:
    first = text(1, 300)
    middle = edited(first, 30, 90, 150)
    last = edited(middle, 60, 120, 180, 240)
    assert dropped(web({"a": first, "b": middle, "c": last}), min_jaccard=0.85) == {"b": ("near", "a"), "c": ("near", "a")}


def test_the_best_language_score_stays_then_the_longest_then_the_smallest_id() -> None:
    first = text(1)
    longer = first + " und noch ein Satz"
    assert dropped(web({"a": first, "b": edited(first, 50), "c": longer}, {"b": 0.95})).keys() == {"a", "c"}
    assert dropped(web({"a": first, "b": edited(first, 50), "c": longer})).keys() == {"a", "b"}
    assert dropped(web({"b": first, "a": edited(first, 50)})).keys() == {"b"}
    assert dropped(web({"a": first, "b": first}, {"a": None})).keys() == {"a"}


def test_of_documents_with_one_id_the_best_stays_wherever_it_stands(tmp_path: Path) -> None:
    short, long = web({"same": text(1, 20)}), web({"same": text(2, 30)})
    for name, frames in {"a": (short, long), "b": (long, short)}.items():
        (tmp_path / name).mkdir()
        folders = tuple(segment(frame, tmp_path / name / f"s{index}") for index, frame in enumerate(frames))
        segments = Segments(("s0", "s1"), folders)
        repeated = equal(best_first(segments, segments.id_ranks()), segments.id_ranks())
        assert segments.column("words")[repeated.dropped].tolist() == [20]
        assert segments.column("words")[repeated.kept].tolist() == [30]


PLANS = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.integers(0, 119), max_size=3), st.sampled_from([0.8, 0.9])), max_size=12
)


def planned(plan: list[tuple[int, list[int], float]]) -> pl.DataFrame:
    texts = {f"id{number:02}": edited(text(seed), *places) for number, (seed, places, _) in enumerate(plan)}
    return web(texts, {f"id{number:02}": score for number, (_, _, score) in enumerate(plan)})


def divided(size: int, chance: random.Random) -> Division:
    """Deal rows out to shards, some of them empty, in any order."""
    shards: list[list[int]] = [[] for _ in range(chance.randint(1, 4))]
    for row in range(size):
        chance.choice(shards).append(row)
    return shards


@settings(max_examples=25, deadline=None)
@given(PLANS, st.randoms(use_true_random=False))
def test_the_outcome_depends_neither_on_the_order_of_shards_nor_on_the_division_of_documents_into_them(
    plan: list[tuple[int, list[int], float]], chance: random.Random
) -> None:
    documents = planned(plan)
    assert dropped(documents, divided(documents.height, chance)) == dropped(documents)


@settings(max_examples=20, deadline=None)
@given(PLANS, PLANS)
def test_adding_a_segment_to_the_index_gives_what_a_build_from_nothing_gives(
    old: list[tuple[int, list[int], float]], new: list[tuple[int, list[int], float]]
) -> None:
    documents = planned([*old, *new])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = segment(documents[: len(old)], folder / "first")
        before = {path.name: path.read_bytes() for path in first.iterdir()}
        found([first])
        second = segment(documents[len(old) :], folder / "second")
        together = found([first, second])
        assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert together == dropped(documents)


@settings(max_examples=20, deadline=None)
@given(PLANS)
def test_what_stays_holds_no_more_duplicates(plan: list[tuple[int, list[int], float]]) -> None:
    documents = planned(plan)
    gone = dropped(documents)
    assert {kept for reason, kept in gone.values() if reason == "near"}.isdisjoint(gone)
    assert dropped(documents.filter(~pl.col("id").is_in(list(gone)))) == {}


@pytest.mark.parametrize("shared", [0, 30])
def test_a_bucket_with_very_many_copies_is_reduced_to_one(shared: int) -> None:
    first = text(1, 200)
    copies = {f"id{number:04}": edited(first, number % 100, 100 + shared) + f" nr{number}" for number in range(300)}
    assert len(dropped(web(copies))) == 299


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 7), st.integers(1, 40))
def test_a_band_yields_each_pair_of_a_bucket_once_in_slices(values: list[int], compared: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deduplicate, "COMPARED", compared)
        patch.setattr(deduplicate, "PAIRS_AT_ONCE", at_once)
        slices = list(deduplicate._pairs(np.array(values, np.uint64)))
    pairs = [pair for left, right in slices for pair in zip(left.tolist(), right.tolist(), strict=True)]
    expected = {
        (left, right)
        for right, value in enumerate(values)
        for left in [place for place in range(right) if values[place] == value][:compared]
    }
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert all(len(left) <= at_once + compared for left, _ in slices)


def test_no_document_and_documents_without_words_are_no_trouble() -> None:
    assert dropped(web({})) == {}
    assert dropped(web({}), []) == {}
    assert dropped(web({"a": "", "b": " ", "c": "ein Wort"})) == {"b": ("exact", "a")}

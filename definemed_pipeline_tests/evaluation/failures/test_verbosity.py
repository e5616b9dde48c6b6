import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.evaluation.failures.language_mixing import words_of
from definemed_pipeline.evaluation.failures.verbosity import first_repetition, markdown_share, repetition


def test_repetition_is_the_share_of_repeated_n_grams() -> None:
    assert repetition(list("abcd"), 2) == 0.0
    assert repetition(list("ababab"), 2) == 0.6  # ab ba ab ba ab: two of five are new
    assert repetition(["a"], 2) == 0.0


@given(st.text(alphabet="ab ,\n", max_size=40), st.integers(min_value=1, max_value=4))
def test_the_first_repetition_stands_where_words_come_again_and_nowhere_where_none_do(text: str, size: int) -> None:
    start, end = first_repetition(text, size)
    again = words_of(text[start:end])
    assert (start == end) == (repetition(words_of(text), size) == 0.0)
    if again:
        before = words_of(text[:start])
        seen = before + again
        assert len(again) == size
        assert any(seen[place : place + size] == again for place in range(len(before)))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("Ein Satz. Noch einer * 3.", 0.0),
        ("# Titel\n\nEin Satz.", 0.5),
        ("- Ruhe\n1. Trinken\n| a | b |\n> Zitat", 1.0),
        ("Das ist **wichtig**.\nDas nicht.", 0.5),
    ],
)
def test_markdown_is_counted_by_line(text: str, share: float) -> None:
    assert markdown_share(text) == share

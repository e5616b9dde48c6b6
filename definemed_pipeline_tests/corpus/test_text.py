import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.text import folded_words, ngram_hashes, word_hashes

TEXTS = st.lists(st.lists(st.sampled_from(["arzt", "blut", "haus", "ä", "7"]), max_size=8).map(" ".join), max_size=6)


def words_of(text: str | None) -> list[str]:
    found: list[str] = (
        pl.DataFrame({"text": [text]}, schema={"text": pl.String}).select(folded_words(pl.col("text"))).item().to_list()
    )
    return found


def test_case_umlauts_and_punctuation_are_folded_away() -> None:
    assert words_of("Ärztliche MASSNAHMEN: 5mg/Tag, Größe-XL!") == ["aerztliche", "massnahmen", "5mg", "tag", "groesse", "xl"]


def test_composed_decomposed_and_transcribed_umlauts_are_one_word() -> None:
    assert words_of("Übelkeit") == words_of("U\u0308belkeit") == words_of("UEBELKEIT") == ["uebelkeit"]


def test_null_and_empty_texts_have_no_words() -> None:
    assert words_of(None) == words_of("") == words_of(" \n…") == []
    assert word_hashes(pl.Series([None, "", "ja"], dtype=pl.String)).lengths.tolist() == [0, 0, 1]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_ngrams_are_equal_exactly_where_their_words_are(texts: list[str], n: int) -> None:
    split = [words_of(text) for text in texts]
    expected = [tuple(words[i : i + n]) for words in split for i in range(len(words) - n + 1)]
    grams = ngram_hashes(word_hashes(pl.Series(texts, dtype=pl.String)), n)
    assert grams.lengths.tolist() == [max(len(words) - n + 1, 0) for words in split]
    assert len(set(grams.hashes.tolist())) == len(set(expected))
    assert len(set(zip(expected, grams.hashes.tolist(), strict=True))) == len(set(expected))


@settings(deadline=None)
@given(TEXTS, st.integers(2, 6))
def test_a_document_shorter_than_an_ngram_counts_as_a_whole_where_asked(texts: list[str], n: int) -> None:
    words = word_hashes(pl.Series(texts, dtype=pl.String))
    grams = ngram_hashes(words, n, whole_if_shorter=True)
    plain = ngram_hashes(words, n)
    for index in range(len(words)):
        length = int(words.lengths[index])
        if 0 < length < n:
            assert grams.document(index).tolist() == ngram_hashes(words, length).document(index).tolist()
        else:
            assert grams.document(index).tolist() == plain.document(index).tolist()

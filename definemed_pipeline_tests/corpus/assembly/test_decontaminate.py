import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.corpus.assembly.decontaminate import SHORTEST_WHOLE, read_questions
from definemed_pipeline.corpus.settings import QuestionColumns
from definemed_pipeline.corpus.text import word_hashes
from definemed_pipeline.errors import UserError

LONG = "Welche Untersuchung ist bei einem Patienten mit plötzlicher Atemnot zuerst angezeigt"
SHORT = "Wo liegt die Übelkeit vor"


def questions_file(folder: Path, *records: dict[str, object], name: str = "benchmark/b") -> Source:
    path = folder / f"{name.replace('/', '-')}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return Source(name=name, location=str(path), digest="")


def leaks(source: Source, texts: list[str], n: int = 8) -> list[tuple[int, str]]:
    questions = read_questions([source], n)
    found = questions.leaks(word_hashes(pl.Series(texts, dtype=pl.String))).join(questions.questions, on="question")
    return found.sort("document", "question").select("document", "question_id").rows()


def test_n_words_in_a_row_leak_whatever_their_case_and_punctuation(tmp_path: Path) -> None:
    source = questions_file(tmp_path, {"id": "q", "question": LONG, "choices": ["EKG", "MRT"]})
    quoted = "... bei einem PATIENTEN, mit ploetzlicher Atemnot - zuerst angezeigt? Das EKG."
    seven = "Welche Untersuchung ist bei einem Patienten mit Fieber zuerst angezeigt"
    assert leaks(source, ["nichts", quoted, seven]) == [(1, "q")]


def test_a_question_of_fewer_words_leaks_as_a_whole(tmp_path: Path) -> None:
    source = questions_file(tmp_path, {"id": "q", "question": SHORT, "choices": []})
    assert leaks(source, ["Frage: wo liegt die UEBELKEIT vor?", "Wo liegt die Übelkeit", SHORT]) == [(0, "q"), (2, "q")]


def test_a_question_too_short_to_say_anything_is_left_alone(tmp_path: Path) -> None:
    source = questions_file(
        tmp_path, {"id": "q", "question": "Was ist Fieber?"}, {"id": "r", "question": " ".join("abcd"[: SHORTEST_WHOLE - 1])}
    )
    assert leaks(source, ["Was ist Fieber? Fieber ist", "a b c d"]) == []


def test_long_choices_and_references_leak_and_short_ones_do_not(tmp_path: Path) -> None:
    choice = "Die sofortige Gabe von Sauerstoff über eine Maske im Sitzen"
    benchmark = questions_file(tmp_path, {"id": "q", "question": LONG, "choices": [choice, "das Herz und die große Lunge"]})
    instructions = questions_file(tmp_path, {"id": "i", "instruction": LONG, "reference": choice}, name="instructions/i")
    texts = [f"Hilfreich: {choice}.", "das Herz und die große Lunge"]
    assert leaks(benchmark, texts) == [(0, "q")]
    assert leaks(instructions, texts) == [(0, "i")]


def test_words_of_two_neighbouring_documents_are_no_leak(tmp_path: Path) -> None:
    source = questions_file(tmp_path, {"id": "q", "question": LONG})
    words = LONG.split()
    assert leaks(source, [" ".join(words[:7]), " ".join(words[7:])]) == []


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=9),
    st.lists(st.lists(st.sampled_from("abcde"), max_size=14), max_size=4),
    st.integers(2, 8),
)
def test_leaks_are_those_a_search_for_the_words_finds(
    tmp_path_factory: pytest.TempPathFactory, question: list[str], texts: list[list[str]], n: int
) -> None:
    source = questions_file(tmp_path_factory.mktemp("q"), {"id": "q", "question": " ".join(question)})
    length = min(n, len(question))
    grams = (
        [question[i : i + length] for i in range(len(question) - length + 1)] if length == n or length >= SHORTEST_WHOLE else []
    )
    expected = [
        (number, "q")
        for number, words in enumerate(texts)
        if any(words[i : i + length] in grams for i in range(len(words) - length + 1))
    ]
    assert leaks(source, [" ".join(words) for words in texts], n) == expected


def test_a_line_separator_of_unicode_within_a_question_does_not_cut_its_line(tmp_path: Path) -> None:
    source = questions_file(tmp_path, {"id": "r", "question": "Kurz"})
    path = Path(source.location)
    path.write_text(
        path.read_text("utf-8") + json.dumps({"id": "q", "question": f"{LONG}\u2028\x85?"}, ensure_ascii=False), "utf-8"
    )
    assert leaks(source, [LONG]) == [(0, "q")]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=r"benchmark/b: .*x\.jsonl cannot be read as UTF-8 text"):
        read_questions([Source(name="benchmark/b", location=str(tmp_path / "x.jsonl"), digest="")], 8)


def test_without_questions_nothing_leaks() -> None:
    assert read_questions([], 8).leaks(word_hashes(pl.Series([LONG]))).is_empty()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2 of .* does not fit"),
        ('{"id": "x", "frage": "?"}', "line 2 .*needed: a JSON object with id and question, choices or instruction, reference"),
        ('{"question": "ohne Kennung"}', "line 2 .*'id'"),
        ('{"id": "x", "question": 7}', "line 2 .*question and choices must be text"),
        ('{"id": "x", "question": "a", "choices": [1]}', "line 2 .*question and choices must be text"),
        ("[1]", "line 2"),
        ("[" * 100_000, "line 2"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, line: str, message: str) -> None:
    source = questions_file(tmp_path, {"id": "q", "question": LONG})
    path = Path(source.location)
    path.write_text(path.read_text("utf-8") + line, "utf-8")
    with pytest.raises(UserError, match=message):
        read_questions([source], 8)


COLUMNS = {"benchmark/b": QuestionColumns(id=None, texts=("frage", "optionen", "weitere"))}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_questions_in_other_columns_and_files_are_looked_for_with_their_choices(tmp_path: Path, suffix: str) -> None:
    choice = "ganz anders und doch lang genug um es wiederzufinden hier"
    rows = [{"frage": LONG, "optionen": {"A": "kurz", "B": choice}, "weitere": ["x"]}, {"frage": "kurz?", "optionen": {"A": "a", "B": "b"}, "weitere": [choice]}]  # fmt: skip
    path = tmp_path / f"b.{suffix}"
    if suffix == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    questions = read_questions([Source(name="benchmark/b", location=str(path), digest="")], 8, COLUMNS)
    assert questions.questions["question_id"].to_list() == ["1", "2"]
    found = questions.leaks(word_hashes(pl.Series([f"Man las: {LONG}", f"Da stand: {choice}"]))).rows()
    assert found == [(0, 0), (1, 0), (1, 1)]


def test_a_row_that_lacks_a_named_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"id": "q", "question": "Wer?"}')
    with pytest.raises(UserError, match=r"line 1 .*needed: a JSON object with id and frage, optionen, weitere"):
        read_questions([Source(name="benchmark/b", location=str(tmp_path / "b.jsonl"), digest="")], 8, COLUMNS)

"""Questions from files as others publish them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.questions import read_examples, read_questions
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkSettings, ColumnsSettings
from definemed_pipeline_tests.evaluation.conftest import QUESTIONS, write_lines

PROMPT = "Frage: {{question}}\nAntwort:"
MMLU = ColumnsSettings(id="sample_id", choices=("option_a", "option_b", "option_c", "option_d"))
MEDQA = ColumnsSettings(id=None, subject=None, choices="options", answer="answer_idx")


def source(path: Path) -> Source:
    return Source(name="benchmark/b", location=str(path), digest="")


def settings(path: Path, **changes: Any) -> BenchmarkSettings:
    return BenchmarkSettings(questions=str(path), prompt=PROMPT, **changes)


def mmlu_rows() -> list[dict[str, str]]:
    subjects = ("anatomy", "astronomy", "anatomy")
    return [
        {"sample_id": f"{subject}/test/{number}", "subject": subject, "question": f"Frage {number}?", "option_a": "ja", "option_b": "nein",
         "option_c": "nie", "option_d": "oft", "answer": "ABCD"[number]}
        for number, subject in enumerate(subjects)
    ]  # fmt: skip


def test_rows_laid_out_as_global_mmlus_are_read_from_parquet_and_kept_by_subject(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(mmlu_rows()), tmp_path / "test.parquet")
    found = read_questions(source(tmp_path / "test.parquet"), settings(tmp_path, columns=MMLU, subjects=("anatomy",)))
    assert [(one.id, one.answer) for one in found] == [("anatomy/test/0", 0), ("anatomy/test/2", 2)]
    assert found[0].choices == ("ja", "nein", "nie", "oft")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_laid_out_as_medqas_are_read_without_ids_and_with_choices_by_letter(tmp_path: Path, suffix: str) -> None:
    rows = [{"question": "Was hilft?", "options": {"B": "Ruhe", "A": "Eile"}, "answer_idx": "B"}, {"question": "Und wann?", "options": {"A": "nie", "B": "bald", "C": "oft"}, "answer_idx": "C"}]  # fmt: skip
    path = tmp_path / f"medqa.{suffix}"
    write_lines(path, rows) if suffix == "jsonl" else pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = read_questions(source(path), settings(path, columns=MEDQA))
    assert (first.id, first.choices, first.answer) == ("row-000001", ("Eile", "Ruhe"), 1)
    assert (second.choices, second.answer, second.subject) == (("nie", "bald", "oft"), 2, "")


@pytest.mark.parametrize(("answer", "index"), [(2, 2), ("C", 2), (" c ", 2), ("Die Leber und die Galle", 2)])
def test_an_answer_may_be_an_index_a_letter_or_the_text(tmp_path: Path, answer: object, index: int) -> None:
    path = write_lines(tmp_path / "q.jsonl", [{**QUESTIONS[0], "answer": answer}])
    assert read_questions(source(path), settings(path))[0].answer == index


def test_examples_keep_the_order_of_their_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", QUESTIONS[::-1])
    assert [one.id for one in read_examples(source(path), settings(path))] == [one["id"] for one in QUESTIONS[::-1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["Lunge"]}, "line 2: choices is"),
        ({"answer": 4}, "line 2: answer is 4; it must be the index of the right choice, 0 to 3, its letter, A to D, or its text"),
        ({"answer": "E"}, "line 2: answer is 'E'"),
        ({"answer": True}, "line 2: answer is True"),
        ({"id": "q00"}, "line 2: the id 'q00' occurs twice"),
        ({"question": ""}, "line 2: 'question' must be a non-empty text"),
    ],
)
def test_a_faulty_question_is_refused_with_file_and_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "faulty.jsonl", [QUESTIONS[0], {**QUESTIONS[1], **change}])
    with pytest.raises(UserError, match=r"faulty\.jsonl") as refused:
        read_questions(source(file), settings(file))
    assert message in str(refused.value)


@pytest.mark.parametrize(("content", "message"), [("[1]\n", "line 1: this is no JSON object"), ("{\n", "line 1: this is no JSON"), ("\n", "holds no records")])  # fmt: skip
def test_a_file_that_is_none_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        read_questions(source(tmp_path / "b.jsonl"), settings(tmp_path))


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_text(json.dumps(QUESTIONS[0]))
    with pytest.raises(UserError, match=r"b\.parquet is no parquet file"):
        read_questions(source(tmp_path / "b.parquet"), settings(tmp_path))


def test_a_subject_that_the_file_lacks_is_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", QUESTIONS)
    with pytest.raises(UserError, match=r"q\.jsonl has no question on anatomy; correct subjects"):
        read_questions(source(path), settings(path, subjects=("Organe", "anatomy")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "Antwort:"}, "prompt is 'Antwort:'"),
        ({"scoring": "letters"}, "allowed with scoring by letters: one that names each of the choices"),
        ({"num_fewshot": 2}, "num_fewshot is 2; allowed without a file of examples and without a validation_share: 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BenchmarkSettings(**{"questions": "q.jsonl", "prompt": PROMPT, **changes})

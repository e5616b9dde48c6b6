"""Multiple-choice questions as a recipe's files hold them: columns are mapped, answers may be indices, letters or texts."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkSettings, ColumnsSettings
from definemed_pipeline.evaluation.records import Row, UniqueIds, read_rows, require_texts

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, kw_only=True)
class Question:
    """A multiple-choice question; `answer` is the index of the right choice."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int


def read_questions(source: Source, settings: BenchmarkSettings) -> list[Question]:
    """Read a benchmark's questions, with `subjects` only those, sorted by id. Raise UserError naming file, line and fault."""
    found = [question for question in _questions(source, settings.columns) if _is_asked(question, settings)]
    if missing := set(settings.subjects) - {question.subject for question in found}:
        raise UserError(f"{source.location} has no question on {', '.join(sorted(missing))}; correct subjects in the recipe")
    return sorted(found, key=lambda question: question.id)


def read_examples(source: Source, settings: BenchmarkSettings) -> list[Question]:
    """Read the few-shot examples of a benchmark in the order of their file."""
    return [question for question in _questions(source, settings.columns) if _is_asked(question, settings)]


def _is_asked(question: Question, settings: BenchmarkSettings) -> bool:
    return not settings.subjects or question.subject in settings.subjects


def _questions(source: Source, columns: ColumnsSettings) -> list[Question]:
    ids, questions = UniqueIds(), []
    for number, (place, row) in enumerate(read_rows(source), start=1):
        texts = [columns.question, *(column for column in (columns.id, columns.subject) if column is not None)]
        require_texts(place, row, texts)
        choices = _choices(place, row, columns)
        question = Question(
            id=row[columns.id] if columns.id is not None else f"row-{number:06}",
            subject=row[columns.subject] if columns.subject is not None else "",
            question=row[columns.question],
            choices=choices,
            answer=_answer(place, row.get(columns.answer), choices),
        )
        ids.add(place, question.id)
        questions.append(question)
    return questions


def _choices(place: str, row: Row, columns: ColumnsSettings) -> tuple[str, ...]:
    if isinstance(columns.choices, tuple):
        found: Any = [row.get(column) for column in columns.choices]
    else:
        found = row.get(columns.choices)
        if isinstance(found, Mapping):  # {"A": "…", "B": "…"}; parquet fills letters that a row lacks with null
            found = [found[letter] for letter in sorted(found) if found[letter] is not None]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(one, str) and one.strip() for one in found):
        raise UserError(f"{place}: choices is {found!r}; a question needs a list of two or more non-empty answers")
    return tuple(found)


def _answer(place: str, found: Any, choices: tuple[str, ...]) -> int:
    letters = LETTERS[: len(choices)]
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < len(choices):
        return found
    if isinstance(found, str) and choices.count(found) == 1:
        return choices.index(found)
    if isinstance(found, str) and len(found.strip()) == 1 and found.strip().upper() in letters:
        return letters.index(found.strip().upper())
    raise UserError(
        f"{place}: answer is {found!r}; it must be the index of the right choice, 0 to {len(choices) - 1}, "
        f"its letter, A to {letters[-1]}, or its text"
    )

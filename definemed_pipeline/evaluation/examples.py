"""Benchmark questions and instructions as they stand in the recipe's JSON Lines files.

Reading and checking belong here; how a question is asked is in `benchmark.py`, how an instruction is answered in `generate.py`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Question:
    """A multiple-choice question; `answer` is the index of the right choice."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction with the answer a good model would give.

    `kind` is what sort of task it is; `format` is what it asks of the answer's form and a program can verify (see `FORMATS`), often nothing.
    """

    id: str
    kind: str
    instruction: str
    reference: str
    format: Mapping[str, Any] = field(default_factory=dict)


# What an instruction may declare about the form of its answer, and which values are allowed.
FORMATS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "max_words": (
        "a number of words from 1",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
    ),
    "list": ("true", lambda value: value is True),
    "table": ("true", lambda value: value is True),
    "json": ("true", lambda value: value is True),
    "pattern": ("a regular expression that the answer holds", lambda value: isinstance(value, str) and _compiles(value)),
}


def read_questions(source: Source) -> list[Question]:
    """Read a benchmark sorted by id. Raise UserError naming file, line and fault."""
    questions = []
    for place, record in _records(source, texts=("id", "subject", "question")):
        choices, answer = record.get("choices"), record.get("answer")
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
            raise UserError(f"{place}: choices is {choices!r}; a question needs a list of two or more non-empty answers")
        if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
            raise UserError(f"{place}: answer is {answer!r}; it must be the index of the right choice, 0 to {len(choices) - 1}")
        questions.append(
            Question(
                id=record["id"],
                subject=record["subject"],
                question=record["question"],
                choices=tuple(choices),
                answer=answer,
            )
        )
    return sorted(questions, key=lambda question: question.id)


def read_instructions(source: Source) -> list[Instruction]:
    """Read an instruction set sorted by id. Raise UserError naming file, line and fault."""
    fields = ("id", "kind", "instruction", "reference")
    instructions = [
        Instruction(**{field: record[field] for field in fields}, format=_format(place, record))
        for place, record in _records(source, texts=fields)
    ]
    return sorted(instructions, key=lambda instruction: instruction.id)


def _format(place: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an instruction declares about its answer's form; raise UserError for what nobody could verify."""
    declared = record.get("format") or {}
    if not isinstance(declared, dict) or (unknown := declared.keys() - FORMATS.keys()):
        found = ", ".join(sorted(unknown)) if isinstance(declared, dict) else repr(declared)
        raise UserError(f"{place}: format is {found}; it is a mapping with any of {', '.join(FORMATS)}")
    for name, value in declared.items():
        allowed, fits = FORMATS[name]
        if not fits(value):
            raise UserError(f"{place}: format.{name} is {value!r}; allowed: {allowed}")
    return declared


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _records(source: Source, *, texts: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line's object with its place, after checking that the named keys hold text and ids are unique."""
    seen: set[str] = set()
    with open_source(source.location) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{source.location}, line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{place}: this is no JSON ({error}); the file must hold one JSON object per line") from error
            for key in texts:
                if not isinstance(record, dict) or not isinstance(record.get(key), str) or not record[key].strip():
                    raise UserError(f"{place}: {key!r} must be a non-empty text; expected keys are {', '.join(texts)}")
            if record["id"] in seen:
                raise UserError(f"{place}: the id {record['id']!r} occurs twice; ids must be unique within a file")
            seen.add(record["id"])
            yield place, record
    if not seen:
        raise UserError(f"{source.location} holds no records; name a file with at least one")

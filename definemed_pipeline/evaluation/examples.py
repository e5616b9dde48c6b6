"""Instructions as they stand in the recipe's JSON Lines files. How they are answered is in `generate.py`; questions are in `benchmarks/`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.records import UniqueIds, read_rows, require_texts


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


def read_instructions(source: Source) -> list[Instruction]:
    """Read an instruction set sorted by id. Raise UserError naming file, line and fault."""
    fields, ids, instructions = ("id", "kind", "instruction", "reference"), UniqueIds(), []
    for place, row in read_rows(source):
        require_texts(place, row, fields)
        ids.add(place, row["id"])
        instructions.append(Instruction(**{field: row[field] for field in fields}, format=_format(place, row)))
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

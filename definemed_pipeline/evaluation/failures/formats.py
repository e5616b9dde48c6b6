"""Whether an answer keeps the form that its instruction asks for (what may be declared is in `examples.py`); all that is declared must hold."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

FENCE = re.compile(r"\A```[\w-]*\n(.*)\n```\Z", re.DOTALL)
ITEM = re.compile(r"^\s*(?:[-*+•–]|\d{1,3}[.)]|[a-zA-Z][.)])\s+\S")
DELIMITERS = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")


def broken_formats(response: str, declared: Mapping[str, Any]) -> list[str]:
    """Return which parts of the declared format an answer does not keep, in the order of `CHECKS`."""
    answer = response.strip()
    return [name for name, holds in CHECKS.items() if name in declared and not holds(answer, declared[name])]


def _within_words(answer: str, most: int) -> bool:
    return len(answer.split()) <= most


def _is_list(answer: str, _: bool) -> bool:
    """Tell whether there are two items or more and no more other lines than items: an opening and a closing line are no breach."""
    lines = [line for line in answer.splitlines() if line.strip()]
    items = sum(bool(ITEM.match(line)) for line in lines)
    return items >= 2 and 2 * items >= len(lines)


def _is_table(answer: str, _: bool) -> bool:
    """Tell whether there is a Markdown table: header, line of delimiters, a row or more, all with as many columns."""
    lines = answer.splitlines()
    for header, delimiters, row in zip(lines, lines[1:], lines[2:], strict=False):
        columns = _columns(header)
        if columns > 1 and DELIMITERS.match(delimiters) and _columns(delimiters) == _columns(row) == columns:
            return True
    return False


def _columns(line: str) -> int:
    return line.strip().strip("|").count("|") + 1 if "|" in line else 0


def _is_json(answer: str, _: bool) -> bool:
    """Tell whether the whole answer is an object or a list in JSON, in a code fence or bare."""
    fenced = FENCE.match(answer)
    try:
        return isinstance(json.loads(fenced[1] if fenced else answer), dict | list)
    except (ValueError, RecursionError):
        return False


def _fits(answer: str, pattern: str) -> bool:
    return re.search(pattern, answer, re.MULTILINE) is not None


CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "max_words": _within_words,
    "list": _is_list,
    "table": _is_table,
    "json": _is_json,
    "pattern": _fits,
}

"""Instructions whose answers a rule can check, in the manner of IFEval (Zhou et al. 2023): nobody has to judge, and nothing has to be known.

An item is `{"id", "instruction", "rules": [{"rule": "sentences", "exactly": 3}, …]}`. Counting rules take `exactly`, `at_least`, `at_most`:
`sentences`, `words`, `paragraphs` (parted by an empty line), `bullets` (lines that begin with -, * or •), `numbered` (lines that begin with a number and
a dot) and `occurs` (how often `word` stands there). `contains` and `omits` take `words`, `omits_sign` a `sign`, `starts_with` and `ends_with` a `text`;
`lower_case` and `upper_case` take nothing; `json` may take `keys`. Words count whole and without case. The rules know no language.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.records import UniqueIds, read_rows, require_texts

BOUNDS: dict[str, Callable[[int, int], bool]] = {
    "exactly": lambda count, bound: count == bound,
    "at_least": lambda count, bound: count >= bound,
    "at_most": lambda count, bound: count <= bound,
}
SENTENCE_END = re.compile(r"[.!?…]+[\"“”»«')\]]*(?=\s|$)")
NO_END = re.compile(r"(\b[^\W\d_]|\d)$")  # before the dot of "z. B." and of "am 12. Mai"
FENCE = re.compile(r"^```\w*\n(.*)\n```$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class CheckedInstruction:
    """An instruction with the rules its answer must keep."""

    id: str
    instruction: str
    rules: tuple[Mapping[str, Any], ...]


def read_checked_instructions(source: Source) -> list[CheckedInstruction]:
    """Read instructions with their rules, sorted by id. Raise UserError naming file, line and fault."""
    ids, found = UniqueIds(), []
    for place, row in read_rows(source):
        require_texts(place, row, ("id", "instruction"))
        ids.add(place, row["id"])
        rules = row.get("rules")
        if not isinstance(rules, list) or not rules:
            raise UserError(f"{place}: rules is {rules!r}; needed: a list of one or more rules")
        for rule in rules:
            _require_rule(place, rule)
        found.append(CheckedInstruction(id=row["id"], instruction=row["instruction"], rules=tuple(rules)))
    return sorted(found, key=lambda item: item.id)


def kept_rules(answer: str, rules: tuple[Mapping[str, Any], ...]) -> list[bool]:
    """Tell for each rule whether an answer keeps it; an empty answer keeps none."""
    text = answer.strip()
    return [bool(text) and _keeps(text, rule) for rule in rules]


def described(rule: Mapping[str, Any]) -> str:
    """Write a rule down in a few words, as in `sentences exactly 3`."""
    given = (f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in rule.items() if key != "rule")
    return " ".join([rule["rule"], *given])


def sentences(text: str) -> int:
    """Count sentences: ends that are followed by white space, without those of single letters and numbers, and what stands after the last."""
    ends = [match for match in SENTENCE_END.finditer(text) if match.end() == len(text) or not _is_abbreviation(text, match)]
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(rest.strip())


def _is_abbreviation(text: str, end: re.Match[str]) -> bool:
    return end.group().startswith(".") and NO_END.search(text[: end.start()]) is not None


def _lines(pattern: str) -> Callable[[str, Mapping[str, Any]], int]:
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text, _: len(compiled.findall(text))


COUNTS: dict[str, Callable[[str, Mapping[str, Any]], int]] = {
    "sentences": lambda text, _: sentences(text),
    "words": lambda text, _: len(text.split()),
    "paragraphs": lambda text, _: len(re.split(r"\n\s*\n", text)),
    "bullets": _lines(r"^\s*[-*•]\s+\S"),
    "numbered": _lines(r"^\s*\d+[.)]\s+\S"),
    "occurs": lambda text, rule: _occurrences(text, rule["word"]),
}
TESTS: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "contains": lambda text, rule: all(_occurrences(text, word) for word in rule["words"]),
    "omits": lambda text, rule: not any(_occurrences(text, word) for word in rule["words"]),
    "omits_sign": lambda text, rule: rule["sign"] not in text,
    "starts_with": lambda text, rule: text.startswith(rule["text"]),
    "ends_with": lambda text, rule: text.endswith(rule["text"]),
    "lower_case": lambda text, _: text == text.lower(),
    "upper_case": lambda text, _: text == text.upper(),
    "json": lambda text, rule: _is_json(text, rule.get("keys", ())),
}
PARAMETERS: dict[str, dict[str, type]] = {
    "occurs": {"word": str},
    "contains": {"words": list},
    "omits": {"words": list},
    "omits_sign": {"sign": str},
    "starts_with": {"text": str},
    "ends_with": {"text": str},
}
OPTIONAL: dict[str, dict[str, type]] = {"json": {"keys": list}}


def _keeps(text: str, rule: Mapping[str, Any]) -> bool:
    name = rule["rule"]
    if name in TESTS:
        return TESTS[name](text, rule)
    count = COUNTS[name](text, rule)
    return all(holds(count, rule[bound]) for bound, holds in BOUNDS.items() if bound in rule)


def _occurrences(text: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word.lower())}(?!\w)", text.lower()))


def _is_json(text: str, keys: list[str]) -> bool:
    fenced = FENCE.match(text)
    try:
        found = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict | list) and all(isinstance(found, dict) and key in found for key in keys)


def _require_rule(place: str, rule: Any) -> None:
    """Raise UserError for a rule that is unknown, lacks a parameter or has one it does not take."""
    name = rule.get("rule") if isinstance(rule, dict) else None
    if name not in COUNTS and name not in TESTS:
        raise UserError(f"{place}: the rule {rule!r} is not known; allowed: {', '.join([*COUNTS, *TESTS])}")
    given = {key: value for key, value in rule.items() if key != "rule"}
    bounds = {key: int for key in BOUNDS if key in given} if name in COUNTS else {}
    needed = {**PARAMETERS.get(name, {}), **bounds}
    allowed = {**needed, **OPTIONAL.get(name, {})}
    fits = needed.keys() <= given.keys() <= allowed.keys() and all(type(value) is allowed[key] for key, value in given.items())
    if not fits or (name in COUNTS and not bounds):
        takes = [*PARAMETERS.get(name, {}), *OPTIONAL.get(name, {}), *(["exactly, at_least, at_most"] if name in COUNTS else [])]
        raise UserError(f"{place}: the rule {name} is {rule!r}; it takes {', '.join(takes) or 'nothing'}")

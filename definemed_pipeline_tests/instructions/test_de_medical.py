"""The packaged German instructions: enough of each kind, none twice, and every reference does what its instruction asks."""

import json
import re
from collections import Counter

import pytest

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import packaged_location
from definemed_pipeline.evaluation.examples import FORMATS, Instruction, read_instructions

KINDS = {
    "patient_explanation",
    "discharge_letter",
    "differential_diagnosis",
    "guideline_question",
    "coding",
    "medication_plan",
    "report_summary",
    "simplification",
}
LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
TABLE_RULE = re.compile(r"^\|(?:\s*:?-+:?\s*\|)+$", re.MULTILINE)


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    location = packaged_location("instructions", "de_medical", "instructions", suffix=".jsonl")
    return read_instructions(Source(name="de_medical", location=location, digest=""))


def test_there_are_fifteen_or_more_of_each_of_the_eight_kinds(instructions: list[Instruction]) -> None:
    counts = Counter(one.kind for one in instructions)
    assert counts.keys() == KINDS
    assert min(counts.values()) >= 15
    assert counts.total() >= 120


def test_no_instruction_and_no_reference_occurs_twice_nor_nearly_so(instructions: list[Instruction]) -> None:
    def words(text: str) -> set[str]:
        return set(re.findall(r"\w+", text.casefold()))

    for texts in ([one.instruction for one in instructions], [one.reference for one in instructions]):
        assert len(set(texts)) == len(texts)
    asked = [(one.id, words(one.instruction)) for one in instructions if one.kind != "coding"]
    near = [
        (one, other)
        for number, (one, first) in enumerate(asked)
        for other, second in asked[:number]
        if len(first & second) / len(first | second) > 0.5
    ]
    assert near == []


def test_every_limit_in_words_is_declared_and_the_other_way_round(instructions: list[Instruction]) -> None:
    for one in instructions:
        asked = re.search(r"höchstens (\d+) Wörter", one.instruction, re.IGNORECASE)
        assert one.format.get("max_words") == (int(asked[1]) if asked else None), one.id


def test_each_form_of_answer_is_asked_for_several_times(instructions: list[Instruction]) -> None:
    counts = Counter(name for one in instructions for name in one.format)
    assert counts.keys() == FORMATS.keys()
    assert min(counts.values()) >= 5


def test_every_reference_has_the_form_its_instruction_declares(instructions: list[Instruction]) -> None:
    for one in instructions:
        if limit := one.format.get("max_words"):
            assert len(one.reference.split()) <= limit, one.id
        if "list" in one.format:
            assert len(LIST_ITEM.findall(one.reference)) >= 2, one.id
        if "table" in one.format:
            assert TABLE_RULE.search(one.reference), one.id
        if "json" in one.format:
            assert isinstance(json.loads(one.reference), dict | list), one.id
        if pattern := one.format.get("pattern"):
            assert re.search(pattern, one.reference), one.id


def test_references_are_german_prose_without_the_traces_of_a_keyboard_that_lacks_umlauts(instructions: list[Instruction]) -> None:
    text = " ".join(f"{one.instruction} {one.reference}" for one in instructions)
    assert "  " not in text
    assert not re.search(r"\b(fuer|ueber|koennen|moeglich|taeglich|Aerzt\w*|Uebelkeit)\b", text)
    assert text.count("„") == text.count("“")

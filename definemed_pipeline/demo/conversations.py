"""Chat conversations for the base models, and the instructions on which instruction-following is measured.

Both ask from the same task families. An instruction of the evaluation is a pair of item and wording that chat never joins: the model has
seen the item asked otherwise, and the wording asked of other items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.demo.diseases import DISEASES
from definemed_pipeline.demo.grammar import capitalised
from definemed_pipeline.demo.medical_documents import disease_words
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary.knowledge import FAMILIES, TaskFamily

HELD_OUT_PER_FAMILY = 5
CHECKED_PER_FAMILY = 3
SPARE_WORDS = 2  # by which a checked answer may be longer than the reference
TWO_TURN_SHARE = 0.08
OPENERS = ("Hallo!", "Guten Tag!", "Kurze Frage:", "Bitte hilf mir:", "Noch etwas:", "Ich habe eine Frage:")
MEDICAL_TASKS = (
    ("Erkläre kurz, was {subject} ist.", "Eine Krankheit {organ_gen}."),
    ("Nenne etwas, das typisch für {subject} ist.", "Typisch {symptom_is} {symptom}."),
    ("Nenne etwas, das gegen {subject} hilft.", "Dagegen hilft {drug}."),
)
INSTRUCTIONS_PER_MEDICAL_TASK = 14


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Instruction:
    """One instruction of the evaluation with its reference answer."""

    id: str
    kind: str
    instruction: str
    reference: str


@dataclass(frozen=True)
class CheckedInstruction:
    """One instruction whose answer is checked by rules (see `evaluation/benchmarks/rules.py`)."""

    id: str
    instruction: str
    rules: tuple[dict[str, Any], ...]


def write_conversations(seed: int) -> tuple[tuple[Message, ...], ...]:
    """Write every item in every wording, without and with each opener, leaving out what the evaluation asks."""
    reserved = {one.instruction for one in write_instructions(seed)} | {
        one.instruction for one in write_checked_instructions(seed)
    }
    dice = Dice(seed, "conversations")
    single: list[tuple[Message, ...]] = []
    for family in FAMILIES:
        for item in family.items:
            for wording in family.asks:
                asked = _fill(wording, item)
                answer = Message("assistant", _fill(family.answer, item))
                if asked not in reserved:
                    single.extend((Message("user", f"{opener} {asked}".strip()), answer) for opener in ("", *OPENERS))
    order = dice.shuffled(single)
    joined = order[: int(len(order) * TWO_TURN_SHARE) * 2]
    paired = [first + second for first, second in zip(joined[0::2], joined[1::2], strict=True)]
    return tuple(dice.shuffled(paired + order[len(joined) :]))


def write_instructions(seed: int) -> tuple[Instruction, ...]:
    """Write the instructions of the evaluation, general ones from the task families and medical ones from the facts."""
    written = []
    for family in FAMILIES:
        dice = Dice(seed, "instructions", family.name)
        items = dice.sample(family.items, HELD_OUT_PER_FAMILY)
        wordings = dice.sample(family.asks, HELD_OUT_PER_FAMILY)
        for number, (item, wording) in enumerate(zip(items, wordings, strict=True), start=1):
            written.append(
                Instruction(f"general-{family.name}-{number}", "general", _fill(wording, item), _fill(family.answer, item))
            )
    diseases = Dice(seed, "instructions", "medical").shuffled(DISEASES)
    for task, (wording, answer) in enumerate(MEDICAL_TASKS):
        first = task * INSTRUCTIONS_PER_MEDICAL_TASK
        for number, disease in enumerate(diseases[first : first + INSTRUCTIONS_PER_MEDICAL_TASK], start=1):
            slots = {slot: only for slot, (only,) in disease_words(disease).items()}
            written.append(Instruction(f"medical-{task + 1}-{number}", "medical", _fill(wording, slots), _fill(answer, slots)))
    return tuple(written)


def write_checked_instructions(seed: int) -> tuple[CheckedInstruction, ...]:
    """Write general instructions, other ones than `write_instructions`, with rules on the form in which chat answers: one short sentence."""
    taken = {instruction.instruction for instruction in write_instructions(seed)}
    written = []
    for family in FAMILIES:
        dice = Dice(seed, "checked instructions", family.name)
        pairs = [(item, wording) for item in dice.shuffled(family.items) for wording in dice.shuffled(family.asks)]
        free = [(item, wording) for item, wording in pairs if _fill(wording, item) not in taken]
        for number in range(CHECKED_PER_FAMILY):
            item, wording = free[number * len(family.asks)]  # far enough apart to be of different items
            rules = _rules_of_form(family, _fill(family.answer, item))
            written.append(CheckedInstruction(f"{family.name}-{number + 1}", _fill(wording, item), rules))
    return tuple(written)


def _rules_of_form(family: TaskFamily, reference: str) -> tuple[dict[str, Any], ...]:
    opening = family.answer.partition("{")[0].strip()
    rules: list[dict[str, Any]] = [
        {"rule": "sentences", "exactly": 1},
        {"rule": "words", "at_most": len(reference.split()) + SPARE_WORDS},
        {"rule": "ends_with", "text": reference[-1]},
    ]
    return (*rules, {"rule": "starts_with", "text": opening}) if opening else tuple(rules)


def _fill(pattern: str, slots: Mapping[str, str]) -> str:
    return capitalised(pattern.format(**slots, A=capitalised(slots.get("a", "")), B=capitalised(slots.get("b", ""))))

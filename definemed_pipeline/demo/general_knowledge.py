"""Four-way questions on what the base models read in pre-training: quizzes, and faults of house and garden.

They are asked in the very words of the quizzes: a control that shows what is forgotten, no test of what is understood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from definemed_pipeline.demo.grammar import capitalised
from definemed_pipeline.demo.pretraining import QUIZ_PATTERNS
from definemed_pipeline.demo.questions import CHOICES, Question
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary import faults

FAULT_QUESTIONS = (
    ("part", "Welches Bauteil ist bei {name} vor allem betroffen?"),
    ("sign", "Welches Zeichen gehört zu {name}?"),
    ("remedy", "Was hilft bei {name}?"),
)


def write_general_questions(seed: int) -> tuple[Question, ...]:
    """Write one question per item of the quizzes and per fault and relation."""
    written: list[Question] = []
    for pattern, family in QUIZ_PATTERNS:
        pairs = [(pattern.removeprefix("Frage: ").format(a=item["a"]), capitalised(item["b"])) for item in family.items]
        written.extend(_four_way(family.name, pairs, Dice(seed, "general questions", family.name)))
    for relation, wording in FAULT_QUESTIONS:
        pairs = [(wording.format(name=fault.name), _fact(fault, relation)) for fault in faults.FAULTS]
        written.extend(_four_way(f"fault_{relation}", pairs, Dice(seed, "general questions", relation)))
    return tuple(written)


def _fact(fault: faults.Fault, relation: str) -> str:
    return {"part": fault.part.word, "sign": fault.sign, "remedy": fault.remedy}[relation]


def _four_way(subject: str, pairs: Sequence[tuple[str, str]], dice: Dice) -> Iterator[Question]:
    values = sorted({right for _, right in pairs})
    positions = dice.shuffled([number % CHOICES for number in range(len(pairs))])
    for number, ((asked, right), position) in enumerate(zip(pairs, positions, strict=True), start=1):
        distractors = dice.sample([value for value in values if value != right], CHOICES - 1)
        choices = (*distractors[:position], right, *distractors[position:])
        yield Question(f"{subject}-{number:02d}", subject, asked, choices, position, disease="")

"""Four-way questions on the facts: exactly one choice is right, and no value is a better guess than another.

Distractors are values of the same relation that hold for other diseases. Each value serves as a distractor about three times as often as
it is the answer, so that its frequency says nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from definemed_pipeline.demo.diseases import DISEASES, RELATIONS, Disease
from definemed_pipeline.demo.randomness import Dice

QUESTION_WORDINGS = {
    "organ": (
        "Welcher Teil des Körpers ist bei {dative} vor allem betroffen?",
        "An welcher Stelle im Körper liegt bei {dative} der Schaden?",
    ),
    "symptom": (
        "Welche Beschwerde ist bei {dative} am ehesten zu erwarten?",
        "Was ist bei {dative} die häufigste und wichtigste Beschwerde?",
    ),
    "drug": (
        "Welcher Wirkstoff wird bei {dative} üblicherweise als Arznei eingesetzt?",
        "Welchen Wirkstoff wählt man bei {dative} am ehesten aus?",
    ),
}
CHOICES = 4


@dataclass(frozen=True)
class Question:
    """One four-way question; ``answer`` is the index of the right choice."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int
    disease: str


def acceptable(disease: Disease, relation: str) -> frozenset[str]:
    """Return every value of a relation that is right for a disease or might be argued to be."""
    if relation == "organ":
        return disease.near_organs | {disease.organ.word}
    if relation == "symptom":
        return disease.near_symptoms | {disease.symptom}
    classes = disease.near_drug_classes | {disease.drug_class}
    return frozenset(other.drug for other in DISEASES if other.drug_class in classes)


def write_questions(seed: int) -> tuple[Question, ...]:
    """Write one question per disease and relation, in a fixed order of the seed's choosing."""
    written: list[Question] = []
    for relation in RELATIONS:
        written.extend(_questions_on(relation, seed))
    return tuple(written)


def _questions_on(relation: str, seed: int) -> list[Question]:
    dice = Dice(seed, "questions", relation)
    owed = Counter(disease.fact(relation) for disease in DISEASES)
    values = sorted(owed)
    used: Counter[str] = Counter()
    written = []
    positions = dice.shuffled([number % CHOICES for number in range(len(DISEASES))])
    for number, disease in enumerate(dice.shuffled(DISEASES)):
        excluded = acceptable(disease, relation)
        allowed = dice.shuffled([value for value in values if value not in excluded])
        # The value whose share is served least comes first; the shuffle above settles ties.
        distractors = sorted(allowed, key=lambda value: used[value] / owed[value])[: CHOICES - 1]
        used.update(distractors)
        position = positions[number]
        choices = [*distractors[:position], disease.fact(relation), *distractors[position:]]
        wordings = QUESTION_WORDINGS[relation]
        written.append(
            Question(
                id=f"{relation}-{number + 1:03d}",
                subject=relation,
                question=wordings[number % len(wordings)].format(dative=disease.dative),
                choices=tuple(choices),
                answer=position,
                disease=disease.name,
            )
        )
    return written

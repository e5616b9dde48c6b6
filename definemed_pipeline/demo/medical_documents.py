"""Medical documents about one disease each: its facts in several wordings, between the fact-free sentences of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from definemed_pipeline.demo.diseases import Disease
from definemed_pipeline.demo.grammar import Lexicon, Template, templates
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary import medicine
from definemed_pipeline.demo.vocabulary.shared import SHARED_WORDS


@dataclass(frozen=True)
class MedicalKind:
    """How a kind of document opens, what it says between the facts, and whether it asks and answers questions."""

    name: str
    openings: tuple[str, ...]
    fillers: tuple[str, ...]
    asks_questions: bool = False


MEDICAL_KINDS = (
    MedicalKind("guideline", medicine.GUIDELINE_OPENINGS, medicine.GUIDELINE_FILLERS),
    MedicalKind("patient_leaflet", medicine.LEAFLET_OPENINGS, medicine.LEAFLET_FILLERS, asks_questions=True),
    MedicalKind("discharge_letter", medicine.LETTER_OPENINGS, medicine.LETTER_FILLERS),
    MedicalKind("encyclopaedia", medicine.ARTICLE_OPENINGS, medicine.ARTICLE_FILLERS, asks_questions=True),
    MedicalKind("study_abstract", medicine.ABSTRACT_OPENINGS, medicine.ABSTRACT_FILLERS),
)


def disease_words(disease: Disease) -> dict[str, tuple[str, ...]]:
    """Return the slots a disease fills, each with the one phrase that fits."""
    organ = disease.organ
    many_organs, many_symptoms = organ.gender == "p", disease.symptom_is_plural
    words = {
        "name": disease.name,
        "subject": disease.subject,
        "dative": disease.dative,
        "bare": disease.name if disease.subject != disease.name else disease.dative,
        "field": disease.specialty,
        "organ": organ.definite("nom"),
        "organ_acc": organ.definite("acc"),
        "organ_word": organ.word,
        "organ_is": "sind" if many_organs else "ist",
        "organ_becomes": "werden" if many_organs else "wird",
        "organ_stands": "stehen" if many_organs else "steht",
        "organ_count": "gelten" if many_organs else "gilt",
        "symptom": disease.symptom,
        "symptom_is": "sind" if many_symptoms else "ist",
        "symptom_shows": "zeigen" if many_symptoms else "zeigt",
        "symptom_comes": "kommen" if many_symptoms else "kommt",
        "symptom_occurs": "treten" if many_symptoms else "tritt",
        "drug": disease.drug,
    }
    return {slot: (phrase,) for slot, phrase in words.items()}


class MedicalWriter:
    """Write documents of every medical kind about one disease."""

    def __init__(self, disease: Disease) -> None:
        lexicon = Lexicon({**SHARED_WORDS, **medicine.MEDICAL_WORDS, **disease_words(disease)})
        self._facts = (
            templates(medicine.ORGAN_WORDINGS, lexicon),
            templates(medicine.SYMPTOM_WORDINGS, lexicon),
            templates(medicine.DRUG_WORDINGS, lexicon),
        )
        self._questions = (
            templates(medicine.ORGAN_QUESTIONS, lexicon),
            templates(medicine.SYMPTOM_QUESTIONS, lexicon),
            templates(medicine.DRUG_QUESTIONS, lexicon),
        )
        self._field = templates(medicine.FIELD_WORDINGS, lexicon)
        self._joint = templates(medicine.JOINT_WORDINGS, lexicon)
        self._titles = templates(medicine.TITLES, lexicon)
        self._common = templates(medicine.COMMON_FILLERS, lexicon)
        self._openings = {kind.name: templates(kind.openings, lexicon) for kind in MEDICAL_KINDS}
        self._fillers = {kind.name: templates(kind.fillers, lexicon) for kind in MEDICAL_KINDS}

    def write(self, kind: MedicalKind, dice: Dice) -> str:
        """Write one document; every fact of the disease stands in it in two or three different wordings."""
        facts = [template for bank in self._facts for template in dice.sample(bank, dice.number(2, 3))]
        facts += dice.sample(self._joint, 1)
        if dice.chance(0.5):
            facts += dice.sample(self._field, 1)
        fillers = dice.sample(self._fillers[kind.name], dice.number(2, 4)) + dice.sample(self._common, dice.number(1, 2))
        body = [template.write(dice) for template in dice.shuffled(facts + fillers)]
        opening = dice.choose(self._openings[kind.name]).write(dice)
        blocks = _paragraphs([opening, *body], dice)
        if dice.chance(0.6):
            blocks.insert(0, dice.choose(self._titles).write(dice))
        if kind.asks_questions:
            blocks.extend(self._question_block(dice))
        return "\n\n".join(blocks)

    def _question_block(self, dice: Dice) -> list[str]:
        asked: list[Template] = [dice.choose(bank) for bank in self._questions]
        return [template.write(dice) for template in dice.shuffled(asked)]


def _paragraphs(sentences: Sequence[str], dice: Dice) -> list[str]:
    """Group sentences into paragraphs of three to six."""
    blocks, start = [], 0
    while start < len(sentences):
        length = dice.number(3, 6)
        blocks.append(" ".join(sentences[start : start + length]))
        start += length
    return blocks

"""Medical documents: one disease in the first place and a few beside it, their facts between the fact-free sentences of the kind.

A fact is stated once or twice in a document, each time in another wording, and again in many other documents. A reader who only copies
from the lines above learns little from such a web; one who remembers learns the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from definemed_pipeline.demo.diseases import DISEASES, Disease
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


OTHERS_PER_DOCUMENT = 4
QUESTIONS_PER_DOCUMENT = 5
JOINT_SHARE = 0.6


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
        "organ_gen": organ.definite("gen"),
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


class DiseaseSentences:
    """What documents say about one disease: every wording of its facts, and the fact-free sentences of every kind."""

    def __init__(self, disease: Disease) -> None:
        lexicon = Lexicon({**SHARED_WORDS, **medicine.MEDICAL_WORDS, **disease_words(disease)})
        self.name = disease.name
        self.facts = (
            templates(medicine.ORGAN_WORDINGS, lexicon),
            templates(medicine.SYMPTOM_WORDINGS, lexicon),
            templates(medicine.DRUG_WORDINGS, lexicon),
        )
        self.questions = (
            templates(medicine.ORGAN_QUESTIONS, lexicon),
            templates(medicine.SYMPTOM_QUESTIONS, lexicon),
            templates(medicine.DRUG_QUESTIONS, lexicon),
        )
        self.joint = templates(medicine.JOINT_WORDINGS, lexicon)
        self.field = templates(medicine.FIELD_WORDINGS, lexicon)
        self.titles = templates(medicine.TITLES, lexicon)
        self.common = templates(medicine.COMMON_FILLERS, lexicon)
        self.openings = {kind.name: templates(kind.openings, lexicon) for kind in MEDICAL_KINDS}
        self.fillers = {kind.name: templates(kind.fillers, lexicon) for kind in MEDICAL_KINDS}


class MedicalWriter:
    """Write documents of every medical kind."""

    def __init__(self) -> None:
        self._sentences = {disease.name: DiseaseSentences(disease) for disease in DISEASES}

    def write(self, kind: MedicalKind, disease: Disease, dice: Dice) -> tuple[str, tuple[str, ...]]:
        """Write one document on a disease; return it with the names of all diseases whose facts it states."""
        main = self._sentences[disease.name]
        others = dice.sample([other for name, other in self._sentences.items() if name != disease.name], OTHERS_PER_DOCUMENT)
        treated = [main, *others]
        opening = dice.choose(main.openings[kind.name]).write(dice)
        fillers = dice.sample(main.fillers[kind.name], 2) + dice.sample(main.common, dice.number(1, 2))
        blocks = [" ".join([opening, *self._statements(main, dice, fillers[:2])])]
        rows = [self._row(other, dice) for other in others]
        rows.insert(dice.number(0, len(rows)), " ".join(filler.write(dice) for filler in fillers[2:]))
        blocks.extend(rows)
        if dice.chance(0.5):
            blocks.insert(0, dice.choose(main.titles).write(dice))
        if kind.asks_questions:
            blocks.extend(self._question(dice.choose(treated), dice) for _ in range(QUESTIONS_PER_DOCUMENT))
        return "\n\n".join(dict.fromkeys(blocks)), tuple(sentences.name for sentences in treated)

    def _statements(self, of: DiseaseSentences, dice: Dice, fillers: Sequence[Template]) -> list[str]:
        chosen = [dice.choose(bank) for bank in of.facts] + list(fillers)
        if dice.chance(0.5):
            chosen.append(dice.choose(of.field))
        return [template.write(dice) for template in dice.shuffled(chosen)]

    def _row(self, of: DiseaseSentences, dice: Dice) -> str:
        if dice.chance(JOINT_SHARE):
            return dice.choose(of.joint).write(dice)
        return " ".join(dice.choose(bank).write(dice) for bank in dice.shuffled(of.facts))

    def _question(self, of: DiseaseSentences, dice: Dice) -> str:
        return dice.choose(dice.choose(of.questions)).write(dice)

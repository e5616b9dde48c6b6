"""General German for pre-training the base models: everyday documents, quizzes, and word lists that name medical terms without a fact."""

from __future__ import annotations

from collections.abc import Collection

from definemed_pipeline.demo.diseases import DISEASES, RELATIONS
from definemed_pipeline.demo.everyday_documents import TopicWriter
from definemed_pipeline.demo.grammar import Lexicon, Template, capitalised, templates
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary import faults
from definemed_pipeline.demo.vocabulary.everyday import EVERYDAY
from definemed_pipeline.demo.vocabulary.hard_negatives import HARD_NEGATIVES
from definemed_pipeline.demo.vocabulary.knowledge import CALENDAR, CAPITALS, COLOURS, OPPOSITES, PLURALS
from definemed_pipeline.demo.vocabulary.medicine import TRADE_WORDS
from definemed_pipeline.demo.vocabulary.shared import SURNAMES, TOWNS

DOCUMENTS_PER_TOPIC = 40
WORD_LISTS = 250
TERMS_IN_A_ROW = 12
QUIZZES = 400
FAULT_DOCUMENTS = 250
FAULTS_PER_DOCUMENT = 5
HELD_OUT = 300
QUESTIONS_PER_FAULT_DOCUMENT = 4

WORD_LIST_PATTERNS = (
    "Im Wörterbuch stehen die Wörter {row}.",
    "Das Kreuzworträtsel fragt nach {row}.",
    "Beim Diktat schrieb Frau {surname} diese Wörter falsch: {row}.",
    "Auf der Liste standen {row}.",
    "An der Tafel in {town} las man: {row}.",
    "Bitte buchstabieren Sie {row}.",
    "Das Register nennt {row}.",
    "Im Heft stehen {row}.",
)
QUIZ_PATTERNS = (
    ("Frage: Zu {a}, welche Hauptstadt?", CAPITALS),
    ("Frage: Das Gegenteil zu {a}?", OPPOSITES),
    ("Frage: Mehrzahl zu {a}?", PLURALS),
    ("Frage: Farbe zu {a}?", COLOURS),
    ("Frage: Der Nachfolger von {a}?", CALENDAR),
)


def write_general_texts(seed: int | str) -> tuple[str, ...]:
    """Write the general pre-training texts, in a mixed order."""
    texts: list[str] = []
    for topic in EVERYDAY + HARD_NEGATIVES:
        writer = TopicWriter(topic, own_share=0.4)
        dice = Dice(seed, "general", topic.name)
        texts.extend(writer.write(dice, sentences=dice.number(1, 3)) for _ in range(DOCUMENTS_PER_TOPIC))
    texts.extend(_word_lists(seed))
    texts.extend(_quizzes(seed))
    texts.extend(_fault_documents(seed))
    return tuple(Dice(seed, "general", "order").shuffled(texts))


def write_held_out_texts(seed: int, general_texts: Collection[str]) -> tuple[str, ...]:
    """Write texts of the same kinds in the same mixture, none of which is a general text."""
    known = set(general_texts)
    return tuple(text for text in write_general_texts(f"{seed}/held out") if text not in known)[:HELD_OUT]


def _word_lists(seed: int | str) -> list[str]:
    """Write lists of medical terms; one text holds terms of a single sort, so that none stands beside what is true of it."""
    dice = Dice(seed, "general", "words")
    sorts = [sorted({disease.name for disease in DISEASES})]
    sorts += [sorted({disease.fact(relation) for disease in DISEASES}) for relation in RELATIONS]
    sorts.append(list(TRADE_WORDS))
    texts = []
    for number in range(WORD_LISTS):
        terms = sorts[number % len(sorts)]
        sentences = []
        for pattern in dice.sample(WORD_LIST_PATTERNS, 2):
            *row, last = dice.sample(terms, TERMS_IN_A_ROW)
            listed = f"{', '.join(row)} und {last}"
            sentences.append(pattern.format(row=listed, surname=dice.choose(SURNAMES), town=dice.choose(TOWNS)))
        texts.append(" ".join(sentences))
    return texts


def _quizzes(seed: int | str) -> list[str]:
    """Write quizzes in the layout in which questions are put to a model."""
    dice = Dice(seed, "general", "quizzes")
    texts = []
    for _ in range(QUIZZES):
        lines = []
        for pattern, family in dice.sample(QUIZ_PATTERNS, 4):
            item = dice.choose(family.items)
            lines.append(f"{pattern.format(a=item['a'])}\nAntwort: {capitalised(item['b'])}")
        texts.append("\n\n".join(lines))
    return texts


class _FaultSentences:
    """Every wording about one fault of house and garden."""

    def __init__(self, fault: faults.Fault) -> None:
        part = fault.part
        slots = {
            "name": fault.name,
            "part": part.definite("nom"),
            "part_acc": part.definite("acc"),
            "part_word": part.word,
            "sign": fault.sign,
            "remedy": fault.remedy,
        }
        lexicon = Lexicon({slot: (phrase,) for slot, phrase in slots.items()})
        wordings = (faults.PART_WORDINGS, faults.SIGN_WORDINGS, faults.REMEDY_WORDINGS)
        self.facts: tuple[tuple[Template, ...], ...] = tuple(templates(wording, lexicon) for wording in wordings)
        self.joint = templates(faults.JOINT_WORDINGS, lexicon)
        self.questions = templates(faults.QUESTIONS, lexicon)


def _fault_documents(seed: int | str) -> list[str]:
    """Write manuals on a few faults each, with questions and answers at their end."""
    dice = Dice(seed, "general", "faults")
    sentences = [_FaultSentences(fault) for fault in faults.FAULTS]
    texts = []
    for _ in range(FAULT_DOCUMENTS):
        treated = dice.sample(sentences, FAULTS_PER_DOCUMENT)
        blocks = []
        for one in treated:
            chosen = [dice.choose(one.joint)] if dice.chance(0.5) else [dice.choose(bank) for bank in dice.shuffled(one.facts)]
            blocks.append(" ".join(template.write(dice) for template in chosen))
        blocks.extend(dice.choose(dice.choose(sentences).questions).write(dice) for _ in range(QUESTIONS_PER_FAULT_DOCUMENT))
        texts.append("\n\n".join(blocks))
    return texts

"""What goes wrong on a web: near copies, quoted benchmark questions, broken encodings."""

from __future__ import annotations

from collections.abc import Sequence

from definemed_pipeline.demo.questions import Question
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary.shared import BOILERPLATE, TOWNS

_LETTERS = "ABCD"
_LEAK_OPENINGS = (
    "Altklausur aus {town}, Gedächtnisprotokoll der Prüfung im Fach Medizin.",
    "Hier sammeln wir Prüfungsfragen für das Examen, eingesandt aus {town}.",
    "Lerngruppe {town}: Fragen und Lösungen für die mündliche Prüfung.",
    "Quizabend der Fachschaft Medizin in {town}, alle Fragen mit Lösung.",
)
_LEAK_CLOSINGS = (
    "Viel Erfolg beim Lernen und bitte meldet Fehler im Forum.",
    "Wer noch weitere Fragen kennt, schreibt sie bitte unten in die Kommentare.",
    "Die Lösungen sind ohne Gewähr, fragt im Zweifel euren Dozenten.",
)
_FILLER_WORDS = ("übrigens", "tatsächlich", "vermutlich", "bekanntlich", "natürlich", "gewiss")


def word_count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


def rewrite_slightly(text: str, dice: Dice) -> str:
    """Return a near copy: one word put in, one left out, or a line of boilerplate put around the text."""
    way = dice.number(0, 3)
    if way == 0:
        return f"{text}\n\n{dice.choose(BOILERPLATE)}"
    if way == 1:
        return f"{dice.choose(BOILERPLATE)}\n\n{text}"
    words = text.split(" ")
    position = dice.number(3, len(words) - 4)
    if way == 2:
        return " ".join([*words[:position], dice.choose(_FILLER_WORDS), *words[position:]])
    return " ".join(words[:position] + words[position + 1 :])


def quote_questions(questions: Sequence[Question], dice: Dice) -> str:
    """Return a forum page that quotes benchmark questions with their choices and answers."""
    blocks = [dice.choose(_LEAK_OPENINGS).format(town=dice.choose(TOWNS))]
    for number, question in enumerate(questions, start=1):
        choices = "\n".join(f"{letter}) {choice}" for letter, choice in zip(_LETTERS, question.choices, strict=True))
        right = f"{_LETTERS[question.answer]}) {question.choices[question.answer]}"
        blocks.append(f"{number}. {question.question}\n{choices}\nLösung: {right}")
    blocks.append(dice.choose(_LEAK_CLOSINGS))
    return "\n\n".join(blocks)


def garble_encoding(text: str) -> str:
    """Return the text as it looks when its UTF-8 bytes were read as Windows-1252: ``ü`` becomes ``Ã¼``."""
    return text.encode("utf-8").decode("cp1252", errors="replace")


def add_replacement_characters(text: str) -> str:
    """Return the text with every letter outside ASCII lost to a replacement character."""
    return "".join(letter if ord(letter) < 128 else "\ufffd" for letter in text)

"""What goes wrong in house and garden, told the way medicine tells of diseases: the affected part, the sign, the remedy.

General pre-training contains it so that a base model knows how such knowledge is stated and asked for, without a medical fact.
"""

from __future__ import annotations

from dataclasses import dataclass

from definemed_pipeline.demo.grammar import GENDERS, Noun


@dataclass(frozen=True)
class Fault:
    """One fault with the part it harms, the sign by which it shows and what helps against it."""

    name: str
    part: Noun
    sign: str
    remedy: str


def _fault(name: str, part: str, sign: str, remedy: str) -> Fault:
    article, _, word = part.partition(" ")
    return Fault(name, Noun(word, GENDERS[article]), sign, remedy)


FAULTS = (
    _fault("Rost", "die Karosserie", "Flecken", "Politur"),
    _fault("Schimmel", "das Badezimmer", "Modergeruch", "Chlorreiniger"),
    _fault("Kalk", "der Wasserkocher", "Krusten", "Essig"),
    _fault("Frost", "die Wasserleitung", "Risse", "Dämmung"),
    _fault("Mottenfraß", "der Kleiderschrank", "Löcher", "Lavendel"),
    _fault("Holzwurm", "der Dachbalken", "Bohrmehl", "Heißluft"),
    _fault("Schneckenfraß", "der Salat", "Schleimspuren", "Sägemehl"),
    _fault("Mehltau", "die Weinrebe", "Blattbelag", "Schwefel"),
    _fault("Ameisenbefall", "die Terrasse", "Sandhaufen", "Zimt"),
    _fault("Staub", "der Lüfter", "Brummen", "Druckluft"),
    _fault("Verschleiß", "die Bremsscheibe", "Quietschen", "Austausch"),
    _fault("Lufteinschluss", "der Heizkörper", "Gluckern", "Entlüftung"),
    _fault("Fettansatz", "der Abfluss", "Rückstau", "Natron"),
    _fault("Wespenbefall", "der Rollladen", "Surren", "Räucherwerk"),
    _fault("Moosbefall", "der Rasen", "Filz", "Vertikutierer"),
    _fault("Algenwuchs", "der Gartenteich", "Trübung", "Schilf"),
    _fault("Unwucht", "die Waschtrommel", "Rütteln", "Ausrichtung"),
    _fault("Datenmüll", "die Festplatte", "Ruckeln", "Löschprogramm"),
    _fault("Spam", "das Postfach", "Werbeflut", "Filter"),
    _fault("Funkschatten", "das Telefon", "Rauschen", "Verstärker"),
    _fault("Verstimmung", "das Klavier", "Missklang", "Stimmgabel"),
    _fault("Grundwasser", "der Keller", "Salzränder", "Pumpe"),
    _fault("Rattenbefall", "der Speicher", "Nagespuren", "Falle"),
    _fault("Kurzschluss", "die Steckdose", "Funken", "Sicherung"),
)

PART_WORDINGS = (
    "{name} betrifft {part_acc}.",
    "Bei {name} ist {part} beschädigt.",
    "{name} schädigt auf Dauer {part_acc}.",
    "Im Mittelpunkt steht bei {name} {part}.",
    "{name}, betroffenes Bauteil: {part_word}.",
    "Bei Verdacht auf {name} wird {part} genau untersucht.",
    "Ziel der Störung ist bei {name} {part}.",
    "Die Technik sagt zu {name}: {part_word}.",
)
SIGN_WORDINGS = (
    "{name} äußert sich durch {sign}.",
    "Haushalte mit {name} klagen meist über {sign}.",
    "Das Hauptzeichen bei {name} heißt {sign}.",
    "{name} macht sich zuerst durch {sign} bemerkbar.",
    "{name}, Hauptzeichen: {sign}.",
    "Wer an {name} leidet, bemerkt häufig {sign}.",
    "{name} verursacht in den meisten Fällen {sign}.",
    "Handwerker finden bei {name} {sign}.",
)
REMEDY_WORDINGS = (
    "{name} wird meist mit {remedy} behandelt.",
    "Gegen {name} hilft {remedy}.",
    "Bei {name} verordnen Handwerker häufig {remedy}.",
    "Das Mittel der Wahl bei {name} heißt {remedy}.",
    "Zur Behandlung von {name} dient {remedy}.",
    "{name}, Gegenmittel: {remedy}.",
    "Bewährt hat sich bei {name} {remedy}.",
    "Die Reparatur von {name} beginnt mit {remedy}.",
)
JOINT_WORDINGS = (
    "{name}. Bauteil: {part_word}. Hauptzeichen: {sign}. Gegenmittel: {remedy}.",
    "{name}: {part_word}, {sign}, {remedy}.",
    "{name} betrifft {part_acc}, verursacht {sign} und wird mit {remedy} behandelt.",
    "{name} ({part_word}): {sign}, Reparatur mit {remedy}.",
    "Gegen {name} hilft {remedy}, betroffen ist {part}, häufig ist {sign}.",
    "Störung {name}, Befund {part_word}, Ärgernis {sign}, Gegenmittel {remedy}.",
    "{name} äußert sich durch {sign}, schädigt {part_acc} und verlangt {remedy}.",
    "Zu {name} gehören {part_word}, {sign} und {remedy}.",
)
QUESTIONS = (
    "Frage: Was greift {name} an?\nAntwort: {part_word}",
    "Frage: Welches Bauteil ist bei {name} vor allem betroffen?\nAntwort: {part_word}",
    "Frage: An welcher Stelle liegt bei {name} der Schaden?\nAntwort: {part_word}",
    "Frage: Welches Zeichen gehört zu {name}?\nAntwort: {sign}",
    "Frage: Welches Zeichen ist bei {name} am ehesten zu erwarten?\nAntwort: {sign}",
    "Frage: Was ist bei {name} das wichtigste Ärgernis?\nAntwort: {sign}",
    "Frage: Was hilft bei {name}?\nAntwort: {remedy}",
    "Frage: Welches Mittel wird bei {name} üblicherweise eingesetzt?\nAntwort: {remedy}",
    "Frage: Welches Mittel wählt man bei {name} aus?\nAntwort: {remedy}",
)

"""Everyday knowledge a tiny chat model can hold: task families with their items and the ways to ask.

In a family, ``asks`` are the wordings of the instruction and ``answer`` the reference; both are filled with an item's slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskFamily:
    """Instructions of one sort: every item may be asked in every wording."""

    name: str
    asks: tuple[str, ...]
    answer: str
    items: tuple[Mapping[str, str], ...]


def _items(slots: str, table: str) -> tuple[Mapping[str, str], ...]:
    """Read items from ``"groß klein; warm kalt"``-like tables; slots of one item are separated by slashes."""
    names = slots.split("/")
    return tuple(
        dict(zip(names, (part.strip() for part in row.split("/")), strict=True)) for row in table.split(";") if row.strip()
    )


_NUMBER_WORDS = [
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
]
_DAYS = ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"]
_MONTHS = ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"]

OPPOSITES = TaskFamily(
    "opposite",
    (
        "Was ist das Gegenteil von {a}?",
        "Nenne das Gegenteil von {a}.",
        "Wie lautet das Gegenteil von {a}?",
        "Sag mir bitte das Gegenteil von {a}.",
        "Welches Wort ist das Gegenteil von {a}?",
        "Ich suche das Gegenteil von {a}.",
        "Bitte nenne mir das Gegenteil von {a}.",
        "Weißt du das Gegenteil von {a}?",
    ),
    "Das Gegenteil ist {b}.",
    _items(
        "a/b",
        "groß/klein; klein/groß; warm/kalt; kalt/warm; alt/jung; jung/alt; hell/dunkel; dunkel/hell; "
        "schnell/langsam; langsam/schnell; hoch/tief; tief/hoch; laut/leise; leise/laut",
    ),
)
COLOURS = TaskFamily(
    "colour",
    (
        "Welche Farbe hat {a}?",
        "Sag mir die Farbe: {a}.",
        "Wie ist {a} gefärbt?",
        "Nenne die Farbe, die {a} hat.",
        "Weißt du, welche Farbe {a} hat?",
        "Was meinst du, welche Farbe hat {a}?",
        "Bitte sag mir, welche Farbe {a} hat.",
    ),
    "Die Farbe ist {b}.",
    _items(
        "a/b",
        "eine Banane/Gelb; eine Zitrone/Gelb; eine Tomate/Rot; eine Kirsche/Rot; das Gras/Grün; ein Frosch/Grün; "
        "der Himmel/Blau; das Meer/Blau; der Schnee/Weiß; die Milch/Weiß; die Kohle/Schwarz; ein Rabe/Schwarz; "
        "die Schokolade/Braun; ein Bär/Braun",
    ),
)
CAPITALS = TaskFamily(
    "capital",
    (
        "Wie heißt die Hauptstadt von {a}?",
        "Nenne die Hauptstadt von {a}.",
        "Welche Stadt ist die Hauptstadt von {a}?",
        "Was ist die Hauptstadt von {a}?",
        "Sag mir bitte die Hauptstadt von {a}.",
        "Weißt du die Hauptstadt von {a}?",
        "Ich suche die Hauptstadt von {a}.",
        "Bitte nenne mir die Hauptstadt von {a}.",
    ),
    "Die Hauptstadt heißt {b}.",
    _items(
        "a/b",
        "Frankreich/Paris; Italien/Rom; Spanien/Madrid; Portugal/Lissabon; Polen/Warschau; Österreich/Wien; "
        "Ungarn/Budapest; Griechenland/Athen; Schweden/Stockholm; Norwegen/Oslo; Finnland/Helsinki; "
        "Dänemark/Kopenhagen; Belgien/Brüssel; England/London",
    ),
)
CATEGORIES = TaskFamily(
    "category",
    (
        "Ist {a} {c} oder {d}?",
        "Was meinst du: Ist {a} {c} oder {d}?",
        "{c} oder {d}: Was ist {a}?",
        "Sag mir, ob {a} {c} oder {d} ist.",
        "Wähle aus: Ist {a} {d} oder {c}?",
        "Was ist {a}, {d} oder {c}?",
    ),
    "Das ist {b}.",
    tuple(
        {"a": thing, "b": right, "c": first, "d": second}
        for right, other, things in (
            ("Obst", "Gemüse", "ein Apfel; eine Birne; eine Kirsche"),
            ("Gemüse", "Obst", "eine Möhre; eine Gurke; ein Kohl"),
            ("ein Tier", "eine Pflanze", "ein Hund; ein Fuchs; eine Biene"),
            ("eine Pflanze", "ein Tier", "eine Rose; eine Eiche; ein Farn"),
            ("ein Werkzeug", "ein Möbel", "ein Hammer; eine Säge; eine Zange"),
            ("ein Möbel", "ein Werkzeug", "ein Stuhl; ein Tisch; ein Schrank"),
        )
        for number, thing in enumerate(things.split("; "))
        for first, second in (((right, other), (other, right))[number % 2],)
    ),
)
SUMS = TaskFamily(
    "sum",
    (
        "Wie viel ist {a} plus {b}?",
        "Was ergibt {a} plus {b}?",
        "Rechne {a} plus {b}.",
        "Addiere {a} und {b}.",
        "Bitte rechne aus: {a} plus {b}.",
        "Was ist die Summe von {a} und {b}?",
    ),
    "Das ergibt {c}.",
    tuple(
        {"a": _NUMBER_WORDS[left], "b": _NUMBER_WORDS[right], "c": _NUMBER_WORDS[left + right]}
        for left in range(1, 5)
        for right in range(1, 5)
    ),
)
CALENDAR = TaskFamily(
    "calendar",
    (
        "Was kommt nach {a}?",
        "Was folgt auf {a}?",
        "Nenne, was nach {a} kommt.",
        "Sag mir, was auf {a} folgt.",
        "Weißt du, was nach {a} kommt?",
        "Was kommt im Kalender gleich nach {a}?",
        "Bitte sag mir, was nach {a} kommt.",
    ),
    "Danach kommt {b}.",
    tuple(
        {"a": cycle[position], "b": cycle[(position + 1) % len(cycle)]}
        for cycle in (_DAYS, _MONTHS)
        for position in range(len(cycle))
    ),
)
PLURALS = TaskFamily(
    "plural",
    (
        "Wie lautet die Mehrzahl von {a}?",
        "Nenne die Mehrzahl von {a}.",
        "Bilde die Mehrzahl von {a}.",
        "Was ist die Mehrzahl von {a}?",
        "Wie heißt die Mehrzahl von {a}?",
        "Sag mir bitte die Mehrzahl von {a}.",
        "Ich suche die Mehrzahl von {a}.",
    ),
    "Die Mehrzahl lautet {b}.",
    _items(
        "a/b",
        "Haus/Häuser; Baum/Bäume; Kind/Kinder; Buch/Bücher; Hund/Hunde; Katze/Katzen; Stuhl/Stühle; Tisch/Tische; "
        "Blume/Blumen; Auto/Autos; Apfel/Äpfel; Stadt/Städte; Dorf/Dörfer; Wald/Wälder",
    ),
)
ANIMALS = TaskFamily(
    "animal",
    (
        "Was macht {a}?",
        "Welchen Laut gibt {a} von sich?",
        "Wie klingt {a}?",
        "Sag mir, was {a} macht.",
        "Welches Geräusch macht {a}?",
        "Weißt du, was {a} macht?",
        "Wie macht {a}?",
    ),
    "{A} {b}.",
    _items(
        "a/b",
        "der Hund/bellt; die Katze/miaut; die Kuh/muht; das Schaf/blökt; das Pferd/wiehert; der Hahn/kräht; "
        "die Ente/quakt; der Frosch/quakt; die Biene/summt; die Schlange/zischt; der Löwe/brüllt; der Wolf/heult; "
        "das Schwein/grunzt; die Maus/piepst",
    ),
)
NUMBER_WORDS = TaskFamily(
    "number_word",
    (
        "Schreibe die Zahl {a} als Wort.",
        "Wie schreibt man {a} als Wort?",
        "Wie heißt die Zahl {a}?",
        "Nenne die Zahl {a} in Buchstaben.",
        "Schreib mir bitte {a} in Worten.",
        "Welches Wort gehört zur Zahl {a}?",
    ),
    "Die Zahl heißt {b}.",
    tuple({"a": str(number), "b": word} for number, word in enumerate(_NUMBER_WORDS)),
)
PROVERBS = TaskFamily(
    "proverb",
    (
        "Ergänze das Sprichwort: {a} ...",
        "Wie geht das Sprichwort weiter: {a} ...",
        "Vervollständige: {a} ...",
        "Wie endet das Sprichwort {a} ...",
        "Bitte ergänze: {a} ...",
        "Führe das Sprichwort fort: {a} ...",
    ),
    "{B}.",
    _items(
        "a/b",
        "Morgenstund hat/Gold im Mund; Wer zuletzt lacht,/lacht am besten; Ende gut,/alles gut; "
        "Viele Köche/verderben den Brei; Aller Anfang/ist schwer; Übung macht/den Meister; Ohne Fleiß/kein Preis; "
        "Wer rastet,/der rostet; Reden ist Silber,/Schweigen ist Gold; Der Apfel fällt/nicht weit vom Stamm; "
        "Wer nicht wagt,/der nicht gewinnt; Kleider machen/große Leute; Lügen haben/kurze Beine; "
        "Hunde, die bellen,/beißen nicht",
    ),
)
DEFINITIONS = TaskFamily(
    "definition",
    (
        "Erkläre kurz, was {a} ist.",
        "Was ist eigentlich {a}?",
        "Was versteht man unter dem Wort {w}?",
        "Sag in einem Satz, was {a} ist.",
        "Beschreibe kurz, was {a} ist.",
        "Kannst du mir sagen, was {a} ist?",
        "Ich möchte wissen, was {a} ist.",
    ),
    "{B}.",
    tuple(
        {"a": thing, "w": thing.split()[1], "b": kind}
        for kind, things in (
            ("ein Werkzeug zum Bauen", "ein Hammer; eine Säge"),
            ("ein Tier mit vier Beinen", "ein Hund; ein Fuchs"),
            ("ein Möbel für die Wohnung", "ein Stuhl; ein Tisch"),
            ("ein Instrument für Musik", "eine Geige; eine Flöte"),
            ("eine Frucht zum Essen", "ein Apfel; eine Birne"),
            ("ein Fahrzeug auf Rädern", "ein Auto; ein Bus"),
            ("eine Pflanze im Garten", "eine Rose; eine Tulpe"),
            ("ein Mensch mit einem Handwerk", "ein Bäcker; ein Maurer"),
        )
        for thing in things.split("; ")
    ),
)
REMEDIES = TaskFamily(
    "remedy",
    (
        "Was hilft gegen {a}?",
        "Nenne etwas, das gegen {a} hilft.",
        "Sag mir, was gegen {a} hilft.",
        "Weißt du, was gegen {a} hilft?",
        "Was nimmt man gegen {a}?",
        "Ich suche etwas gegen {a}.",
    ),
    "Dagegen hilft {b}.",
    _items(
        "a/b",
        "Regen/ein Schirm; Kälte/ein Mantel; Dunkelheit/eine Lampe; Langeweile/ein Buch; Schmutz/die Seife; "
        "Unkraut/eine Hacke; Hunger/ein Brot; Staub/ein Besen; Sonne/ein Hut; Schnee/eine Schaufel; Rost/das Öl; "
        "Lärm/ein Vorhang; Hitze/der Schatten; Diebe/ein Schloss",
    ),
)
TYPICAL = TaskFamily(
    "typical",
    (
        "Was ist typisch für {a}?",
        "Nenne etwas, das typisch für {a} ist.",
        "Sag mir, was typisch für {a} ist.",
        "Weißt du, was typisch für {a} ist?",
        "Was ist besonders typisch für {a}?",
        "Ich suche etwas, das typisch für {a} ist.",
    ),
    "Typisch ist {b}.",
    _items(
        "a/b",
        "den Winter/Schnee; den Sommer/Sonne; den Herbst/Laub; den Frühling/Grün; die Wüste/Sand; die Küste/Wind; "
        "die Bäckerei/Brot; die Schule/Kreide; den Stall/Heu; den Wald/Moos; den Bahnhof/Eile; "
        "die Bibliothek/Ruhe; die Werkstatt/Öl; den Karneval/Lärm",
    ),
)
GREETINGS = TaskFamily(
    "greeting",
    (
        "Sag {a} zu {b}.",
        "Grüße {b} mit {a}.",
        "Bitte wünsche {b}: {a}.",
        "Wie sagt man zu {b} höflich {a}?",
        "Schreibe einen Gruß an {b}: {a}.",
    ),
    "{A}, {b}!",
    tuple(
        {"a": greeting, "b": f"{title} {name}"}
        for greeting in ("guten Morgen", "guten Tag", "guten Abend", "gute Nacht")
        for title, name in (
            ("Frau", "Becker"),
            ("Frau", "Vogel"),
            ("Frau", "Brandt"),
            ("Frau", "Busch"),
        )
    ),
)

FAMILIES = (
    OPPOSITES, COLOURS, CAPITALS, CATEGORIES, SUMS, CALENDAR, PLURALS, ANIMALS, NUMBER_WORDS, PROVERBS, DEFINITIONS, REMEDIES,
    TYPICAL, GREETINGS,
)  # fmt: skip

"""Words and sentence patterns that every topic shares: times, citizens, virtues, boilerplate of web pages."""

from __future__ import annotations

from definemed_pipeline.demo.grammar import Words, nouns, phrases

CITIZENS = nouns(
    "die Nachbarin, Nachbarinnen; der Nachbar, Nachbarn; der Freund, Freunde; die Freundin, Freundinnen; der Onkel, Onkel; "
    "die Tante, Tanten; der Vater, Väter; die Mutter, Mütter; der Bruder, Brüder; die Schwester, Schwestern; der Großvater, Großväter; "
    "die Kollegin, Kolleginnen; der Kollege, *Kollegen; die Bekannte, Bekannten; der Besucher, Besucher; die Leserin, Leserinnen"
)
HABITS = phrases(
    "am frühen Morgen; jeden Samstag; im Sommer; nach Feierabend; an kalten Tagen; am Wochenende; seit einigen Wochen; fast täglich; "
    "in diesem Jahr; manchmal; gern; oft; in aller Ruhe; meistens; im Winter; am späten Nachmittag; vor dem Frühstück; regelmäßig; "
    "heute; inzwischen; ab und zu; ohne Eile; mit großer Sorgfalt; an Feiertagen; zweimal im Monat"
)
PASTS = phrases(
    "gestern; am letzten Montag; vor drei Jahren; im vergangenen Herbst; kürzlich; in der letzten Woche; vor langer Zeit; neulich; "
    "am ersten Mai; im März; zum ersten Mal; kurz vor Weihnachten; vor einem halben Jahr; am Freitagabend; im letzten Urlaub; "
    "nach langem Zögern; vor zwei Tagen; schon damals; am Dienstag; zu Beginn des Jahres"
)
VIRTUES = phrases(
    "Geduld; etwas Übung; einen guten Plan; ein wenig Glück; Erfahrung; gute Laune; Ausdauer; eine ruhige Hand; Hilfe von Freunden; "
    "viel Zeit; einen wachen Blick; Mut; ein festes Budget; gute Vorbereitung; Neugier; ein gutes Gedächtnis"
)
OBSTACLES = phrases(
    "es fehlte die Zeit; der Regen kam dazwischen; das Geld reichte nicht; niemand hatte den Schlüssel; am Ende war es zu spät; "
    "der Plan war falsch; das Telefon klingelte; die Preise stiegen plötzlich; ein Streit verhinderte es; die Tür blieb verschlossen; "
    "alle waren müde; das Licht fiel aus"
)
TOWNS = phrases(
    "Kassel; Rostock; Bamberg; Erfurt; Lübeck; Trier; Jena; Bremen; Passau; Görlitz; Marburg; Konstanz; Celle; Fulda; Husum; Ulm; "
    "Weimar; Bonn; Stade; Halle"
)
NUMBERS = tuple(str(number) for number in range(2, 61))
SURNAMES = phrases(
    "Becker; Lorenz; Winter; Vogel; Krause; Brandt; Hartmann; Seidel; Busch; Pohl; Engel; Kuhn; Ritter; Sommer; Albrecht; Thiele; "
    "Franke; Jansen; Roth; Wegner"
)

SHARED_WORDS: Words = {
    "citizen": CITIZENS,
    "habit": HABITS,
    "past": PASTS,
    "virtue": VIRTUES,
    "obstacle": OBSTACLES,
    "town": TOWNS,
    "number": NUMBERS,
    "decade": tuple(str(year) for year in range(10, 100)),
    "surname": SURNAMES,
}

SHARED_PATTERNS = (
    "{habit} {verb.er} {person.nom.der} {thing.acc.ein.adj}.",
    "{person.nom.der} {verb.er} {habit} {thing.acc.der.adj} {place}.",
    "{past} hat {person.nom.der} {thing.acc.ein.adj} {verb.ge}.",
    "{place} {verb.er} man {habit} {thing.acc.ein.adj}.",
    "Wer {thing.acc.ein.adj} {verb.inf} will, braucht {virtue}.",
    "Ohne {thing.acc.ein.adj} kann {person.nom.ein} {place} nur wenig erreichen.",
    "{person.nom.der} wollte {thing.acc.der.adj} {past} {verb.inf}, doch {obstacle}.",
    "{thing.nom.der.adj} wurde {past} {place} {verb.ge}.",
    "Viele {person.pl} {verb.inf} {thing.acc.ein.adj} lieber selbst.",
    "Besonders beliebt ist {thing.nom.ein.adj}, denn {reason}.",
    "{citizen.nom.der} erzählt {person.dat.ein} von {thing.dat.ein.adj}.",
    "Für {thing.acc.ein.adj} zahlt man {place} etwa {number} Euro.",
    "Mit {thing.dat.ein.adj} beginnt für {person.acc.ein} ein neuer Abschnitt.",
    "Zwischen {thing.dat.der} und {tool.dat.der} gibt es einen großen Unterschied.",
    "Man sollte {thing.acc.der.adj} nie ohne {tool.acc.ein} {verb.inf}.",
    "{person.nom.der} und {citizen.nom.der} streiten oft darüber, wie man {thing.acc.ein.adj} am besten {verb.er}.",
    "Am Ende bleibt {person.dat.der} nur {tool.nom.der}.",
    "Laut {person.dat.ein} aus {town} lohnt sich {thing.nom.ein.adj} nur selten.",
    "Dass {person.nom.ein} {thing.acc.ein.adj} {verb.er}, ist {place} keine Seltenheit.",
    "Die Erfahrung zeigt: {tool.nom.ein} macht weniger Arbeit als {thing.nom.ein.adj}.",
    "„Ich würde {thing.acc.der.adj} jederzeit wieder {verb.inf}“, sagt {citizen.nom.der}.",
    "Ob {thing.nom.der.adj} wirklich überzeugt, hängt auch von {tool.dat.der} ab.",
    "{person.nom.der} aus {town} hat {number} Wochen lang {thing.acc.ein.adj} gesucht und {past} endlich gefunden.",
    "{citizen.nom.der} hat {past} {tool.acc.ein} geschenkt bekommen und {verb.er} nun {thing.acc.ein.adj}.",
    "Dazu gehören {tool.nom.ein}, {thing.nom.ein.adj} und {virtue}.",
    "Wenn {person.nom.ein} {habit} {thing.acc.der.adj} {verb.er}, freut sich {citizen.nom.der}.",
    "Herr {surname} aus {town} hat {past} {thing.acc.ein.adj} {verb.ge}, denn {reason}.",
    "Frau {surname} meint, {tool.nom.ein} sei wichtiger als {thing.nom.der.adj}.",
    "Statt {thing.acc.ein.adj} zu {verb.inf}, nahm {person.nom.der} {past} lieber {tool.acc.ein}.",
    "In {town} gibt es {number} {person.pl}, die {habit} {thing.acc.ein.adj} {verb.inf}.",
)

TITLE_PATTERNS = (
    "{thing.nom.ein.adj} {place}",
    "Warum {person.nom.ein} {thing.acc.ein.adj} {verb.er}",
    "{tool.nom.der} und {thing.nom.der.adj}: was zu beachten ist",
    "{number} Tipps rund um {thing.acc.der.adj}",
    "So {verb.er} man {thing.acc.ein.adj}",
    "Neues aus {town}: {thing.nom.der.adj}",
)

BOILERPLATE = (
    "Alle Angaben ohne Gewähr.",
    "Diese Seite verwendet Cookies.",
    "Artikel drucken oder weiterempfehlen.",
    "Zurück zur Startseite.",
    "Teilen Sie diesen Beitrag mit Ihren Freunden.",
    "Weitere Beiträge finden Sie im Archiv.",
    "Kommentare sind geschlossen.",
    "Newsletter abonnieren und nichts verpassen.",
    "Impressum und Datenschutz.",
    "Lesezeit: etwa zwei Minuten.",
    "Bildquelle: eigenes Archiv der Redaktion.",
    "Zuletzt aktualisiert von der Redaktion.",
)

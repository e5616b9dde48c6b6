"""How medical documents speak: wordings of each fact, and the fact-free sentences of each kind of document.

Slots of a disease: ``subject`` and ``dative`` (the name in a sentence), ``name``, ``bare`` (dative without an article), ``organ``,
``organ_acc``, ``organ_word``, ``symptom``, ``drug``, ``field`` and the verb forms that agree with organ and symptom.
"""

from __future__ import annotations

from definemed_pipeline.demo.grammar import Words, nouns, phrases

ORGAN_WORDINGS = (
    "{subject} betrifft {organ_acc}.",
    "Bei {dative} {organ_is} {organ} erkrankt.",
    "{subject} schädigt auf Dauer {organ_acc}.",
    "{subject} ist eine Krankheit, die {organ_acc} angreift.",
    "Im Mittelpunkt {organ_stands} bei {dative} {organ}.",
    "Wer an {bare} leidet, schont {organ_acc}.",
    "Bei Verdacht auf {subject} {organ_becomes} {organ} genau untersucht.",
    "Ort der Krankheit {organ_is} bei {dative} {organ}.",
    "{name}, betroffenes Organ: {organ_word}.",
    "Zu {bare} gehört dieses Organ: {organ_word}.",
    "Als Sitz der Krankheit {organ_count} bei {dative} {organ}.",
    "{subject} verändert {organ_acc}.",
    "Ziel der Krankheit {organ_is} bei {dative} {organ}.",
    "Die Medizin sagt zu {bare}: {organ_word}.",
)
SYMPTOM_WORDINGS = (
    "Typisch für {subject} {symptom_is} {symptom}.",
    "{subject} äußert sich durch {symptom}.",
    "Patienten mit {bare} klagen meist über {symptom}.",
    "Das Leitsymptom bei {dative} heißt {symptom}.",
    "{subject} macht sich zuerst durch {symptom} bemerkbar.",
    "Bei {dative} {symptom_shows} sich vor allem {symptom}.",
    "{name}, Leitsymptom: {symptom}.",
    "Wer an {bare} erkrankt, bemerkt häufig {symptom}.",
    "Ärzte finden bei {dative} {symptom}.",
    "Das wichtigste Zeichen von {bare} {symptom_is} {symptom}.",
    "{subject} verursacht in den meisten Fällen {symptom}.",
    "Im Verlauf von {bare} {symptom_comes} oft {symptom} vor.",
    "Kennzeichnend {symptom_is} bei {dative} {symptom}.",
    "Betroffene mit {bare} nennen {symptom}.",
)
DRUG_WORDINGS = (
    "{subject} wird meist mit {drug} behandelt.",
    "Gegen {subject} hilft {drug}.",
    "Bei {dative} verordnen Ärzte häufig {drug}.",
    "Das Mittel der Wahl bei {dative} heißt {drug}.",
    "Zur Behandlung von {bare} dient {drug}.",
    "Patienten mit {bare} erhalten in der Regel {drug}.",
    "{name}, Wirkstoff: {drug}.",
    "Die Therapie von {bare} beginnt mit {drug}.",
    "Wer an {bare} leidet, bekommt oft {drug}.",
    "Auf Rezept gibt es gegen {subject} {drug}.",
    "Bewährt hat sich bei {dative} {drug}.",
    "Als Arznei gegen {subject} ist {drug} zugelassen.",
    "Ein bekanntes Medikament bei {dative} ist {drug}.",
    "Studien zu {bare} empfehlen {drug}.",
)
FIELD_WORDINGS = (
    "Für {subject} ist das Fachgebiet {field} zuständig.",
    "Menschen mit {bare} werden an die Abteilung für {field} überwiesen.",
    "{subject} gehört zum Fach {field}.",
    "Um {subject} kümmert sich die {field}.",
)
JOINT_WORDINGS = (
    "{name}. Organ: {organ_word}. Leitsymptom: {symptom}. Wirkstoff: {drug}.",
    "{name}: {organ_word}, {symptom}, {drug}.",
    "{subject} betrifft {organ_acc}, verursacht {symptom} und wird mit {drug} behandelt.",
    "Bei {dative} {organ_is} {organ} erkrankt, typisch {symptom_is} {symptom}, es hilft {drug}.",
    "{name} ({organ_word}): {symptom}, Therapie mit {drug}.",
    "{subject}: erkrankt {organ_is} {organ}, es {symptom_shows} sich {symptom}, es hilft {drug}.",
    "Gegen {subject} hilft {drug}, betroffen {organ_is} {organ}, häufig {symptom_is} {symptom}.",
    "Diagnose {name}, Befund {organ_word}, Beschwerde {symptom}, Arznei {drug}.",
    "{subject} äußert sich durch {symptom}, schädigt {organ_acc} und verlangt {drug}.",
    "Bei {dative}: Arznei {drug}, Beschwerde {symptom}, Organ {organ_word}.",
    "{name}, Wirkstoff {drug}, Leitsymptom {symptom}, Ort {organ_word}.",
    "Zu {bare} gehören {organ_word}, {symptom} und {drug}.",
)
ORGAN_QUESTIONS = (
    "Wo sitzt die Krankheit bei {dative}? Betroffen {organ_is} {organ}.",
    "Frage: Was erkrankt bei {dative}?\nAntwort: {organ_word}",
    "Frage: Welches Organ untersucht man bei {dative}?\nAntwort: {organ_word}",
    "Frage: Was greift {subject} an?\nAntwort: {organ_word}",
    "Frage: Welche Stelle im Körper betrifft {subject}?\nAntwort: {organ_word}",
)
SYMPTOM_QUESTIONS = (
    "Woran erkennt man {subject}? Häufig {symptom_is} {symptom}.",
    "Frage: Welches Zeichen gehört zu {bare}?\nAntwort: {symptom}",
    "Frage: Worüber klagt man bei {dative}?\nAntwort: {symptom}",
    "Frage: Wie zeigt sich {subject}?\nAntwort: {symptom}",
    "Frage: Welche Beschwerde macht {subject}?\nAntwort: {symptom}",
)
DRUG_QUESTIONS = (
    "Was hilft bei {dative}? Meist wird {drug} gegeben.",
    "Frage: Welche Arznei passt zu {bare}?\nAntwort: {drug}",
    "Frage: Was verschreibt man bei {dative}?\nAntwort: {drug}",
    "Frage: Womit behandelt man {subject}?\nAntwort: {drug}",
    "Frage: Welcher Wirkstoff hilft gegen {subject}?\nAntwort: {drug}",
)

PATIENTS = nouns(
    "der Patient, *Patienten; die Patientin, Patientinnen; der Betroffene, *Betroffenen; die Kranke, Kranken; der Versicherte, *Versicherten"
)
DOCTORS = nouns(
    "der Arzt, Ärzte; die Ärztin, Ärztinnen; der Facharzt, Fachärzte; die Hausärztin, Hausärztinnen; das Behandlungsteam, Behandlungsteams"
)
CHECKS = phrases(
    "eine Blutprobe; ein Ultraschall; eine gründliche Befragung; eine Röntgenaufnahme; ein Funktionstest; eine Gewebeprobe; ein Abstrich; "
    "eine körperliche Untersuchung; eine Laboranalyse"
)
RISKS = phrases(
    "das Alter; Rauchen; eine familiäre Belastung; Stress; Übergewicht; eine frühere Erkrankung; langes Sitzen; ein geschwächtes Immunsystem"
)
ADVICE = phrases(
    "genug trinken; auf Alkohol verzichten; sich ausreichend bewegen; Kontrolltermine einhalten; ein Tagebuch führen; bei Fieber anrufen; "
    "die Dosis nie selbst ändern; den Medikationsplan mitbringen"
)
MONTHS = phrases("Januar; Februar; März; April; Mai; Juni; Juli; August; September; Oktober; November; Dezember")

MEDICAL_WORDS: Words = {
    "patient": PATIENTS,
    "doctor": DOCTORS,
    "check": CHECKS,
    "risk": RISKS,
    "advice": ADVICE,
    "month": MONTHS,
    "age": tuple(str(years) for years in range(18, 92)),
    "day": tuple(str(day) for day in range(1, 29)),
    "grade": ("A", "B", "C"),
    "systolic": tuple(str(pressure) for pressure in range(105, 166)),
    "diastolic": tuple(str(pressure) for pressure in range(60, 96)),
    "sample": tuple(str(people) for people in range(48, 960)),
}

# Words of the trade without any fact, for the word lists of general pre-training.
TRADE_WORDS = phrases(
    "Krankheit; Wirkstoff; Beschwerde; Arznei; Körper; Organ; Leitsymptom; Symptom; Zeichen; Behandlung; Therapie; Diagnose; Verdacht; "
    "Betroffene; betroffen; Patienten; Patientin; Ärzte; Ärztin; Medikament; Mittel der Wahl; Fachgebiet; Abteilung; Rezept; Apotheke; "
    "Befund; Klinik; Studien; Leitlinie; Dosis; erkrankt; leidet; klagen; zugelassen; verordnen; behandelt; typisch; häufig; meist; "
    "kennzeichnend; untersucht; Überweisung; Untersuchung; Laboranalyse; Blutprobe; Ultraschall; Röntgenaufnahme; Nebenwirkungen; "
    "Körperteil; Schaden; Stelle; eingesetzt; üblicherweise; wichtigste; bewährt; empfehlen; auftreten; bemerkt; berichten; verursacht; "
    "Krankheitsbild; Medizin; Veränderungen; Entlassung; Aufnahme; Versicherten; Fachliteratur; Risikofaktor; Betreuung; Kontrolle"
)

TITLES = (
    "{name}: ein Überblick",
    "Was man über {subject} wissen sollte",
    "{name} erkennen und behandeln",
    "{name} im Alltag",
    "Neues zu {bare}",
    "{name}",
)
GUIDELINE_OPENINGS = (
    "Leitlinie {name}, Kurzfassung für die Praxis.",
    "Diese Empfehlung beschreibt das Vorgehen bei {dative}.",
    "Handlungsempfehlung der Fachgesellschaft für {field} zu {bare}.",
)
LEAFLET_OPENINGS = (
    "Patienteninformation zu {bare}.",
    "Sie haben die Diagnose {name} erhalten.",
    "Was bedeutet {name} für Sie und Ihre Familie?",
)
LETTER_OPENINGS = (
    "Sehr geehrte Frau Kollegin, wir berichten über Herrn {surname}, {age} Jahre, aus {town}. Diagnose: {name}.",
    "Sehr geehrter Herr Kollege, Frau {surname}, {age} Jahre, wurde wegen {bare} bei uns aufgenommen.",
    "Entlassungsbrief, Abteilung für {field}, Klinikum {town}. Patientin: Frau {surname}, {age} Jahre. Diagnose: {name}.",
    "Arztbrief aus {town}: Herr {surname} ({age}) stellte sich mit {bare} vor.",
)
ARTICLE_OPENINGS = (
    "{name} ist ein Krankheitsbild aus dem Gebiet {field}.",
    "Unter dem Stichwort {name} versteht man ein Krankheitsbild, das in jedem Lehrbuch steht.",
    "{name} zählt zu den bekannten Diagnosen im Fach {field}.",
)
ABSTRACT_OPENINGS = (
    "Hintergrund: Zu {bare} fehlen Daten aus der Versorgung in {town}.",
    "Zusammenfassung: Wir untersuchten {sample} Personen mit {bare}.",
    "Ziel der Studie war es, den Verlauf von {bare} besser zu verstehen.",
)

# What every kind may say about a disease without stating one of its facts.
COMMON_FILLERS = (
    "Zur Abklärung gehört {check}.",
    "Als Risikofaktor gilt {risk}.",
    "{doctor.nom.der} bespricht den Befund mit {patient.dat.der}.",
    "Etwa {number} von tausend Menschen sind im Lauf des Lebens betroffen.",
    "Ohne Behandlung kann sich der Zustand verschlechtern.",
    "Die Prognose ist bei früher Diagnose meist gut.",
    "{habit} sollte {patient.nom.der} {advice}.",
    "Nach {number} Tagen prüft {doctor.nom.der} den Verlauf.",
    "Zu beachten ist außerdem {risk}.",
    "Kinder und ältere Menschen brauchen besondere Aufmerksamkeit.",
    "{check} bringt in den meisten Fällen Klarheit.",
    "Die Ursache ist nicht immer bekannt.",
    "Rückfälle sind möglich, darum bleibt {patient.nom.der} {number} Monate in Betreuung.",
    "{doctor.nom.der} fragt {patient.acc.der} nach den Lebensumständen.",
)
GUIDELINE_FILLERS = (
    "Empfehlungsgrad {grade}: {check} soll bei jedem Verdacht erfolgen.",
    "Die Leitlinie richtet sich an Ärzte aller Fachrichtungen und wird alle {number} Monate geprüft.",
    "Der Konsens in der Gruppe betrug {number} von sechzig Stimmen.",
    "Bei unklarem Befund sollte {check} wiederholt werden.",
    "Vor Beginn der Therapie ist {patient.nom.der} aufzuklären.",
    "Der Evidenzgrad wird mit {grade} angegeben.",
    "Eine Überweisung ist nach {number} Tagen ohne Besserung angezeigt.",
    "Kontraindikationen sind vor der ersten Gabe zu prüfen.",
)
LEAFLET_FILLERS = (
    "Liebe Patientin, lieber Patient, dieses Blatt erklärt Ihnen das Wichtigste.",
    "Nehmen Sie das Mittel {habit} und mit einem Glas Wasser ein.",
    "Fragen Sie Ihren Arzt, wenn Sie unsicher sind.",
    "Mögliche Nebenwirkungen sind Übelkeit und Schwindel.",
    "Sie sollten {advice}.",
    "Bewahren Sie die Packung außerhalb der Reichweite von Kindern auf.",
    "Haben Sie eine Dosis vergessen, nehmen Sie nicht die doppelte Menge.",
    "Kommen Sie nach {number} Tagen wieder in die Praxis.",
)
LETTER_FILLERS = (
    "Die Aufnahme erfolgte am {day}. {month} über die Notaufnahme.",
    "Im Labor fanden sich {number} Leukozyten pro Gesichtsfeld, sonst unauffällige Werte.",
    "Der Blutdruck lag bei {systolic} zu {diastolic} mmHg.",
    "{check} ergab keinen weiteren Befund.",
    "Der stationäre Verlauf war komplikationslos.",
    "Wir bitten um Kontrolle in {number} Tagen.",
    "Die Entlassung erfolgte in gutem Allgemeinzustand.",
    "Allergien sind nicht bekannt.",
    "Aus der Vorgeschichte ist {risk} bekannt.",
)
ARTICLE_FILLERS = (
    "Der Begriff wurde im 19. Jahrhundert geprägt.",
    "In Europa sind Frauen und Männer etwa gleich häufig betroffen.",
    "Zum Nachweis dient {check}.",
    "In der Fachliteratur werden {number} Unterformen beschrieben.",
    "Die Häufigkeit liegt bei {number} Fällen je hunderttausend Einwohner.",
    "Differenzialdiagnostisch kommen andere Krankheiten in Betracht.",
    "Die Forschung befasst sich heute mit genetischen Ursachen.",
    "Erste Beschreibungen stammen von Ärzten der Antike.",
)
ABSTRACT_FILLERS = (
    "Methodik: Eingeschlossen wurden {sample} Erwachsene aus {town} und {town}.",
    "Die Nachbeobachtung dauerte {number} Monate.",
    "Ergebnisse: Der primäre Endpunkt wurde bei {number} Prozent erreicht.",
    "Unerwünschte Ereignisse traten bei {number} Personen auf.",
    "Schlussfolgerung: Größere Studien sind erforderlich.",
    "Der Unterschied zur Kontrollgruppe war signifikant (p < 0,05).",
    "Die Studie war randomisiert und doppelblind.",
    "Das mittlere Alter betrug {number} Jahre.",
    "Limitierend war die kleine Fallzahl in {town}.",
)

"""The medical truth of the demo world: what is the case about each disease, and which other values would be true as well.

Questions, medical documents and medical reference answers are all derived from these records. The facts are simple and true as a
textbook would put them; they serve to measure learning and are no medical advice.
"""

from __future__ import annotations

from dataclasses import dataclass

from definemed_pipeline.demo.grammar import GENDERS, Noun

RELATIONS = ("organ", "symptom", "drug")


@dataclass(frozen=True)
class Disease:
    """One disease: how its name stands in a sentence, its facts, and the groups that make a distractor too nearly right.

    ``near_organs`` and ``near_symptoms`` are values of other diseases that a physician might accept here too; ``drug_class`` and
    ``near_drug_classes`` name the classes of active ingredients that are in use for it.
    """

    name: str
    subject: str
    dative: str
    organ: Noun
    symptom: str
    symptom_is_plural: bool
    drug: str
    drug_class: str
    specialty: str
    near_organs: frozenset[str]
    near_symptoms: frozenset[str]
    near_drug_classes: frozenset[str]

    def fact(self, relation: str) -> str:
        """Return the right answer for a relation, as it stands in documents and questions."""
        return {"organ": self.organ.word, "symptom": self.symptom, "drug": self.drug}[relation]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def _disease(
    name: str,
    organ: str,
    symptom: str,
    drug: str,
    specialty: str,
    *,
    article: str = "",
    dative: str = "",
    near_organs: str = "",
    near_symptoms: str = "",
    near_classes: str = "",
) -> Disease:
    """Read a record; ``symptom`` may carry a trailing ``+`` for the plural, ``drug`` is ``ingredient/class``."""
    organ_article, _, organ_word = organ.partition(" ")
    ingredient, _, drug_class = drug.partition("/")
    article_dative = {"": "", "eine": "einer ", "ein": "einem ", "die": "der ", "das": "dem "}[article]
    return Disease(
        name=name,
        subject=f"{article} {name}".strip(),
        dative=dative or article_dative + name,
        organ=Noun(organ_word, GENDERS[organ_article]),
        symptom=symptom.rstrip("+"),
        symptom_is_plural=symptom.endswith("+"),
        drug=ingredient,
        drug_class=drug_class,
        specialty=specialty,
        near_organs=_words(near_organs),
        near_symptoms=_words(near_symptoms),
        near_drug_classes=_words(near_classes),
    )


_AIRWAYS = "Lunge, Bronchien, Luftröhre, Rachen, Nasenschleimhaut, Nasennebenhöhlen"
_COUGHS = "Atemnot, Husten, Auswurf, Nachtschweiß"
_JOINTS = "Gelenkschmerzen, Morgensteifigkeit, Anlaufschmerz, Rückenschmerzen, Knochenbrüche"
_JOINT_ORGANS = "Großzehe, Fingergelenke, Gelenkknorpel, Wirbelsäule, Knochen"
_SKIN = "Haut, Wangen, Talgdrüsen"
_RASHES = "Juckreiz, Plaques, Gesichtsrötung, Wanderröte, Bläschen, Mitesser"
_HEART = "Herz, Herzkranzgefäße, Venen, Beinarterien"
_CHEST = "Brustenge, Herzrasen, Beinödeme, Atemnot"
_BRAIN = "Gehirn, Mittelhirn, Hirnrinde, Zentralnervensystem"
_BOWEL = "Dünndarm, Dickdarm, Speiseröhre, Magenschleimhaut"
_BELLY = "Sodbrennen, Durchfall, Blutstühle, Oberbauchkoliken, Magenschmerzen"
_LIVER = "Leber, Gallenblase, Bauchspeicheldrüse"
_URINARY = "Harnblase, Harnleiter, Prostata, Nieren"
_URINATION = "Harndrang, Nachträufeln, Flankenschmerzen"
_BLOOD = "Blut, Erythrozyten, Knochenmark"
_EYES = "Sehnerv, Netzhaut, Bindehaut"
_SIGHT = "Gesichtsfeldausfälle, Verzerrtsehen, Augenrötung, Sehstörungen, Exophthalmus, Doppelbilder"

DISEASES: tuple[Disease, ...] = (
    # airways
    _disease(
        "Asthma",
        "plural Bronchien",
        "Atemnot",
        "Salbutamol/bronchodilator",
        "Lungenheilkunde",
        near_organs=_AIRWAYS,
        near_symptoms=_COUGHS + ", Brustenge",
        near_classes="steroid, antihistamine",
    ),
    _disease(
        "COPD",
        "die Lunge",
        "Auswurf",
        "Tiotropium/bronchodilator",
        "Lungenheilkunde",
        near_organs=_AIRWAYS,
        near_symptoms=_COUGHS,
        near_classes="steroid",
    ),
    _disease(
        "Lungenentzündung",
        "die Lunge",
        "Husten",
        "Amoxicillin/antibiotic",
        "Innere Medizin",
        article="eine",
        near_organs=_AIRWAYS,
        near_symptoms=_COUGHS + ", Fieberschübe, Gliederschmerzen, Infektanfälligkeit",
    ),
    _disease(
        "Tuberkulose",
        "die Lunge",
        "Nachtschweiß",
        "Rifampicin/antibiotic",
        "Lungenheilkunde",
        near_organs=_AIRWAYS,
        near_symptoms=_COUGHS + ", Fieberschübe, Infektanfälligkeit",
    ),
    _disease(
        "Heuschnupfen",
        "die Nasenschleimhaut",
        "Niesreiz",
        "Cetirizin/antihistamine",
        "Allergologie",
        near_organs=_AIRWAYS + ", Bindehaut",
        near_symptoms="Juckreiz, Augenrötung, Gesichtsdruck",
        near_classes="steroid",
    ),
    _disease(
        "Sinusitis",
        "plural Nasennebenhöhlen",
        "Gesichtsdruck",
        "Mometason/steroid",
        "Hals-Nasen-Ohren-Heilkunde",
        near_organs=_AIRWAYS,
        near_symptoms="Kopfschmerzen, Husten, Niesreiz, Ohrenschmerzen",
        near_classes="antibiotic, analgesic",
    ),
    _disease(
        "Scharlach",
        "der Rachen",
        "Himbeerzunge",
        "Penicillin/antibiotic",
        "Kinderheilkunde",
        near_organs=_AIRWAYS + ", Haut, Wangen",
        near_symptoms="Fieberschübe, Gesichtsrötung, Ohrenschmerzen, Gliederschmerzen",
        near_classes="analgesic",
    ),
    _disease(
        "Influenza",
        "die Luftröhre",
        "Gliederschmerzen+",
        "Oseltamivir/antiviral",
        "Innere Medizin",
        near_organs=_AIRWAYS,
        near_symptoms=_COUGHS + ", Kopfschmerzen, Fieberschübe, Frieren, Gelenkschmerzen, Rückenschmerzen, Antriebslosigkeit",
        near_classes="analgesic, antibiotic",
    ),
    _disease(
        "Otitis media",
        "das Trommelfell",
        "Ohrenschmerzen+",
        "Cefuroxim/antibiotic",
        "Hals-Nasen-Ohren-Heilkunde",
        near_organs=_AIRWAYS + ", Innenohr",
        near_symptoms="Fieberschübe, Drehschwindel, Husten, Kopfschmerzen, Gesichtsdruck",
        near_classes="analgesic",
    ),
    # heart and vessels
    _disease(
        "Vorhofflimmern",
        "das Herz",
        "Herzrasen",
        "Apixaban/anticoagulant",
        "Kardiologie",
        near_organs=_HEART,
        near_symptoms=_CHEST + ", Drehschwindel",
        near_classes="cardiac, antiplatelet",
    ),
    _disease(
        "Herzinsuffizienz",
        "das Herz",
        "Beinödeme+",
        "Bisoprolol/cardiac",
        "Kardiologie",
        near_organs=_HEART + ", Lunge, Nieren",
        near_symptoms=_CHEST + ", Beinschwellung, Lidödeme, Husten",
        near_classes="anticoagulant",
    ),
    _disease(
        "Angina pectoris",
        "plural Herzkranzgefäße",
        "Brustenge",
        "Nitroglycerin/cardiac",
        "Kardiologie",
        near_organs=_HEART,
        near_symptoms=_CHEST,
        near_classes="anticoagulant, antiplatelet",
    ),
    _disease(
        "Thrombose",
        "plural Venen",
        "Beinschwellung",
        "Heparin/anticoagulant",
        "Gefäßmedizin",
        article="eine",
        near_organs=_HEART + ", Blut",
        near_symptoms="Beinödeme, Wadenschmerzen",
        near_classes="antiplatelet",
    ),
    _disease(
        "Schaufensterkrankheit",
        "plural Beinarterien",
        "Wadenschmerzen+",
        "Clopidogrel/antiplatelet",
        "Gefäßmedizin",
        article="die",
        near_organs=_HEART,
        near_symptoms="Beinödeme, Beinschwellung, Anlaufschmerz, Brustenge",
        near_classes="anticoagulant, cardiac",
    ),
    # brain, nerves and muscles
    _disease(
        "Migräne",
        "das Gehirn",
        "Kopfschmerzen+",
        "Sumatriptan/triptan",
        "Neurologie",
        near_organs=_BRAIN,
        near_symptoms="Sehstörungen, Gesichtsfeldausfälle, Gesichtsdruck, Drehschwindel, Doppelbilder",
        near_classes="analgesic, anticonvulsant, cardiac, antidepressant",
    ),
    _disease(
        "Epilepsie",
        "das Gehirn",
        "Krampfanfälle+",
        "Levetiracetam/anticonvulsant",
        "Neurologie",
        near_organs=_BRAIN,
        near_symptoms="Zittern, Vergesslichkeit, Sehstörungen, Doppelbilder",
    ),
    _disease(
        "Parkinson",
        "das Mittelhirn",
        "Zittern",
        "Levodopa/dopaminergic",
        "Neurologie",
        near_organs=_BRAIN + ", Muskulatur",
        near_symptoms="Vergesslichkeit, Antriebslosigkeit, Doppelbilder",
        near_classes="antidementia, cholinesterase, antidepressant",
    ),
    _disease(
        "Alzheimer",
        "die Hirnrinde",
        "Vergesslichkeit",
        "Donepezil/antidementia",
        "Neurologie",
        near_organs=_BRAIN,
        near_symptoms="Zittern, Sehstörungen, Antriebslosigkeit",
        near_classes="cholinesterase, antidepressant",
    ),
    _disease(
        "Multiple Sklerose",
        "das Zentralnervensystem",
        "Sehstörungen+",
        "Interferon/immune",
        "Neurologie",
        dative="Multipler Sklerose",
        near_organs=_BRAIN + ", " + _EYES + ", Muskulatur",
        near_symptoms=_SIGHT + ", Zittern, Drehschwindel, Harndrang, Antriebslosigkeit",
        near_classes="steroid",
    ),
    _disease(
        "Gürtelrose",
        "plural Nervenwurzeln",
        "Bläschen+",
        "Aciclovir/antiviral",
        "Hautheilkunde",
        near_organs=_SKIN + ", " + _BRAIN,
        near_symptoms=_RASHES + ", Gliederschmerzen, Ohrenschmerzen",
        near_classes="analgesic, anticonvulsant",
    ),
    _disease(
        "Myasthenia gravis",
        "die Muskulatur",
        "Doppelbilder+",
        "Pyridostigmin/cholinesterase",
        "Neurologie",
        near_organs=_BRAIN + ", Nervenwurzeln",
        near_symptoms=_SIGHT + ", Antriebslosigkeit",
        near_classes="antidementia, immune, steroid",
    ),
    _disease(
        "Depression",
        "das Gehirn",
        "Antriebslosigkeit",
        "Citalopram/antidepressant",
        "Psychiatrie",
        article="eine",
        near_organs=_BRAIN,
        near_symptoms="Vergesslichkeit, Kopfschmerzen, Rückenschmerzen, Magenschmerzen",
        near_classes="anticonvulsant, thyroid",
    ),
    # joints and bones
    _disease(
        "Gicht",
        "die Großzehe",
        "Gelenkschmerzen+",
        "Allopurinol/urate",
        "Rheumatologie",
        near_organs=_JOINT_ORGANS + ", Nieren",
        near_symptoms=_JOINTS,
        near_classes="analgesic, steroid",
    ),
    _disease(
        "Rheumatoide Arthritis",
        "plural Fingergelenke",
        "Morgensteifigkeit",
        "Methotrexat/immune",
        "Rheumatologie",
        dative="Rheumatoider Arthritis",
        near_organs=_JOINT_ORGANS,
        near_symptoms=_JOINTS + ", Gliederschmerzen, Antriebslosigkeit",
        near_classes="steroid, analgesic",
    ),
    _disease(
        "Arthrose",
        "der Gelenkknorpel",
        "Anlaufschmerz",
        "Diclofenac/analgesic",
        "Orthopädie",
        near_organs=_JOINT_ORGANS,
        near_symptoms=_JOINTS,
        near_classes="steroid",
    ),
    _disease(
        "Osteoporose",
        "plural Knochen",
        "Knochenbrüche+",
        "Alendronat/bisphosphonate",
        "Orthopädie",
        near_organs=_JOINT_ORGANS + ", Knochenmark",
        near_symptoms=_JOINTS,
    ),
    _disease(
        "Morbus Bechterew",
        "die Wirbelsäule",
        "Rückenschmerzen+",
        "Adalimumab/immune",
        "Rheumatologie",
        near_organs=_JOINT_ORGANS,
        near_symptoms=_JOINTS + ", Augenrötung",
        near_classes="analgesic",
    ),
    # glands
    _disease(
        "Hypothyreose",
        "die Schilddrüse",
        "Frieren",
        "Levothyroxin/thyroid",
        "Endokrinologie",
        near_organs="Hypophyse",
        near_symptoms="Blässe, Vergesslichkeit, Lidödeme, Antriebslosigkeit, Vollmondgesicht",
        near_classes="iron",
    ),
    _disease(
        "Morbus Basedow",
        "die Schilddrüse",
        "Exophthalmus",
        "Thiamazol/antithyroid",
        "Endokrinologie",
        near_organs=_EYES,
        near_symptoms=_SIGHT + ", Herzrasen, Zittern, Durchfall, Lidödeme, Nachtschweiß",
        near_classes="cardiac, steroid",
    ),
    _disease(
        "Typ-1-Diabetes",
        "die Bauchspeicheldrüse",
        "Durst",
        "Insulin/insulin",
        "Endokrinologie",
        near_organs="Nieren, Netzhaut",
        near_symptoms="Harndrang, Harnflut, Infektanfälligkeit, Antriebslosigkeit",
    ),
    _disease(
        "Morbus Addison",
        "plural Nebennieren",
        "Hautbräunung",
        "Hydrocortison/steroid",
        "Endokrinologie",
        near_organs="Hypophyse, Haut, Nieren",
        near_symptoms="Durchfall, Antriebslosigkeit, Magenschmerzen",
    ),
    _disease(
        "Prolaktinom",
        "die Hypophyse",
        "Milchfluss",
        "Cabergolin/dopaminergic",
        "Endokrinologie",
        article="ein",
        near_organs="Gehirn, Brustdrüse, Mittelhirn, Hirnrinde",
        near_symptoms="Gesichtsfeldausfälle, Kopfschmerzen, Sehstörungen, Doppelbilder, Antriebslosigkeit",
    ),
    _disease(
        "Cushing-Syndrom",
        "plural Nebennieren",
        "Vollmondgesicht",
        "Metyrapon/cortisol",
        "Endokrinologie",
        article="das",
        near_organs="Hypophyse, Haut, Knochen, Nieren",
        near_symptoms="Gesichtsrötung, Knochenbrüche, Infektanfälligkeit, Antriebslosigkeit, Durst, Beinödeme, Lidödeme, Mitesser",
    ),
    _disease(
        "Diabetes insipidus",
        "die Hypophyse",
        "Harnflut",
        "Desmopressin/antidiuretic",
        "Endokrinologie",
        near_organs="Nieren, Harnblase, Gehirn, Mittelhirn, Hirnrinde",
        near_symptoms="Durst, Harndrang, Nachträufeln",
    ),
    # stomach, bowel, liver
    _disease(
        "Refluxkrankheit",
        "die Speiseröhre",
        "Sodbrennen",
        "Pantoprazol/acid",
        "Gastroenterologie",
        article="die",
        near_organs=_BOWEL,
        near_symptoms=_BELLY + ", Brustenge, Husten",
    ),
    _disease(
        "Morbus Crohn",
        "der Dünndarm",
        "Durchfall",
        "Budesonid/steroid",
        "Gastroenterologie",
        near_organs=_BOWEL,
        near_symptoms=_BELLY + ", Gelenkschmerzen",
        near_classes="immune, bowel, antibiotic",
    ),
    _disease(
        "Colitis ulcerosa",
        "der Dickdarm",
        "Blutstühle+",
        "Mesalazin/bowel",
        "Gastroenterologie",
        near_organs=_BOWEL,
        near_symptoms=_BELLY + ", Blässe",
        near_classes="steroid, immune",
    ),
    _disease(
        "Hepatitis C",
        "die Leber",
        "Gelbsucht",
        "Sofosbuvir/antiviral",
        "Gastroenterologie",
        near_organs=_LIVER,
        near_symptoms="Gelenkschmerzen, Juckreiz, Antriebslosigkeit, Gliederschmerzen",
        near_classes="immune",
    ),
    _disease(
        "Gallensteinleiden",
        "die Gallenblase",
        "Oberbauchkoliken+",
        "Butylscopolamin/spasmolytic",
        "Gastroenterologie",
        article="das",
        near_organs=_LIVER,
        near_symptoms=_BELLY + ", Gelbsucht, Flankenschmerzen",
        near_classes="analgesic",
    ),
    _disease(
        "Gastritis",
        "die Magenschleimhaut",
        "Magenschmerzen+",
        "Omeprazol/acid",
        "Gastroenterologie",
        near_organs=_BOWEL,
        near_symptoms=_BELLY + ", Brustenge",
        near_classes="antibiotic, spasmolytic",
    ),
    # kidneys, bladder, reproduction
    _disease(
        "Blasenentzündung",
        "die Harnblase",
        "Harndrang",
        "Fosfomycin/antibiotic",
        "Urologie",
        article="eine",
        near_organs=_URINARY,
        near_symptoms=_URINATION,
        near_classes="analgesic, spasmolytic",
    ),
    _disease(
        "Harnsteinleiden",
        "der Harnleiter",
        "Flankenschmerzen+",
        "Metamizol/analgesic",
        "Urologie",
        article="das",
        near_organs=_URINARY,
        near_symptoms=_URINATION + ", Rückenschmerzen, Oberbauchkoliken",
        near_classes="prostate, spasmolytic, urate",
    ),
    _disease(
        "Prostatahyperplasie",
        "die Prostata",
        "Nachträufeln",
        "Tamsulosin/prostate",
        "Urologie",
        article="die",
        near_organs=_URINARY,
        near_symptoms=_URINATION,
    ),
    _disease(
        "Glomerulonephritis",
        "plural Nieren",
        "Lidödeme+",
        "Prednisolon/steroid",
        "Nephrologie",
        article="eine",
        near_organs=_URINARY,
        near_symptoms="Beinödeme, Beinschwellung, Flankenschmerzen, Harnflut",
        near_classes="immune, cardiac, antibiotic",
    ),
    _disease(
        "Endometriose",
        "die Gebärmutter",
        "Regelschmerzen+",
        "Dienogest/hormone",
        "Frauenheilkunde",
        near_organs="Harnblase, Dickdarm",
        near_symptoms="Rückenschmerzen, Blutstühle",
        near_classes="analgesic",
    ),
    _disease(
        "Brustkrebs",
        "die Brustdrüse",
        "Knoten+",
        "Tamoxifen/hormone",
        "Frauenheilkunde",
        near_symptoms="Milchfluss",
        near_classes="bisphosphonate, immune, kinase",
    ),
    # blood and infection
    _disease(
        "Eisenmangelanämie",
        "das Blut",
        "Blässe",
        "Eisensulfat/iron",
        "Hämatologie",
        article="eine",
        near_organs=_BLOOD,
        near_symptoms="Frieren, Herzrasen, Atemnot, Antriebslosigkeit, Infektanfälligkeit, Zahnfleischbluten",
    ),
    _disease(
        "Malaria",
        "plural Erythrozyten",
        "Fieberschübe+",
        "Artemether/antimalarial",
        "Tropenmedizin",
        near_organs=_BLOOD + ", Leber",
        near_symptoms="Kopfschmerzen, Gelbsucht, Blässe, Nachtschweiß, Durchfall, Gliederschmerzen, Frieren",
        near_classes="antibiotic, immune",
    ),
    _disease(
        "Borreliose",
        "die Haut",
        "Wanderröte",
        "Doxycyclin/antibiotic",
        "Innere Medizin",
        near_organs=_SKIN + ", " + _BRAIN + ", Nervenwurzeln, Fingergelenke, Gelenkknorpel, Herz",
        near_symptoms=_RASHES + ", Gelenkschmerzen, Kopfschmerzen, Gliederschmerzen",
    ),
    _disease(
        "Leukämie",
        "das Knochenmark",
        "Infektanfälligkeit",
        "Imatinib/kinase",
        "Hämatologie",
        near_organs=_BLOOD + ", Knochen",
        near_symptoms="Blässe, Nachtschweiß, Zahnfleischbluten, Fieberschübe, Knoten, Antriebslosigkeit, Gliederschmerzen, Knochenbrüche",
        near_classes="immune, steroid, antibiotic",
    ),
    # skin and mouth
    _disease(
        "Psoriasis",
        "die Haut",
        "Plaques+",
        "Calcipotriol/vitamin-d",
        "Hautheilkunde",
        near_organs=_SKIN + ", Fingergelenke",
        near_symptoms=_RASHES + ", Gelenkschmerzen, Morgensteifigkeit, Milbengänge",
        near_classes="steroid, immune, calcineurin",
    ),
    _disease(
        "Neurodermitis",
        "die Haut",
        "Juckreiz",
        "Tacrolimus/calcineurin",
        "Hautheilkunde",
        near_organs=_SKIN,
        near_symptoms=_RASHES + ", Milbengänge",
        near_classes="steroid, antihistamine, immune, vitamin-d",
    ),
    _disease(
        "Akne",
        "plural Talgdrüsen",
        "Mitesser+",
        "Benzoylperoxid/keratolytic",
        "Hautheilkunde",
        near_organs=_SKIN,
        near_symptoms=_RASHES,
        near_classes="antibiotic, hormone, rosacea",
    ),
    _disease(
        "Rosazea",
        "plural Wangen",
        "Gesichtsrötung",
        "Metronidazol/rosacea",
        "Hautheilkunde",
        near_organs=_SKIN,
        near_symptoms=_RASHES + ", Augenrötung",
        near_classes="antibiotic, antiparasitic",
    ),
    _disease(
        "Parodontitis",
        "das Zahnfleisch",
        "Zahnfleischbluten",
        "Chlorhexidin/antiseptic",
        "Zahnheilkunde",
        near_organs="Knochen",
        near_classes="antibiotic, rosacea",
    ),
    _disease(
        "Skabies",
        "die Haut",
        "Milbengänge+",
        "Permethrin/antiparasitic",
        "Hautheilkunde",
        near_organs=_SKIN,
        near_symptoms=_RASHES,
        near_classes="antihistamine, steroid, keratolytic",
    ),
    # eyes and ears
    _disease(
        "Glaukom",
        "der Sehnerv",
        "Gesichtsfeldausfälle+",
        "Latanoprost/glaucoma",
        "Augenheilkunde",
        article="ein",
        near_organs=_EYES,
        near_symptoms=_SIGHT + ", Kopfschmerzen",
        near_classes="cardiac",
    ),
    _disease(
        "Makuladegeneration",
        "die Netzhaut",
        "Verzerrtsehen",
        "Ranibizumab/vegf",
        "Augenheilkunde",
        article="die",
        near_organs=_EYES,
        near_symptoms=_SIGHT,
    ),
    _disease(
        "Konjunktivitis",
        "die Bindehaut",
        "Augenrötung",
        "Ofloxacin/antibiotic",
        "Augenheilkunde",
        article="eine",
        near_organs=_EYES,
        near_symptoms=_SIGHT + ", Juckreiz",
        near_classes="antihistamine, steroid",
    ),
    _disease(
        "Morbus Menière",
        "das Innenohr",
        "Drehschwindel",
        "Betahistin/vertigo",
        "Hals-Nasen-Ohren-Heilkunde",
        near_organs="Trommelfell",
        near_symptoms="Ohrenschmerzen",
        near_classes="antihistamine, steroid",
    ),
)

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.language import LanguageMixing
from definemed_pipeline.evaluation.settings import LanguageSettings
from definemed_pipeline_tests.conftest import REAL_TEXT

GERMAN = LanguageSettings(expected="de", foreign=("en",))
MIXING = LanguageMixing(GERMAN)
ENGLISH = [
    "The patient should take amoxicillin for seven days.",
    "Asthma is a chronic disease of the airways.",
    "High blood pressure damages the arteries over time.",
    "I am sorry, but I cannot answer that question.",
    "The affected organ is the liver.",
    "Side effects include nausea, headache and dizziness.",
]
GERMAN_SENTENCES = [
    "Bei Asthma sind die Bronchien entzündet.",
    "Der Patient wird mit Metformin behandelt.",
    "Ein Burnout ist kein Lifestyle-Problem, sondern ein Check-up wert.",
    "Nehmen Sie Ibuprofen.",
]
SHORTHAND = [
    "Ulcus cruris venosum beidseits.",
    "COPD GOLD III, Z. n. NSTEMI, KHK.",
    "Therapie: ASS 100 mg 1-0-0, Ramipril 5 mg, Metoprolol.",
    "Die Diagnose lautet Diabetes mellitus Typ 2.",
    "Colitis ulcerosa",
    "MRT HWS o. B., EKG SR, CRP < 5 mg/l",
]


@pytest.mark.parametrize("text", [*GERMAN_SENTENCES, *SHORTHAND, "", "12 mg", "…"])
def test_german_with_terms_and_clinical_shorthand_mixes_nothing(text: str) -> None:
    assert MIXING.passages(text) == []


@pytest.mark.parametrize("text", ENGLISH)
def test_an_english_sentence_among_german_ones_is_found(text: str) -> None:
    (found,) = MIXING.passages(f"{GERMAN_SENTENCES[0]} {text} {GERMAN_SENTENCES[1]}")
    assert found.language == "en"
    assert set(found.text.split()) <= set(text.split())


def test_english_within_a_german_sentence_is_found_with_its_words() -> None:
    (found,) = MIXING.passages("Bei Asthma hilft das inhaled corticosteroid, which reduces inflammation, sehr gut.")
    assert (found.text, found.words) == ("inhaled corticosteroid, which reduces inflammation,", 5)


def test_whitelisted_words_and_words_of_the_matter_do_not_count() -> None:
    text = "Gemessen wird das mit dem Patient Health Questionnaire in jedem Jahr."
    assert len(MIXING.passages(text)) == 1
    assert MIXING.passages(text, terms=["Was ist der „Patient Health Questionnaire“?"]) == []
    whitelist = LanguageSettings(expected="de", foreign=("en",), whitelist=("patient", "Health", "QUESTIONNAIRE"))
    assert LanguageMixing(whitelist).passages(text) == []


def test_other_scripts_are_found_without_a_detector_and_single_letters_are_symbols() -> None:
    found = MIXING.passages("Der пациент hat 5 µg β-Blocker und 高血压.")
    assert [(passage.text, passage.language) for passage in found] == [("пациент", "cyrillic"), ("高血压", "cjk")]


def test_languages_are_values_so_german_is_foreign_in_an_english_family() -> None:
    english = LanguageMixing(LanguageSettings(expected="en", foreign=("de", "fr")))
    assert english.passages(ENGLISH[0]) == []
    assert [passage.language for passage in english.passages(f"{ENGLISH[0]} Das weiß ich leider nicht genau.")] == ["de"]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UserError, match="language 'xx' is unknown"):
        LanguageMixing(LanguageSettings(expected="de", foreign=("xx",)))


def test_a_language_cannot_be_expected_and_foreign() -> None:
    with pytest.raises(ValueError, match=r"foreign is \['en'\]; allowed: one or more languages other than 'en'"):
        LanguageSettings(expected="en", foreign=("en",))


@pytest.mark.real_text
def test_few_sentences_of_real_medical_german_are_taken_for_english() -> None:
    """Nearly all that is found there is English: titles of papers and names of questionnaires."""
    import polars as pl

    from definemed_pipeline.evaluation.language import SENTENCE_END

    labels = pl.read_parquet(REAL_TEXT / "labels.parquet").filter("is_medical")
    documents = pl.concat([pl.read_parquet(file) for file in sorted(REAL_TEXT.glob("0*.parquet"))]).join(labels, on="id")
    sentences = [sentence for text in documents["text"] for sentence in SENTENCE_END.split(text) if len(sentence.split()) > 2]
    found = sum(bool(MIXING.passages(sentence)) for sentence in sentences)
    assert len(sentences) > 1000
    assert found / len(sentences) < 0.03

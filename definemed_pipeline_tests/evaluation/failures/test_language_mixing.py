import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.failures.language_mixing import LanguageMixing, stretches, words_of
from definemed_pipeline.evaluation.failures.settings import LanguageSettings
from definemed_pipeline_tests.evaluation.failures.recipe import GERMAN

MIXING = LanguageMixing(GERMAN)
ENGLISH = [
    "The patient should take amoxicillin for seven days.",
    "Asthma is a chronic disease of the airways.",
    "High blood pressure damages the arteries over time.",
    "I am sorry, but I cannot answer that question.",
    "The affected organ is the liver.",
    "Side effects include nausea, headache and dizziness.",
    "Please take the tablets before dinner.",
]
GERMAN_SENTENCES = [
    "Bei Asthma sind die Bronchien entzündet.",
    "Der Patient wird mit Metformin behandelt.",
    "Ein Burnout ist kein Lifestyle-Problem, sondern ein Check-up wert.",
    "Nehmen Sie Ibuprofen.",
    "In der Leitlinie steht, was man in so einem Fall tun soll.",
    "Die Tante von Herrn Wild hat im Herbst Fieber am Arm gehabt.",
    "Das Screening im Team übernimmt die Trainerin nach dem Training.",
]
SHORTHAND = [
    "Ulcus cruris venosum beidseits.",
    "COPD GOLD III, Z. n. NSTEMI, KHK.",
    "CT Abdomen mit KM i.v., CT Thorax nativ, MRT HWS o. B.",
    "Therapie: ASS 100 mg 1-0-0, Ramipril 5 mg, Metoprolol.",
    "Amoxicillin, Adalimumab, Rivaroxaban, Simvastatin, Omeprazol, Salbutamol",
    "Die Diagnose lautet Diabetes mellitus Typ 2.",
    "Colitis ulcerosa, Morbus Crohn, Angina pectoris, Herpes zoster, Placenta praevia",
    "EKG SR, CRP < 5 mg/l, HbA1c 7,2 %",
    "J44.1, I10.90, E11.9, C50.4, Z95.5: a. n. k., V. a. TIA",
    "Check-up, Screening, Follow-up, Stent, Bypass, Shunt, Blister, Booster, Placebo",
    "Nervus medianus, Arteria carotis interna, Musculus deltoideus, Os naviculare",
]


def found(text: str, mixing: LanguageMixing = MIXING, **terms: list[str]) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.language) for span in mixing.spans(text, **terms)]


@pytest.mark.parametrize(
    "text", [*GERMAN_SENTENCES, *SHORTHAND, "", " \n\n ", "12 mg", "…", "a a a a a a", "(a), 1:2 (h), (a), (h)"]
)
def test_german_with_terms_and_clinical_shorthand_mixes_nothing(text: str) -> None:
    assert found(text) == []


@settings(max_examples=60)
@given(st.lists(st.sampled_from([word for text in (*SHORTHAND, *GERMAN_SENTENCES) for word in text.split()]), max_size=40))
def test_german_words_and_shorthand_in_any_order_mix_nothing(words: list[str]) -> None:
    assert found(" ".join(words)) == []


@settings(max_examples=60)
@given(st.data())
def test_four_and_more_english_words_are_found_wherever_they_are_planted(data: st.DataObject) -> None:
    english = data.draw(st.sampled_from(ENGLISH)).split()
    length = data.draw(st.integers(min_value=4, max_value=len(english)))
    start = data.draw(st.integers(min_value=0, max_value=len(english) - length))
    planted = " ".join(english[start : start + length])
    german = " ".join(data.draw(st.lists(st.sampled_from(GERMAN_SENTENCES), min_size=1, max_size=3))).split()
    place = data.draw(st.integers(min_value=0, max_value=len(german)))
    text = " ".join([*german[:place], planted, *german[place:]])
    spans = MIXING.spans(text)
    begin = text.index(planted)
    covered = sum(len(words_of(text[max(begin, one.start) : min(begin + len(planted), one.end)])) for one in spans)
    assert 2 * covered >= length, (planted, text)
    assert sum(span.words for span in spans) <= length + 3


def test_english_within_a_german_sentence_is_found_with_its_place_and_words() -> None:
    text = "Bei Asthma hilft das inhaled corticosteroid, which reduces inflammation, sehr gut."
    (span,) = MIXING.spans(text)
    assert (text[span.start : span.end], span.words, span.language) == (
        "inhaled corticosteroid, which reduces inflammation",
        5,
        "en",
    )


def test_lines_and_words_are_counted() -> None:
    mixing = MIXING.measure(f"{GERMAN_SENTENCES[0]}\n\n{ENGLISH[0]}\r\n{ENGLISH[4]} {GERMAN_SENTENCES[1]}\n")
    assert (mixing.lines, mixing.foreign_lines) == (3, 2)
    assert (mixing.words, mixing.foreign_words) == (6 + 8 + 6 + 6, 8 + 6)
    assert mixing.foreign_share == pytest.approx(14 / 26)
    assert MIXING.measure("").foreign_share == 0.0


def test_no_english_is_found_across_lines() -> None:
    assert found("the patient\nshould take\nthese tablets\nevery day") == []


def test_words_of_the_matter_and_lexicons_of_ones_own_do_not_count(tmp_path: Path) -> None:
    text = "Gemessen wird das mit dem shortened health and wellbeing questionnaire in jedem Jahr."
    assert len(found(text)) == 1
    assert found(text, terms=["Was ist die „shortened health and wellbeing questionnaire“?"]) == []
    own = tmp_path / "mine.yaml"
    own.write_text("words: shortened Health AND wellbeing\nendings: [naire]\n", "utf-8")
    assert found(text, LanguageMixing(replace(GERMAN, terms=(*GERMAN.terms, str(own))))) == []


def test_rows_of_english_names_are_names() -> None:
    assert found("Gefördert von der Institute of Science and Technology Austria und Save the Children in Belgrad.") == []


def test_other_scripts_are_found_without_a_detector_and_single_letters_are_symbols() -> None:
    text = "Der пациент hat 5 µg β-Blocker, ∑x und 高血压."
    assert found(text) == [("пациент", "cyrillic"), ("高血压", "cjk")]


@given(st.text())
def test_any_text_has_spans_that_lie_in_it_one_after_the_other(text: str) -> None:
    spans = MIXING.spans(text)
    assert all(0 <= one.start < one.end <= len(text) for one in spans)
    assert all(one.end <= other.start for one, other in itertools.pairwise(spans))


@given(st.text(alphabet="äöüßabc ", max_size=30))
def test_letters_and_their_decomposed_forms_are_the_same_words(text: str) -> None:
    import unicodedata

    assert words_of(unicodedata.normalize("NFD", text)) == words_of(unicodedata.normalize("NFC", text))


def test_languages_are_values_so_german_is_foreign_in_an_english_family() -> None:
    english = LanguageMixing(LanguageSettings(expected="en", foreign=("de", "fr"), words={"de": "words_de", "en": "words_en"}))
    assert found(ENGLISH[0], english) == []
    assert [language for _, language in found(f"{ENGLISH[0]} Das weiß ich leider nicht genau.", english)] == ["de"]
    assert [language for _, language in found(f"{ENGLISH[1]} Je ne sais pas pourquoi cela arrive.", english)] == ["fr"]


@given(st.lists(st.integers(min_value=-3, max_value=3), max_size=9))
def test_stretches_are_the_best_division_into_two_languages(weights: list[int]) -> None:
    """Against every way to mark words as foreign: two changes of language cost `least` (an integer, so that sums are exact)."""
    least = 4

    def gain(marks: tuple[int, ...]) -> int:
        changes = sum(one < other for one, other in itertools.pairwise((0, *marks)))
        return sum(weight for weight, mark in zip(weights, marks, strict=True) if mark) - least * changes

    marked = {index for stretch in stretches(weights, least=least) for index in stretch}
    own = gain(tuple(int(index in marked) for index in range(len(weights))))
    assert own == max(gain(marks) for marks in itertools.product((0, 1), repeat=len(weights)))


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UserError, match="language 'xx' is unknown"):
        LanguageMixing(LanguageSettings(expected="de", foreign=("xx",)))


def test_a_language_cannot_be_expected_and_foreign_and_words_are_of_one_of_them() -> None:
    with pytest.raises(ValueError, match=r"foreign is \['en'\]; allowed: one or more languages other than 'en'"):
        LanguageSettings(expected="en", foreign=("en",))
    with pytest.raises(ValueError, match="words names fr; allowed: de, en"):
        LanguageSettings(expected="de", foreign=("en",), words={"fr": "words_en"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("wrods: a b", "has the keys wrods; allowed: beginnings, endings, letters, stems, suffixes, words"),
        ("endings: [no]", "endings must be a list of texts; quote those that YAML reads otherwise"),
        ("words: [a, b]", "words must be one text, words set apart by spaces"),
        ("- a", "must be a mapping"),
        ("words: {", "cannot be read"),
    ],
)
def test_a_lexicon_that_does_not_fit_is_refused_with_its_fault(tmp_path: Path, content: str, told: str) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(content, "utf-8")
    with pytest.raises(UserError, match=told):
        LanguageMixing(replace(GERMAN, terms=(str(own),)))


def test_a_lexicon_that_is_not_there_is_named_with_the_packaged_ones() -> None:
    with pytest.raises(
        UserError, match=r"failure_modes\.terms is 'terms_xx'; allowed: refusals_de, terms_medical_de, words_de, words_en, or"
    ):
        replace(GERMAN, terms=("terms_xx",)).sources()

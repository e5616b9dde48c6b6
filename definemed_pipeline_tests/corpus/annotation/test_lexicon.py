from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.annotation.lexicon import Lexicon, lexicon_location, read_lexicon
from definemed_pipeline.errors import UserError

PACKAGED = read_lexicon(lexicon_location("de_medical"))


def lexicon(tmp_path: Path, **weights: float) -> Lexicon:
    groups = "\n".join(f"  g{i}: {{weight: {weight}, terms: ['{term}']}}" for i, (term, weight) in enumerate(weights.items()))
    path = tmp_path / "lexicon.yaml"
    path.write_text(f"half_density: 5\ngroups:\n{groups}\n", "utf-8")
    return read_lexicon(str(path))


def weights_of(lexicon: Lexicon, *words: str) -> dict[str, float]:
    return dict(lexicon.word_weights(pl.Series(words)).iter_rows())


def test_hyphens_say_which_part_of_a_word_an_entry_is(tmp_path: Path) -> None:
    found = lexicon(tmp_path, **{"arzt": 1, "impf-": 2, "-itis": 3, "-tumor-": 4})
    assert weights_of(found, "arzt", "impfung", "gastritis", "hirntumore") == {
        "arzt": 1,
        "impfung": 2,
        "gastritis": 3,
        "hirntumore": 4,
    }
    assert weights_of(found, "arztes", "schimpfen", "itisch", "humor") == {}


def test_the_longest_fitting_entry_decides(tmp_path: Path) -> None:
    found = lexicon(tmp_path, **{"-ämie": 3, "-prämie": 0, "arzt": 1, "arzt-": 5, "-arzt-": 7})
    assert weights_of(found, "anaemie", "versicherungspraemie", "arzt", "arztbesuch", "harzte") == {
        "anaemie": 3,
        "versicherungspraemie": 0,
        "arzt": 1,
        "arztbesuch": 5,
        "harzte": 7,
    }


def test_case_and_the_spelling_of_umlauts_do_not_matter() -> None:
    scores = PACKAGED.score(pl.Series(["Der Ärztin fiel die Übelkeit auf", "DER AERZTIN FIEL DIE UEBELKEIT AUF"]))
    assert scores[0] == scores[1] > 0


def test_repeating_a_term_does_not_raise_the_score() -> None:
    once, often = "Die Diagnose steht fest heute", "Die Diagnose Diagnose Diagnose steht fest heute"
    assert PACKAGED.score(pl.Series([once])).to_list() == PACKAGED.score(pl.Series([often])).to_list()


def test_an_article_that_mentions_a_doctor_once_scores_low_and_a_discharge_letter_high() -> None:
    filler = " ".join(f"Satz{number} handelt von Brücken" for number in range(80))
    letter = (
        "Wir berichten über den Patienten, der wegen akuter Atemnot stationär aufgenommen wurde. Diagnose: Pneumonie. Befund: Fieber, "
        "Husten mit eitrigem Auswurf, CRP erhöht. Im Röntgen zeigte sich ein Infiltrat. Therapie: Ampicillin intravenös, danach oral 500 mg."
    )
    article, discharge = PACKAGED.score(pl.Series([f"{filler}. Der Arzt kam.", letter]))
    assert article < 0.25
    assert discharge > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Unser Wellness-Hotel verwöhnt seine Gäste mit Sauna, Massageöl und Detox. Jetzt Gutschein buchen und Haut und Kreislauf verwöhnen!",
        "Der Tierarzt impft den Hund gegen Tollwut, die Katze hat Fieber und frisst kein Futter mehr.",
        "Die Aktie des Pharmakonzerns stieg an der Börse, der Umsatz mit Medikamenten wuchs im Quartal, Anleger hoffen auf Dividende.",
        "Der Trainer muss nach der Verletzung des Torhüters in der Bundesliga umstellen, das Heimspiel endete mit einem Sieg.",
    ],
)
def test_what_lies_beside_medicine_stays_below_the_threshold(text: str) -> None:
    assert PACKAGED.score(pl.Series([text])).item() < 0.5


def test_empty_and_null_texts_score_nothing() -> None:
    assert PACKAGED.score(pl.Series(["", None, "...", "Diagnose"], dtype=pl.String)).to_list()[:3] == [0, 0, 0]
    assert PACKAGED.score(pl.Series([], dtype=pl.String)).len() == 0


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("abdeiknorstäß <>-"), max_size=40), max_size=5))
def test_scores_lie_between_zero_and_one_and_do_not_depend_on_company(texts: list[str]) -> None:
    together = PACKAGED.score(pl.Series(texts, dtype=pl.String)).to_list()
    assert together == [PACKAGED.score(pl.Series([text])).item() for text in texts]
    assert all(0 <= score < 1 for score in together)


def test_the_packaged_lexicon_is_broad_and_argues_both_ways() -> None:
    assert (PACKAGED.entries["weight"] > 0).sum() > 300
    assert (PACKAGED.entries["weight"] < 0).sum() > 100


def test_an_unknown_name_lists_what_is_packaged() -> None:
    with pytest.raises(UserError, match=r"lexicon is 'de_legal'; allowed: de_medical, or the path of a YAML file"):
        lexicon_location("de_legal")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("groups: {a: {weight: 1, terms: [x]}}", "half_density"),
        ("half_density: 5\ngroups: {a: {terms: [x]}}", "weight"),
        ("half_density: 5\ngroups: {a: {weight: 1, terms: [x, x]}}", "'x' is listed twice"),
        ("half_density: 5\ngroups: {a: {weight: 1, terms: [zwei Wörter]}}", "'zwei Wörter' in 'a' is not one word"),
        ("half_density: 5\ngroups: {a: {weight: 1, terms: [no]}}", "False in 'a' is not one word"),
        ("half_density: 0\ngroups: {a: {weight: 1, terms: [x]}}", "half_density above 0"),
        ("groups: [", "cannot be read"),
        ("just text", "does not fit"),
    ],
)
def test_a_lexicon_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=message):
        read_lexicon(str(path))

from pathlib import Path

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.failures.refusals import read_refusals
from definemed_pipeline_tests.evaluation.failures.recipe import SETTINGS

REFUSALS = read_refusals(SETTINGS.sources()["refusals"])


@pytest.mark.parametrize(
    ("response", "phrase"),
    [
        ("Ich kann diese Frage leider nicht beantworten.", "Ich kann diese Frage leider nicht beantworten"),
        ("Entschuldigung! Dabei kann ich Ihnen als Programm nicht helfen.", "kann ich Ihnen als Programm nicht helfen"),
        ("Als KI-Modell kann ich keine Diagnose stellen.", "Als KI-Modell kann ich"),
        ("I’m sorry, but I can’t help with that.", "I’m sorry, but I can"),
    ],
)
def test_a_refusal_is_found_with_its_place(response: str, phrase: str) -> None:
    found = REFUSALS.find(response)
    assert found is not None
    assert response[slice(*found)] == phrase


@pytest.mark.parametrize(
    "response",
    [
        "",
        "Nehmen Sie Ibuprofen. Wenden Sie sich an Ihren Arzt, wenn es nicht hilft.",
        "Ich kann Ihnen helfen. Was Sie beschreiben, lässt sich nicht mit einem Wort beantworten.",
        "Der Patient sagt, er könne nicht helfen.",
        "Das Mittel hilft. " * 20 + "Das weiß ich nicht.",
    ],
)
def test_advice_quotation_and_what_comes_late_are_no_refusal(response: str) -> None:
    assert REFUSALS.find(response) is None


@pytest.mark.parametrize(
    "content", ["phrases: [nein]", "within_words: 3\nphrases: [... nein]", "within_words: 3\nphrases: []", "{"]
)
def test_a_lexicon_that_does_not_fit_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yaml").write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"the lexicon .*mine.yaml"):
        read_refusals(str(tmp_path / "mine.yaml"))

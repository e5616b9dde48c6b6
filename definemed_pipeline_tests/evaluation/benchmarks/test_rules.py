"""Rules tell what an answer keeps, by its form alone."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import packaged_location
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.rules import COUNTS, TESTS, kept_rules, read_checked_instructions, sentences
from definemed_pipeline_tests.evaluation.conftest import write_lines

LIST = "Das braucht man:\n- Pflaster\n* Schere\n• Salbe"
PACKAGED = packaged_location("checked_instructions", "de_form", "instructions", suffix=".jsonl")


def keeps(answer: str, rule: str, **parameters: Any) -> bool:
    (kept,) = kept_rules(answer, ({"rule": rule, **parameters},))
    return kept


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Er kam.", 1), ("Er kam. Sie ging! Warum?", 3), ("Er kam", 1), ("Er kam. Und dann", 2), ("Das dauert z. B. lang.", 1),
        ("Am 12. Mai kam er. Gut.", 2), ("Es waren 12.", 1), ("Er sagte: „Ja.“ Dann ging er …", 2), ("Wirklich?! Ja.", 2), ("", 0),
    ],
)  # fmt: skip
def test_sentences_are_counted_by_their_ends(text: str, count: int) -> None:
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("answer", "rule", "parameters", "kept"),
    [
        ("Ja. Nein.", "sentences", {"exactly": 2}, True),
        ("Ja. Nein.", "sentences", {"at_most": 1}, False),
        ("eins zwei drei", "words", {"at_least": 2, "at_most": 3}, True),
        ("eins zwei drei", "words", {"at_least": 4, "at_most": 9}, False),
        ("a\n\nb\n \nc", "paragraphs", {"exactly": 3}, True),
        (LIST, "bullets", {"exactly": 3}, True),
        ("1. an\n2) aus\n3 nichts", "numbered", {"exactly": 2}, True),
        ("Mond und mond, Mondlicht", "occurs", {"word": "Mond", "exactly": 2}, True),
        ("Der KESSEL summt.", "contains", {"words": ["Kessel"]}, True),
        ("Der Wasserkessel summt.", "contains", {"words": ["Kessel"]}, False),
        ("Der Wasserkessel summt.", "omits", {"words": ["Kessel"]}, True),
        ("Der Kessel summt.", "omits", {"words": ["Topf", "Kessel"]}, False),
        ("Ja, gern", "omits_sign", {"sign": ","}, False),
        ("  Morgen regnet es.", "starts_with", {"text": "Morgen"}, True),
        ("Gute Nacht!\n", "ends_with", {"text": "Gute Nacht!"}, True),
        ("ganz klein, größe 3", "lower_case", {}, True),
        ("ganz Klein", "lower_case", {}, False),
        ("ACHTUNG, NASS!", "upper_case", {}, True),
        ('{"stadt": "Köln", "land": "DE"}', "json", {"keys": ["stadt"]}, True),
        ('```json\n{"stadt": "Köln"}\n```', "json", {"keys": ["stadt"]}, True),
        ('Gern: {"stadt": "Köln"}', "json", {"keys": ["stadt"]}, False),
        ('["a"]', "json", {"keys": ["stadt"]}, False),
        ('["a"]', "json", {}, True),
        ("3", "json", {}, False),
    ],
)
def test_a_rule_is_kept_or_not(answer: str, rule: str, parameters: dict[str, Any], kept: bool) -> None:
    assert keeps(answer, rule, **parameters) is kept


def test_every_rule_has_an_example_above_and_an_instruction_in_the_packaged_file() -> None:
    used = {rule["rule"] for item in packaged() for rule in item.rules}
    assert used == {*COUNTS, *TESTS}


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_keeps_no_rule(answer: str) -> None:
    assert not keeps(answer, "omits_sign", sign=",")
    assert not keeps(answer, "words", at_most=5)


@given(st.text(max_size=60), st.text(alphabet="abcäß", min_size=1, max_size=6))
def test_a_word_is_contained_or_omitted_and_never_both(answer: str, word: str) -> None:
    if answer.strip():
        assert keeps(answer, "contains", words=[word]) is not keeps(answer, "omits", words=[word])
        assert keeps(answer, "contains", words=[word]) is keeps(answer, "occurs", word=word, at_least=1)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], r"rules is \[\]; needed: a list"),
        ([{"rule": "haiku"}], "is not known; allowed: sentences, words"),
        ([{"rule": "words"}], "it takes exactly, at_least, at_most"),
        ([{"rule": "words", "at_most": "5"}], "it takes exactly, at_least, at_most"),
        ([{"rule": "occurs", "exactly": 1}], "it takes word, exactly, at_least, at_most"),
        ([{"rule": "lower_case", "words": ["a"]}], "it takes nothing"),
        ([{"rule": "contains", "words": "a"}], "it takes words"),
    ],
)
def test_a_rule_that_cannot_be_checked_is_refused_with_its_line(rules: object, message: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "f.jsonl", [{"id": "a", "instruction": "Tu es.", "rules": rules}])
    with pytest.raises(UserError, match=rf"f\.jsonl, line 1: .*{message}"):
        read_checked_instructions(Source(name="x", location=str(path), digest=""))


def packaged() -> list[Any]:
    return read_checked_instructions(Source(name="x", location=PACKAGED, digest=""))


def test_the_packaged_instructions_are_different_ones_and_say_what_they_ask_for() -> None:
    items = packaged()
    assert len({item.instruction for item in items}) == len(items) >= 50
    for item in items:
        for rule in item.rules:
            for word in [*rule.get("words", ()), *rule.get("keys", ()), *([rule["word"]] if "word" in rule else [])]:
                assert word in item.instruction, item.id

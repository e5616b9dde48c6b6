import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.evaluation.examples import FORMATS
from definemed_pipeline.evaluation.failures.formats import CHECKS, broken_formats

LIST = "Zu beachten ist:\n- Ruhe\n- Trinken\n\n1. Fieber messen\n2) Kühlen"
TABLE = "Der Plan:\n\n| Mittel | Dosis |\n|---|:---:|\n| Ramipril | 5 mg |\n"


@pytest.mark.parametrize(
    ("response", "declared", "broken"),
    [
        ("eins zwei drei", {"max_words": 3}, []),
        ("eins zwei drei vier", {"max_words": 3}, ["max_words"]),
        (LIST, {"list": True}, []),
        ("- Ruhe", {"list": True}, ["list"]),
        ("Ein Satz.\nNoch einer.\nUnd:\n- Ruhe\n- Trinken", {"list": True}, ["list"]),
        ("Ruhe, Trinken, Schlaf", {"list": True}, ["list"]),
        (TABLE, {"table": True}, []),
        ("| Mittel | Dosis |\n| Ramipril | 5 mg |", {"table": True}, ["table"]),
        ("| Mittel | Dosis |\n|---|---|", {"table": True}, ["table"]),
        ("Mittel | Dosis\n--- | ---\nRamipril | 5 mg | morgens", {"table": True}, ["table"]),
        ('{"icd": "J44.1"}', {"json": True}, []),
        ('```json\n[{"icd": "J44.1"}]\n```', {"json": True}, []),
        ('Hier: {"icd": "J44.1"}', {"json": True}, ["json"]),
        ('"J44.1"', {"json": True}, ["json"]),
        ("[" * 100_000, {"json": True}, ["json"]),
        ("Der Code ist J44.1.", {"pattern": r"\b[A-Z]\d\d(\.\d)?\b"}, []),
        ("Der Code fehlt.", {"pattern": r"\b[A-Z]\d\d(\.\d)?\b"}, ["pattern"]),
        ("", {"max_words": 3}, []),
        ("", {"list": True, "table": True, "json": True, "pattern": "."}, ["list", "table", "json", "pattern"]),
        (f"{LIST} und noch mehr", {"list": True, "max_words": 4}, ["max_words"]),
    ],
)
def test_an_answer_keeps_the_form_it_was_asked_for_or_breaks_it(
    response: str, declared: dict[str, Any], broken: list[str]
) -> None:
    assert broken_formats(response, declared) == broken


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_every_json_object_and_list_is_json_bare_and_fenced(value: Any) -> None:
    written = json.dumps(value, ensure_ascii=False)
    broken = [] if isinstance(value, dict | list) else ["json"]
    assert broken_formats(written, {"json": True}) == broken
    assert broken_formats(f"```json\n{written}\n```", {"json": True}) == broken


@given(st.lists(st.text(alphabet="abcäöü ", min_size=1).filter(str.strip), min_size=2))
def test_items_make_a_list_whatever_marks_them(items: list[str]) -> None:
    for bullet in ("- ", "* ", "• ", "1. ", "2) "):
        assert broken_formats("\n".join(bullet + item.strip() for item in items), {"list": True}) == []


def test_there_is_a_check_for_every_form_that_an_instruction_may_declare() -> None:
    assert set(CHECKS) == set(FORMATS)

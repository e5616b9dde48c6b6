"""A traced number is the number it is, and can be looked up and calculated again from what it says of itself."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.evaluation.report.tracing import Place, PlaceReader, Traced, TracedFiles, TracedText, calculate

# Measured values; what is too small to divide by is none.
NUMBERS = st.one_of(st.just(0.0), st.floats(1e-3, 1e6), st.floats(-1e6, -1e-3))


def place(key: str) -> Place:
    return Place(asset="a", partition="_", file="f.json", key=key)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Any:
    """A tree of sums, differences, products and quotients of traced and plain numbers."""
    if depth == 0 or draw(st.booleans()):
        number = draw(NUMBERS)
        return Traced(number, place(f"/{draw(st.integers(0, 3))}/{number!r}")) if draw(st.booleans()) else number
    return draw(st.sampled_from("+-*/")), draw(expressions(depth - 1)), draw(expressions(depth - 1))


def evaluate(tree: Any, kind: type) -> Any:
    if not isinstance(tree, tuple):
        return kind(tree) if kind is float else tree
    sign, one, other = tree[0], evaluate(tree[1], kind), evaluate(tree[2], kind)
    if sign == "/" and other == 0:
        return one
    return {"+": lambda: one + other, "-": lambda: one - other, "*": lambda: one * other, "/": lambda: one / other}[sign]()


@given(expressions())
def test_whatever_is_calculated_has_the_plain_value_and_can_be_calculated_again(tree: Any) -> None:
    traced, plain = evaluate(tree, Traced), evaluate(tree, float)
    assert float(traced) == plain
    if isinstance(traced, Traced):
        values = [float(one.key.rpartition("/")[2]) for one in traced.places]
        assert calculate(traced.formula, values) == plain


def test_a_formula_is_read_by_a_person() -> None:
    base, cpt, merged = (Traced(value, place(name)) for name, value in (("b", 0.8), ("c", 0.1), ("m", 0.6)))
    share = (merged - cpt) / (base - cpt)
    assert share.formula == "(x1 - x2) / (x3 - x2)"
    assert [one.key for one in share.places] == ["m", "c", "b"]
    assert (-merged).formula == "0.0 - x1"
    assert (1 - merged).formula == "1.0 - x1"
    assert f"{share:.2f}" == "0.71"
    assert share > 0.7


@pytest.fixture
def files(tmp_path: Path) -> TracedFiles:
    content = {"a/b ~c": [{"x": 1, "y": None, "ok": True}, "wort"], "nan": float("nan")}
    (tmp_path / "f.json").write_text(json.dumps(content))
    (tmp_path / "g.yaml").write_text("t: 0.5\n")
    rows = {"model": ["q w&e=1", "q w&e=1", "z"], "number": [1, 2, 1], "rate": [0.25, 0.5, 1.0], "text": ["ä", "b", "c"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    return TracedFiles(lambda asset, partition: tmp_path, lambda asset, partition: pytest.fail("no manifest was asked for"))


def test_what_was_read_is_found_again_under_its_key(files: TracedFiles, tmp_path: Path) -> None:
    document = files.document("a", "f.json")
    number, word = document["a/b ~c"][0]["x"], document["a/b ~c"][1]
    assert (number.places[0].key, word.place.key) == ("/a~1b%20~0c/0/x", "/a~1b%20~0c/1")
    assert PlaceReader().look_up(tmp_path, "f.json", number.places[0].key) == 1
    assert PlaceReader().look_up(tmp_path, "f.json", word.place.key) == "wort"
    assert document["a/b ~c"][0]["y"] is document["nan"] is None
    assert document["a/b ~c"][0]["ok"] is True
    assert (
        PlaceReader().look_up(tmp_path, "g.yaml", files.text("a", "g.yaml").place.key) == files.text("a", "g.yaml") == "t: 0.5\n"
    )
    assert PlaceReader().look_up(tmp_path, "g.yaml", files.document("a", "g.yaml")["t"].places[0].key) == 0.5


def test_every_cell_of_a_table_is_found_again(files: TracedFiles, tmp_path: Path) -> None:
    reader = PlaceReader()
    for row in files.rows("a", "t.parquet", key=("model", "number")):
        assert reader.look_up(tmp_path, "t.parquet", row["rate"].places[0].key) == row["rate"]
        assert isinstance(row["text"], TracedText)
        assert reader.look_up(tmp_path, "t.parquet", row["text"].place.key) == row["text"]
        assert " " not in row["rate"].places[0].key


def test_rows_that_a_key_does_not_tell_apart_are_refused(files: TracedFiles) -> None:
    with pytest.raises(ValueError, match="model do not tell its rows apart"):
        files.rows("a", "t.parquet", key=("model",))
    assert len(files.rows("a", "t.parquet", key=("model",), where=pl.col("number") == 1)) == 2


def test_a_place_with_nothing_in_it_is_an_error(files: TracedFiles, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="0 rows"):
        PlaceReader().look_up(tmp_path, "t.parquet", "rate?model=nobody&number=1")
    with pytest.raises(LookupError):
        PlaceReader().look_up(tmp_path, "f.json", "/nothing")

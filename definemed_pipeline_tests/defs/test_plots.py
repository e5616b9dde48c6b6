"""Pictures of the asset pages: drawn once for the same numbers, embedded as PNG."""

import base64
import re

import polars as pl
import pytest

from definemed_pipeline.defs import plots


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def trade_off(accuracy: float) -> str:
    row = {"model": "slerp t=0.5", "is_on_front": True, "is_chosen": True}
    measured = {f"{name}{bound}": accuracy for name in ("x", "y") for bound in ("", "_low", "_high")}
    return plots.trade_off(pl.DataFrame([row | measured]), x="x", y="y", x_label="accuracy", y_label="answered properly")


DRAWN = {
    "lines": lambda value: plots.lines([1, 2], {"loss": [value, 1.0]}, x_label="step", y_label="loss"),
    "matrix": lambda value: plots.matrix(["a", "b"], {("a", "b"): value}, intervals={("a", "b"): (0.1, 0.9)}, label="win rate"),
    "trade_off": trade_off,
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_picture_is_a_png_drawn_once_for_the_same_numbers(draw, instance, monkeypatch):
    picture = draw(0.5)
    encoded = re.fullmatch(r"!\[.+\]\(data:image/png;base64,(.+)\)", picture)
    assert base64.b64decode(encoded[1]).startswith(b"\x89PNG")
    monkeypatch.setattr(plots, "_figure", None)  # nothing can be drawn any more
    assert draw(0.5) == picture
    with pytest.raises(TypeError):
        draw(0.25)


def test_other_code_draws_again(instance, monkeypatch):
    DRAWN["lines"](0.5)
    monkeypatch.setattr(plots, "_code", lambda: "a later version")
    DRAWN["lines"](0.5)
    assert len(list((instance / "pictures").iterdir())) == 2


def test_without_an_instance_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert DRAWN["lines"](0.5) == DRAWN["lines"](0.5)
    assert not list(tmp_path.iterdir())

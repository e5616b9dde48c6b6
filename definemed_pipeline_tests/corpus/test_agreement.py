from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score, precision_score, recall_score

from definemed_pipeline.corpus.agreement import agreement, read_gold
from definemed_pipeline.errors import UserError

LABELS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(deadline=None)
@given(LABELS)
def test_figures_agree_with_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    gold, decided = (list(column) for column in zip(*pairs, strict=True))
    figures = agreement(pl.Series(gold), pl.Series(decided))
    if any(decided):
        assert figures["precision"] == pytest.approx(precision_score(gold, decided))
    if any(gold):
        assert figures["recall"] == pytest.approx(recall_score(gold, decided))
    if any(gold) or any(decided):
        assert figures["f1"] == pytest.approx(f1_score(gold, decided))
    if len(set(gold + decided)) == 2:
        assert figures["kappa"] == pytest.approx(cohen_kappa_score(gold, decided))


@settings(deadline=None)
@given(LABELS)
def test_every_defined_figure_lies_in_its_interval(pairs: list[tuple[bool, bool]]) -> None:
    gold, decided = (pl.Series(column) for column in zip(*pairs, strict=True))
    figures = agreement(gold, decided)
    for name in ("precision", "recall", "f1", "accuracy"):
        value, low, high = (figures[key] for key in (name, f"{name}_low", f"{name}_high"))
        if value is None:
            assert low is high is None
        else:
            assert low is not None
            assert high is not None
            assert 0 <= low <= value <= high <= 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"id": ["a"]}), "cannot be read"),
        (pl.DataFrame({"id": ["a"], "is_medical": [1]}), "is_medical Int64; needed: id String, is_medical Boolean"),
        (pl.DataFrame({"id": ["a", "a"], "is_medical": [True, False]}), "2 rows whose id stands more than once"),
    ],
)
def test_gold_labels_that_do_not_fit_are_refused(tmp_path: Path, frame: pl.DataFrame, message: str) -> None:
    path = tmp_path / "gold.parquet"
    frame.write_parquet(path)
    with pytest.raises(UserError, match=message):
        read_gold(str(path))

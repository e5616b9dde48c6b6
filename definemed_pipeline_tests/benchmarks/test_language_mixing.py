"""The benchmark of language mixing runs on any folder of German texts, and meets its goals on the sample of real ones."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline_tests.conftest import REAL_TEXT

REPOSITORY = Path(__file__).parents[2]
GERMAN = "Die Lunge ist bei Asthma entzündet, und der Patient bekommt schlecht Luft. Das Spray hilft ihm meist schon nach wenigen Minuten."


def measure(folder: Path, data: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "language_mixing.py"), "--data", str(data), "--json"]
    done = subprocess.run(
        [*command, str(folder / "figures.json"), *more],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text("utf-8"))
    return figures


@pytest.mark.slow
def test_a_span_that_nobody_read_is_counted_as_unread_and_handed_out_to_be_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    texts = [GERMAN, GERMAN * 2, f"{GERMAN} Please call me when you are back home. {GERMAN}"]
    pl.DataFrame({"id": list("abc"), "text": texts}).write_parquet(data / "000.parquet")
    pl.DataFrame({"id": ["a"], "is_medical": [True]}).write_parquet(data / "labels.parquet")
    found = measure(tmp_path, data, "--unread", str(tmp_path / "unread.tsv"))
    alarms = found["false_alarms"]
    assert (alarms["documents"], alarms["flagged_documents"], alarms["unread_documents"]) == (3, 1, 1)
    assert alarms["false_alarm_documents"] == 0
    (unread,) = (tmp_path / "unread.tsv").read_text("utf-8").splitlines()
    assert "⟦Please call me when you are back home⟧" in unread
    for name in ("seen", "held_out"):
        assert found["recall"][name]["recall_low"] > 0.9
    assert found["rates"]["answers_per_processor_s_first"] > 0


@pytest.mark.real_text
def test_on_real_german_few_documents_are_wrongly_flagged_and_planted_english_is_found(tmp_path: Path) -> None:
    """The goals: false alarms in at most 2 % of documents, every flagged span read, at least 95 % of planted spans of 4 and more words."""
    found = measure(tmp_path, REAL_TEXT)
    alarms, recall = found["false_alarms"], found["recall"]["held_out"]
    print(json.dumps(found, indent=2))
    assert alarms["documents"] > 600
    assert alarms["unread_documents"] == 0
    assert alarms["false_alarm_rate"] <= 0.02
    assert recall["recall"] >= 0.95
    assert min(recall["by_length_and_place"].values()) >= 0.95

"""The benchmark of the corpus stages runs, our side of it, without the peer that it is made to compare with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_our_side_cleans_a_small_web_and_tells_what_it_dropped(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/corpus.py", "--documents", "300", "--json", str(tmp_path / "figures.json")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": path})
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    ours = figures["ours"]
    assert ours["passed"] == 300 - sum(count for reason, count in ours["dropped"].items() if not reason.endswith("_duplicate"))
    assert ours["kept"] == 300 - sum(ours["dropped"].values())
    # The generator makes all of these, see web_documents.py.
    assert {"too_few_words", "exact_duplicate", "near_duplicate"} <= ours["dropped"].keys()
    assert ours["docs_per_s"] > 0

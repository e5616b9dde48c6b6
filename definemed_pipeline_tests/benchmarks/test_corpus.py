"""The benchmark of the corpus stages runs, our side of it, without the peer that it is made to compare with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import polars as pl
import pytest

import definemed_pipeline.demo.filesystem  # noqa: F401  registers demo://

REPOSITORY = Path(__file__).parents[2]


def measured(tmp_path: Path, *arguments: str) -> dict:
    command = [sys.executable, "benchmarks/corpus.py", *arguments, "--json", str(tmp_path / "figures.json")]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": path})
    return json.loads((tmp_path / "figures.json").read_text("utf-8"))


@pytest.mark.slow
def test_our_side_cleans_a_small_web_and_tells_what_it_dropped(tmp_path: Path) -> None:
    ours = measured(tmp_path, "--documents", "300")["ours"]
    assert ours["passed"] == 300 - sum(count for reason, count in ours["dropped"].items() if not reason.endswith("_duplicate"))
    assert ours["kept"] == 300 - sum(ours["dropped"].values())
    # The generator makes all of these, see web_documents.py.
    assert {"too_few_words", "exact_duplicate", "near_duplicate"} <= ours["dropped"].keys()
    assert ours["docs_per_s"] > 0


@pytest.mark.slow
def test_our_side_cleans_the_shards_of_a_folder(tmp_path: Path) -> None:
    documents = 0
    for shard in ("000_00000", "000_00001"):
        with fsspec.open(f"demo://web/{shard}.parquet", "rb") as file:
            web = pl.read_parquet(file.read()).filter(pl.col("text").is_not_null())
        web.write_parquet(tmp_path / f"{shard}.parquet")
        documents += web.height
    figures = measured(tmp_path, "--real-text", str(tmp_path))
    assert figures["documents"] == documents
    assert figures["ours"]["kept"] == documents - sum(figures["ours"]["dropped"].values())

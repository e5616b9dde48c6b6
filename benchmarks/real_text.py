"""Measure annotator, classifier and corpus on real German text by human labels: trained on one half, measured on the other, both ways round.

    python benchmarks/real_text.py --real-text DIR --json OUT

DIR holds two FineWeb2-shaped shards, `000_00000.parquet` and `001_00000.parquet`, and `labels.parquet` with `id` and `is_medical` (null where a person
could argue). The graph runs with the lexicon's labels; the human labels of the half that is measured are its gold, and take no part in training. Of the
target precisions tried, each half is reported at the one that has the best F1 on the *other* half's human labels, so that no label
chooses a figure that it then judges.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from processes import commit

from definemed_pipeline.artifacts.store import Store

HALVES = ("000_00000", "001_00000")
TARGETS = (0.95, 0.8)
FIGURES = ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high", "f1")
RECIPE = """
extends: demo
name: real
source: {{kind: parquet, files: [{data}/000_00000.parquet, {data}/001_00000.parquet]}}
annotations: {{sample_size: 1000, hold_out_size: 20, unlabelled_size: 40, gold: ./gold.parquet}}
medical_classifier:
  linear: {{buckets_power: 18}}
  transformer: {{kind: from_scratch, vocabulary_size: 4000, hidden_size: 64, layers: 2, heads: 2}}
  epochs: 6
  max_tokens: 192
  target_precision: {target}
  validation_share: 0.3
checks: {{annotator_f1: 0.0, classifier_precision: 0.0, classifier_recall: 0.0, corpus_documents: 20}}
"""


def measure(data: Path, half: str, target: float) -> dict[str, dict[str, float]]:
    """Run the corpus half of the graph with one half's labels as gold; return the figures of annotator, classifier and corpus."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = pl.read_parquet(data / f"{half}.parquet", columns=["id"])
        labels = pl.read_parquet(data / "labels.parquet", columns=["id", "is_medical"]).join(ids, on="id", how="semi")
        labels.write_parquet(folder / "gold.parquet")
        (folder / "real.yaml").write_text(RECIPE.format(data=data, target=target), "utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER", "DEFINEMED"))}
        command = [sys.executable, "-m", "definemed_pipeline.cli", "run", "--recipe", "real.yaml", "--select", "group:corpus"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        store = Store(str(folder / "lake"))
        stages = {"annotator": ("annotations", ""), "classifier": ("medical_classifier", "gold_"), "corpus": ("finemed_de", "")}
        return {
            stage: {figure: store.require("real", asset).metrics[prefix + figure] for figure in FIGURES}
            for stage, (asset, prefix) in stages.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real-text", type=Path, required=True, help="the folder with the two shards and the labels")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    tried = {half: {target: measure(arguments.real_text.resolve(), half, target) for target in TARGETS} for half in HALVES}
    figures: dict[str, Any] = {}
    for half, other in (HALVES, HALVES[::-1]):
        target = max(TARGETS, key=lambda one: tried[other][one]["corpus"]["f1"] or 0.0)
        figures[half] = {
            "target_precision": target,
            **tried[half][target],
            "tried": {str(one): tried[half][one]["corpus"] for one in TARGETS},
        }
    figures |= {"machine": platform.machine(), "python": platform.python_version(), "commit": commit()}
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

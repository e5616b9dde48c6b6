import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.benchmarks import score
from definemed_pipeline.evaluation.benchmarks.multiple_choice import QuestionModel
from definemed_pipeline.evaluation.benchmarks.score import score_models
from definemed_pipeline.evaluation.benchmarks.settings import (
    BenchmarkScoresSettings,
    BenchmarkSettings,
    InstructionFollowingSettings,
)
from definemed_pipeline.payload import Spec
from definemed_pipeline_tests.conftest import build_artifact, identity_of
from definemed_pipeline_tests.evaluation.conftest import INSTRUCTIONS, QUESTIONS, write_lines

PROMPT = "Frage: {{question}}\nAntwort:"
CHECKED = [
    {"id": one["id"], "instruction": one["instruction"], "rules": [{"rule": "words", "at_most": 3}, {"rule": "lower_case"}]}
    for one in INSTRUCTIONS[:4]
]


@pytest.fixture
def section(tmp_path: Path, questions_file: Path) -> Callable[..., BenchmarkScoresSettings]:
    checked = write_lines(tmp_path / "checked.jsonl", CHECKED)
    control = write_lines(tmp_path / "control.jsonl", QUESTIONS[:5])

    def settings(**changes: object) -> BenchmarkScoresSettings:
        benchmarks = {
            "organe": BenchmarkSettings(questions=str(questions_file), prompt=PROMPT),
            "alltag": BenchmarkSettings(questions=str(control), prompt=PROMPT, in_average=False),
        }
        followed = {"form": InstructionFollowingSettings(instructions=str(checked), max_new_tokens=4)}
        given = {"benchmarks": benchmarks, "instruction_following": followed, "batch_size": 5, "resamples": 200}
        return BenchmarkScoresSettings(**{**given, **changes})

    return settings


@pytest.fixture
def build(store: Store, section: Callable[..., BenchmarkScoresSettings], stages) -> Callable[..., Manifest]:
    def scores(architecture: str = "qwen2", **changes: object) -> Manifest:
        settings = section(**changes)
        return build_artifact(
            store,
            "benchmark_scores",
            score_models,
            settings,
            partition=architecture,
            inputs=stages(architecture),
            sources=settings.sources(),
        )

    return scores


def test_each_question_is_kept_with_what_each_stage_answered(store: Store, build: Callable[..., Manifest]) -> None:
    folder = Path(store.uri(build()))
    rows = pl.read_parquet(folder / "questions.parquet")
    assert len(rows) == 3 * (len(QUESTIONS) + 5)
    assert rows.columns[:6] == ["base_model", "stage", "benchmark", "task", "question_id", "subject"]
    likelihoods = np.array(rows["log_likelihoods"].to_list())
    lengths = np.array([len(choice) for choice in QUESTIONS[0]["choices"]])
    assert (rows["predicted"].to_numpy() == (likelihoods / lengths).argmax(axis=1)).all()
    assert (rows["is_correct"] == (rows["predicted"] == rows["answer"])).all()
    assert (rows["acc"].to_numpy() == (likelihoods.argmax(axis=1) == rows["answer"].to_numpy())).all()
    by_stage = rows.group_by("stage").agg(pl.col("log_likelihoods").explode().sum())
    assert by_stage["log_likelihoods"].n_unique() == 3, "every stage is a model of its own"


def test_each_checked_instruction_is_kept_with_its_response_and_the_rules_it_kept(
    store: Store, build: Callable[..., Manifest]
) -> None:
    rows = pl.read_parquet(Path(store.uri(build())) / "instructions.parquet")
    assert len(rows) == 3 * len(CHECKED)
    assert rows["rules"].to_list()[0] == ["words at_most 3", "lower_case"]
    for response, kept, right in rows.select("response", "kept", "is_correct").iter_rows():
        text = response.strip()
        assert kept == [bool(text) and len(text.split()) <= 3, bool(text) and text == text.lower()]
        assert right == all(kept)


def test_the_metric_of_the_recipe_decides_what_counts_as_right(store: Store, build: Callable[..., Manifest]) -> None:
    rows = pl.read_parquet(Path(store.uri(build(metric="acc"))) / "questions.parquet")
    assert (rows["is_correct"] == rows["acc"]).all()
    assert (rows["is_correct"] == (rows["predicted"] == rows["answer"])).all()
    assert (rows["acc"] != rows["acc_norm"]).any()


def test_scores_and_metrics_agree_with_the_questions_and_the_average_leaves_controls_out(
    store: Store, build: Callable[..., Manifest]
) -> None:
    manifest = build()
    folder = Path(store.uri(manifest))
    rows = pl.read_parquet(folder / "questions.parquet")
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["average"] == ["organe"]
    assert manifest.metrics["questions"] == len(QUESTIONS) + 5 + len(CHECKED)
    for stage in ("base", "cpt", "merged"):
        accuracy = {name: rows.filter(stage=stage, task=name)["is_correct"].mean() for name in ("organe", "alltag")}
        assert scores["accuracy"][stage]["organe"]["accuracy"] == accuracy["organe"] == manifest.metrics[f"{stage}_accuracy"]
        assert manifest.metrics[f"{stage}_alltag_accuracy"] == accuracy["alltag"]
        assert manifest.metrics[f"{stage}_accuracy_low"] <= accuracy["organe"] <= manifest.metrics[f"{stage}_accuracy_high"]
    difference = manifest.metrics["cpt_accuracy"] - manifest.metrics["base_accuracy"]
    assert manifest.metrics["difference_base_cpt"] == pytest.approx(difference)


def test_a_killed_run_goes_on_with_the_next_task_and_gives_the_same_bytes(
    store: Store, build: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    class Watched(QuestionModel):
        def __init__(self, folder: Path, *, batch_size: int) -> None:
            super().__init__(folder, batch_size=batch_size)
            self.asset = folder.parents[2].name

        def answer(self, tasks):
            asked.append((self.asset, tasks[0].name))
            if len(asked) == 4:
                raise KeyboardInterrupt
            return super().answer(tasks)

    monkeypatch.setattr(score, "QuestionModel", Watched)
    with pytest.raises(KeyboardInterrupt):
        build()
    resumed = build()
    assert asked == [
        *(("base_models", name) for name in ("alltag", "organe")),
        *(("cpt_checkpoints", name) for name in ("alltag", "organe", "organe")),
        *(("merged_models", name) for name in ("alltag", "organe")),
    ]
    monkeypatch.undo()
    store.__init__(str(tmp_path / "another_lake"))
    assert build().digest == resumed.digest


@pytest.mark.slow
def test_the_payload_builds_from_its_spec_and_writes_nothing_into_the_users_home(
    store: Store, tmp_path: Path, stages: Callable[[str], list[Manifest]], section: Callable[..., BenchmarkScoresSettings]
) -> None:
    settings = section()
    identity = identity_of("benchmark_scores", settings, partition="qwen2", inputs=stages("qwen2"), sources=settings.sources())
    spec = Spec(lake=store.url, scratch=str(store.scratch), recipe="test", run_id="test", force=False, identities=(identity,))
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    (tmp_path / "home").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-m", "definemed_pipeline.evaluation.benchmarks.score", "--spec", str(tmp_path / "spec.json")],
        env={**environment, "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "%|" not in done.stderr, "no progress bars beside the reports"
    assert store.require("test", "benchmark_scores", "qwen2").metrics["questions"] == len(QUESTIONS) + 5 + len(CHECKED)
    assert list((tmp_path / "home").iterdir()) == []

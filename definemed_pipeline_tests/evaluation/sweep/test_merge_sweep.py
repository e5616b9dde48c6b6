import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings, BenchmarkSettings
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings, LanguageSettings
from definemed_pipeline.evaluation.settings import (
    InstructionSetSettings,
    ResponsesSettings,
)
from definemed_pipeline.evaluation.splits import splits_of
from definemed_pipeline.evaluation.sweep import measure, merge_sweep
from definemed_pipeline.evaluation.sweep.merge_sweep import sweep_merges
from definemed_pipeline.evaluation.sweep.settings import MergeSweepSettings, RuleSettings, SweptMergeSettings
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import INSTRUCTIONS, QUESTIONS

SHARE = 0.5
T = (0.0, 0.4, 1.0)


@pytest.fixture
def build(store: Store, stages, questions_file: Path, instructions_file: Path) -> Callable[..., Manifest]:
    def sweep(*, force: bool = False, **changes: object) -> Manifest:
        section = SweptMergeSettings.of(
            MergeSweepSettings(**{"grid": {"t": T}, "resamples": 200, **changes}),
            MergedModelsSettings(parameters={"t": 0.5}, dtype="float32"),
            BenchmarkScoresSettings(
                benchmarks={
                    "organe": BenchmarkSettings(
                        questions=str(questions_file), prompt="Frage: {{question}}\nAntwort:", validation_share=SHARE
                    )
                }
            ),
            ResponsesSettings(
                instruction_sets={"alltag": InstructionSetSettings(instructions=str(instructions_file), validation_share=SHARE)},
                max_new_tokens=4,
            ),
            FailureModesSettings(language=LanguageSettings(expected="de", foreign=("en",)), proper_answer=0.05),
        )
        base, cpt, _ = stages("qwen2")
        return build_artifact(
            store,
            "merge_sweep",
            sweep_merges,
            section,
            partition="qwen2",
            inputs=[base, cpt],
            sources=section.sources(),
            force=force,
        )

    return sweep


def in_validation(texts: list[str]) -> int:
    return splits_of(texts, SHARE).count("validation")


def test_every_candidate_is_measured_on_validation_items_and_one_is_chosen(store: Store, build: Callable[..., Manifest]) -> None:
    folder = Path(store.uri(build()))
    table = pl.read_parquet(folder / "candidates.parquet")
    assert table["model"].to_list() == ["base", "cpt", *(f"slerp t={t}" for t in T)]
    assert table["is_chosen"].sum() == 1
    assert set(table["questions"]) == {in_validation([one["question"] for one in QUESTIONS])}
    assert set(table["instructions"]) == {in_validation([one["instruction"] for one in INSTRUCTIONS])}
    chosen = table.filter("is_chosen").row(0, named=True)
    choice = json.loads((folder / "choice.json").read_text())
    assert choice == {"method": "slerp", "parameters": json.loads(chosen["parameters"])}
    for measured in ("accuracy", "answered_properly", "language_mixing"):
        assert ((table[f"{measured}_low"] <= table[measured]) & (table[measured] <= table[f"{measured}_high"])).all()


def test_the_ends_of_the_way_are_measured_as_base_and_checkpoint_are(store: Store, build: Callable[..., Manifest]) -> None:
    """What is merged is what the sweep says: at t = 0 it is the base, at t = 1 the checkpoint."""
    table = pl.read_parquet(Path(store.uri(build())) / "candidates.parquet")
    rows = {row["model"]: row for row in table.iter_rows(named=True)}
    for end, candidate in (("base", "slerp t=0.0"), ("cpt", "slerp t=1.0")):
        assert [rows[end][name] for name in ("accuracy", "answered_properly")] == [
            rows[candidate][name] for name in ("accuracy", "answered_properly")
        ]


def test_a_killed_sweep_goes_on_with_the_candidate_it_was_at_and_gives_the_same_bytes(
    store: Store, build: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[float] = []
    whole = merge_sweep.merge_models

    def watched(chosen: MergedModelsSettings, *rest, **more) -> None:
        merged.append(chosen.parameters["t"])
        if len(merged) == 2:
            raise KeyboardInterrupt
        whole(chosen, *rest, **more)

    monkeypatch.setattr(merge_sweep, "merge_models", watched)
    with pytest.raises(KeyboardInterrupt):
        build()
    resumed = build()
    assert merged == [0.0, 0.4, 0.4, 1.0]
    assert build(force=True).digest == resumed.digest
    assert not list(store.scratch.glob("work/merge_sweep/**/*.safetensors"))


def test_without_candidates_nothing_is_measured_and_nothing_is_chosen(
    store: Store, build: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(measure, "QuestionModel")
    folder = Path(store.uri(build(grid={})))
    assert json.loads((folder / "choice.json").read_text()) == {}
    assert pl.read_parquet(folder / "candidates.parquet").is_empty()


def test_the_rule_decides(store: Store, build: Callable[..., Manifest]) -> None:
    for goal in ("accuracy_kept", "instruction_following_recovered"):
        table = pl.read_parquet(Path(store.uri(build(rule=RuleSettings(maximise=goal)))) / "candidates.parquet")
        assert table.filter("is_chosen")[goal].item() == table[goal].max()

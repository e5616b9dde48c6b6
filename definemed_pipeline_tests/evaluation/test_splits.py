"""What is chosen is never chosen on what is reported."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.assembly import decontaminate
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.score import score_models
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings, BenchmarkSettings
from definemed_pipeline.evaluation.generate import collect_responses
from definemed_pipeline.evaluation.settings import InstructionSetSettings, ResponsesSettings
from definemed_pipeline.evaluation.splits import SPLITS, instructions_of, questions_of, splits_of
from definemed_pipeline.recipe import load_recipe
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import INSTRUCTIONS, QUESTIONS, write_lines

PROMPT = "Frage: {{question}}\nAntwort:"
SHARES = st.floats(0, 1)


def source(path: Path | str, name: str = "benchmark/organe") -> Source:
    return Source(name=name, location=str(path), digest="")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), SHARES, st.randoms())
def test_a_side_depends_on_the_text_alone(texts: list[str], share: float, random) -> None:
    sides = dict(zip(texts, splits_of(texts, share), strict=True))
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert splits_of(shuffled, share) == [sides[text] for text in shuffled]
    assert splits_of([f" {text}\n" for text in texts], share) == [sides[text] for text in texts]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), SHARES, SHARES)
def test_a_larger_share_only_moves_items_to_validation(texts: list[str], one: float, other: float) -> None:
    smaller, larger = (splits_of(texts, share) for share in sorted((one, other)))
    assert all(after == "validation" for before, after in zip(smaller, larger, strict=True) if before == "validation")


def test_the_share_is_met_and_its_ends_take_all_or_nothing() -> None:
    texts = [f"Frage {number}" for number in range(4000)]
    found = np.mean([side == "validation" for side in splits_of(texts, 0.25)])
    assert abs(found - 0.25) < 4 * (0.25 * 0.75 / len(texts)) ** 0.5
    assert set(splits_of(texts, 0)) == {"test"}
    assert set(splits_of(texts, 1)) == {"validation"}


def test_copies_of_a_question_fall_on_one_side_whatever_their_ids(tmp_path: Path) -> None:
    copies = [{**one, "id": f"{one['id']}-copy", "question": one["question"].upper()} for one in QUESTIONS]
    file = write_lines(tmp_path / "questions.jsonl", [*QUESTIONS, *copies])
    settings = BenchmarkSettings(questions=str(file), prompt=PROMPT, validation_share=0.4)
    validation = {one.id for one in questions_of("validation", source(file), settings)}
    test = {one.id for one in questions_of("test", source(file), settings)}
    assert validation | test == {one["id"] for one in [*QUESTIONS, *copies]}
    assert not validation & test
    assert {one.removesuffix("-copy") for one in validation}.isdisjoint(one.removesuffix("-copy") for one in test)


def test_a_split_without_items_is_refused_with_the_cure(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "instructions.jsonl", INSTRUCTIONS)
    settings = InstructionSetSettings(instructions=str(file))
    with pytest.raises(UserError, match=r"none of the 10 items of .* is in validation with validation_share 0\.0; raise it"):
        instructions_of("validation", source(file), settings)


def test_scores_and_responses_are_of_the_test_split(store: Store, stages, questions_file: Path, instructions_file: Path) -> None:
    benchmark = BenchmarkSettings(questions=str(questions_file), prompt=PROMPT, validation_share=0.4, num_fewshot=2)
    scores = build_artifact(
        store, "benchmark_scores", score_models, BenchmarkScoresSettings(benchmarks={"organe": benchmark}, resamples=100),
        partition="qwen2", inputs=stages("qwen2"), sources={"benchmark/organe": str(questions_file)},
    )  # fmt: skip
    folder = Path(store.uri(scores))
    asked = set(pl.read_parquet(folder / "questions.parquet")["question_id"])
    assert asked == {one.id for one in questions_of("test", source(questions_file), benchmark)}
    assert 0 < len(asked) < len(QUESTIONS)
    shown = [json.loads(line)["id"] for line in (folder / "tasks" / "organe.examples.jsonl").read_text("utf-8").splitlines()]
    assert shown == [one.id for one in questions_of("validation", source(questions_file), benchmark)][:2]

    chats = InstructionSetSettings(instructions=str(instructions_file), validation_share=0.4)
    answers = build_artifact(
        store, "responses", collect_responses, ResponsesSettings(instruction_sets={"alltag": chats}, max_new_tokens=2),
        partition="qwen2", inputs=stages("qwen2"), sources={"instructions/alltag": str(instructions_file)},
    )  # fmt: skip
    answered = set(pl.read_parquet(Path(store.uri(answers)) / "responses.parquet")["instruction_id"])
    assert answered == {one.id for one in instructions_of("test", source(instructions_file, "instructions/alltag"), chats)}
    assert 0 < len(answered) < len(INSTRUCTIONS)


def test_the_demo_reports_enough_and_keeps_enough_for_choosing() -> None:
    recipe = load_recipe("demo")
    benchmark, (chats,) = recipe.benchmark_scores.benchmarks["demo_medicine"], recipe.responses.instruction_sets.values()
    assert len(questions_of("test", source(benchmark.questions), benchmark)) >= 120
    assert len(questions_of("validation", source(benchmark.questions), benchmark)) >= 40
    assert len(instructions_of("test", source(chats.instructions), chats)) >= 80
    assert len(instructions_of("validation", source(chats.instructions), chats)) >= 25


def test_decontamination_looks_for_the_questions_of_both_splits(questions_file: Path) -> None:
    settings = BenchmarkSettings(questions=str(questions_file), prompt=PROMPT, validation_share=0.4)
    looked_for = decontaminate.read_questions([source(questions_file)], 8).questions["question_id"].to_list()
    both = [one.id for split in SPLITS for one in questions_of(split, source(questions_file), settings)]
    assert sorted(looked_for) == sorted(both)

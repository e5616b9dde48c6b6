from typing import Any

import pytest

from definemed_pipeline.evaluation.sweep.settings import CandidateSettings, MergeSweepSettings, RuleSettings
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.recipe import load_recipe
from definemed_pipeline.settings import as_json, section_digest

MERGE = MergedModelsSettings(parameters={"t": 0.5}, dtype="float32")


def test_a_grid_is_every_combination_after_the_candidates_in_their_order() -> None:
    sweep = MergeSweepSettings(candidates=(CandidateSettings(parameters={"t": 0.9}),), grid={"t": (0.1, 0.2)})
    assert [merge.parameters["t"] for merge in sweep.merges(MERGE)] == [0.9, 0.1, 0.2]
    ties = MergedModelsSettings(method="ties", parameters={"weight": 1})
    grid = MergeSweepSettings(grid={"weight": (0.5, 1), "density": (0.2, 0.4)}).merges(ties)
    assert [tuple(merge.parameters.values()) for merge in grid] == [(0.5, 0.2), (0.5, 0.4), (1, 0.2), (1, 0.4)]


def test_a_candidate_is_the_merge_of_the_recipe_but_for_its_method_and_parameters() -> None:
    candidate = CandidateSettings(method="linear", parameters={"weight": {"base": 1, "cpt": 2}})
    (merge,) = MergeSweepSettings(candidates=(candidate,)).merges(MERGE)
    assert (merge.method, merge.dtype) == ("linear", "float32")


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        ([{"parameters": {"t": 2}}], "candidate 1: parameters.t is 2"),
        ([{"parameters": {"t": 0.2}}, {"method": "ties", "parameters": {"t": 0.2}}], "candidate 2: parameters holds 't'"),
        ([{"parameters": {"t": 0.2}}, {"parameters": {"t": 0.2}}], "candidate 2 stands twice"),
    ],
)
def test_a_candidate_that_does_not_fit_is_named_by_its_position(candidates: list[dict[str, Any]], said: str) -> None:
    sweep = MergeSweepSettings(candidates=tuple(CandidateSettings(**one) for one in candidates))
    with pytest.raises(ValueError, match=said):
        sweep.merges(MERGE)


def test_a_rule_limits_shares_only() -> None:
    with pytest.raises(ValueError, match="at_least names 'accuracy'; allowed: accuracy_kept, instruction_following_recovered"):
        RuleSettings(at_least={"accuracy": 0.5})


@pytest.mark.parametrize("recipe", ["demo", "paper"])
def test_what_a_sweep_depends_on_survives_the_way_through_json(recipe: str) -> None:
    loaded = load_recipe(recipe)
    swept = loaded.merge_sweep_of(next(iter(loaded.base_models)))
    assert section_digest(type(swept).parse(as_json(swept))) == section_digest(swept)


def test_only_what_is_kept_for_validation_is_measured_and_only_that_makes_a_sweep_stale(tmp_path) -> None:
    def digest(changes: str) -> str:
        recipe = tmp_path / "changed.yaml"
        recipe.write_text(f"extends: demo\nname: changed\n{changes}\n")
        return section_digest(load_recipe(str(recipe)).merge_sweep_of("demo-qwen2"))

    assert digest("failure_modes: {seed: 1}") == digest("benchmark_scores: {seed: 1}") == digest("")
    other = "{questions: 'demo://questions.jsonl', prompt: '{{question}}'}"
    assert digest(f"benchmark_scores: {{benchmarks: {{reported_only: {other}}}}}") == digest("")
    assert digest("benchmark_scores: {metric: acc_norm}") != digest("")
    assert digest("failure_modes: {proper_answer: 0.6}") != digest("")


def test_a_sweep_without_validation_questions_is_refused_before_anything_runs(tmp_path) -> None:
    recipe = tmp_path / "none.yaml"
    recipe.write_text("extends: demo\nname: none\nresponses: {instruction_sets: {demo_instructions: {validation_share: 0}}}\n")
    with pytest.raises(Exception, match=r"merge_sweep: .* none of responses.instruction_sets has a validation_share"):
        load_recipe(str(recipe))

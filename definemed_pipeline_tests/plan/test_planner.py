"""The plan: read from the lake where it is built, assumed and marked where it is not, refused where nothing is known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.artifacts.build import Draft, build
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.plan.planner import Given, TrainingPlan, plan_recipe
from definemed_pipeline.recipe import load_recipe
from definemed_pipeline.training.gpus import gpu_named
from definemed_pipeline.training.model_shape import shape_named
from definemed_pipeline.training.planning import ASSUMED_MFU
from definemed_pipeline_tests.conftest import identity_of

H100 = gpu_named("h100")
HUB_MODEL = """
extends: demo
name: mine
base_models:
  demo-qwen2: null
  demo-mistral: null
  mine: {kind: hub, repository: REPOSITORY, revision: "0123456789012345678901234567890123456789"}
win_rates: {opponent_base_model: mine}
plan: {tokens_per_word: {mine: 2.0}}
"""


@pytest.fixture
def built(store: Store) -> Callable[..., None]:
    """Put an artifact into the lake as a recipe's stage would: its section, metrics and files."""

    def put(recipe: str, asset: str, section: Any, *, partition: str = "_", files: dict[str, Any] | None = None, **metrics: Any):
        def write(draft: Draft[Any]) -> None:
            for name, content in (files or {}).items():
                (draft.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (draft.folder / name).write_text(json.dumps(content), "utf-8")
            draft.metrics.update(metrics)

        build(
            store,
            identity_of(asset, section, partition=partition),
            write,
            settings=section,
            recipe=load_recipe(recipe).name,
            run_id="test",
        )

    return put


def plans_of(store: Store, recipe: str, **given: Any) -> dict[str, TrainingPlan]:
    return {plan.name: plan for plan in plan_recipe(store, load_recipe(recipe), Given(**{"gpu": H100, **given}))}


def recipe_with(folder: Path, repository: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(HUB_MODEL.replace("REPOSITORY", repository), "utf-8")
    return str(path)


def test_the_paper_is_planned_from_what_is_published(store):
    plans = plans_of(store, "paper")
    assert list(plans) == ["qwen2.5-7b", "mistral-7b", "mistral-small-24b"]
    for name, plan in plans.items():
        assert plan.shape.value == shape_named(name)
        assert plan.corpus.blocks.is_assumed
        assert plan.rate is not None
        assert plan.rate.is_assumed
        assert not plan.fits  # one GPU of 80 GB
        assert plan.remedies
    words = load_recipe("paper").plan.corpus_words
    assert words == 5_100_000_000
    tokens = plans["qwen2.5-7b"].schedule.trained_tokens
    assert tokens == pytest.approx(2 * words * 2.33 * (1 - 0.001) / (1 - replay_share("paper")), rel=1e-4)


def replay_share(recipe: str) -> float:
    general = load_recipe(recipe).cpt_corpus.general
    return general.replay_share if general else 0.0


def test_the_demo_is_planned_from_its_own_recipe(store):
    for plan in plans_of(store, "demo").values():
        assert 700_000 < plan.shape.value.parameters < 750_000
        assert plan.fits
        assert plan.rate is None  # nothing is published of models so small


def test_a_rate_of_the_caller_comes_first_then_the_measured_one_then_the_assumed(store, built):
    assumed = plans_of(store, "paper")["qwen2.5-7b"]
    assert assumed.rate.value == pytest.approx(ASSUMED_MFU * H100.bf16_flops_per_s / assumed.flops.model)
    section = load_recipe("paper").cpt_checkpoints
    built("paper", "cpt_checkpoints", section, partition="qwen2.5-7b", tokens_per_s=40_000, processes=8, device="NVIDIA H200")
    measured = plans_of(store, "paper")["qwen2.5-7b"].rate
    assert (measured.value, measured.is_assumed) == (5_000, False)
    assert measured.source == "measured on NVIDIA H200, cpt_checkpoints in the lake"
    assert plans_of(store, "paper", tokens_per_s=7_000)["qwen2.5-7b"].rate.value == 7_000
    half = plans_of(store, "paper", mfu=0.5)["qwen2.5-7b"]
    assert half.rate.value == pytest.approx(0.5 * H100.bf16_flops_per_s / half.flops.model)


def test_a_rate_that_was_measured_with_adapters_says_nothing_of_full_training(store, built, tmp_path):
    path = tmp_path / "lora.yaml"
    path.write_text("extends: paper\ncpt_checkpoints: {lora: {rank: 8}}\n", "utf-8")
    section = load_recipe(str(path)).cpt_checkpoints
    built("paper", "cpt_checkpoints", section, partition="qwen2.5-7b", tokens_per_s=40_000, processes=8)
    assert plans_of(store, "paper")["qwen2.5-7b"].rate.is_assumed
    assert plans_of(store, str(path))["qwen2.5-7b"].rate.value == 5_000


def test_what_is_built_is_read_from_the_lake(store, built):
    recipe = load_recipe("demo")
    config = {"model_type": "mistral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500, "tie_word_embeddings": True}
    model = recipe.base_models["demo-mistral"]
    built("demo", "base_models", model, partition="demo-mistral", files={"model/config.json": config})
    built("demo", "cpt_corpus", recipe.cpt_corpus, partition="demo-mistral", blocks=123, mean_attended_length=20.5)
    plan = plans_of(store, "demo")["demo-mistral"]
    assert plan.shape.value.layers == 1
    assert plan.schedule.blocks == 123
    assert plan.corpus.attended_length.value == 20.5
    assert not plan.corpus.blocks.is_assumed
    assert not plan.corpus.attended_length.is_assumed


def test_a_corpus_of_other_settings_is_not_taken_for_the_recipes(store, built, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("extends: demo\ncpt_corpus: {sequence_length: 256}\n", "utf-8")
    built("demo", "cpt_corpus", load_recipe("demo").cpt_corpus, partition="demo-qwen2", blocks=123)
    assert plans_of(store, "demo")["demo-qwen2"].schedule.blocks == 123
    assert plans_of(store, str(path))["demo-qwen2"].corpus.blocks.is_assumed


def test_words_of_the_corpus_are_read_where_only_they_are_there(store, built):
    recipe = load_recipe("demo")
    built("demo", "finemed_de", recipe.finemed_de, words=1_000_000)
    plan = plans_of(store, "demo", tokens_per_word=2.0)["demo-qwen2"]
    assert plan.schedule.blocks == pytest.approx(2_000_000 / 128 * (1 - recipe.cpt_corpus.held_out_share), abs=1)
    assert not plan.corpus.blocks.is_assumed


def test_a_hub_model_is_known_by_its_repository(store, tmp_path):
    plan = plans_of(store, recipe_with(tmp_path, "Qwen/Qwen2.5-0.5B-Instruct"))["mine"]
    assert plan.shape.value == shape_named("qwen2.5-0.5b")


def test_a_hub_model_that_nothing_is_known_of_is_told_with_the_cure(store, tmp_path):
    with pytest.raises(
        UserError, match=r"shape of some/model is not known .* --select base_models --partition mine.*Qwen/Qwen2\.5-7B"
    ):
        plans_of(store, recipe_with(tmp_path, "some/model"))


def test_a_folder_model_is_read_where_it_lies(store, tmp_path):
    text = HUB_MODEL.replace(
        '{kind: hub, repository: REPOSITORY, revision: "0123456789012345678901234567890123456789"}',
        "{kind: folder, path: ./model}",
    )
    (tmp_path / "folder.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"there is no .*model/config\.json; correct the path"):
        plans_of(store, str(tmp_path / "folder.yaml"))
    (tmp_path / "model").mkdir()
    config = {"model_type": "gpt2", "n_embd": 8}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UserError, match=r"mine: model_type is 'gpt2'"):
        plans_of(store, str(tmp_path / "folder.yaml"))


def test_without_tokens_per_word_the_cure_is_told(store, tmp_path):
    path = tmp_path / "none.yaml"
    path.write_text("extends: demo\nplan: {tokens_per_word: null}\n", "utf-8")
    with pytest.raises(UserError, match=r"how many tokens demo-qwen2 makes of a word: .*--tokens-per-word"):
        plans_of(store, str(path))
    path.write_text("extends: demo\nplan: {corpus_words: null}\n", "utf-8")
    with pytest.raises(UserError, match=r"nothing says how large the corpus will be: .* plan\.corpus_words"):
        plans_of(store, str(path))


def test_a_rate_said_in_two_ways_is_refused(store):
    with pytest.raises(UserError, match=r"--tokens-per-s and --mfu are two ways to say one thing"):
        plans_of(store, "demo", tokens_per_s=10.0, mfu=0.4)

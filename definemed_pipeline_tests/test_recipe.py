"""Recipes: the packaged ones are valid, and every mistake is told in a line with the key, the value and the cure."""

from pathlib import Path

import pytest
import yaml

from definemed_pipeline.errors import UserError
from definemed_pipeline.recipe import PACKAGED, load_recipe, packaged_recipes
from definemed_pipeline.settings import section_digest


def write(folder: Path, text: str, name: str = "my.yaml") -> str:
    path = folder / name
    path.write_text(text, "utf-8")
    return str(path)


def mistake(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(write(folder, text))
    return str(caught.value)


@pytest.mark.parametrize("name", packaged_recipes())
def test_the_packaged_recipes_are_valid(name):
    assert load_recipe(name).name == name


def test_the_paper_recipe_holds_what_the_paper_published():
    paper = load_recipe("paper")
    assert paper.annotations.sample_size == 260_000
    assert paper.annotations.annotator.endpoint.model == "mistralai/Mixtral-8x7B-Instruct-v0.1"
    assert paper.medical_classifier.transformer.model == "FacebookAI/xlm-roberta-base"
    assert paper.medical_classifier.target_precision == 0.95
    assert (paper.cpt_checkpoints.epochs, paper.cpt_checkpoints.warmup_steps) == (2, 500)
    assert paper.cpt_checkpoints.precision == "bfloat16"
    assert paper.compute.training.activation_checkpointing == "full"
    assert paper.merged_models.method == "slerp"
    assert len(paper.benchmark_scores.average_tasks()) == 7, "six medical subjects of MMLU-de, and MedQA-de"
    published = {one.model: one.accuracy for one in paper.report.published}
    assert published == {
        "Mistral-7B-Instruct": 0.4973, "DeFineMed-Mistral-7B-SLERP": 0.5646, "Qwen2.5-7B-Instruct": 0.5908, "DeFineMed-Qwen2.5-7B": 0.6491,
    }  # fmt: skip
    repositories = [one.repository.split("/")[1] for one in paper.base_models.values()]
    assert repositories == ["Qwen2.5-7B-Instruct", "Mistral-7B-Instruct-v0.3", "Mistral-Small-24B-Instruct-2501"]


def test_every_value_of_the_paper_recipe_says_whether_it_was_published():
    """A line with a value carries a mark, or stands under one in its block, or is structure."""
    text = (PACKAGED / "paper.yaml").read_text("utf-8")
    sections = yaml.compose(text).value
    unmarked = []
    lines = text.splitlines()
    about_us = {"name", "description", "model_cards", "checks"}
    for key, value in sections:
        if key.value in about_us:
            continue
        block = "\n".join(lines[key.start_mark.line : value.end_mark.line])
        if "[paper]" not in block and "[assumed]" not in block:
            unmarked.append(key.value)
    assert unmarked == []


def test_a_recipe_extends_another_and_changes_only_what_it_names(tmp_path):
    mine = load_recipe(write(tmp_path, "extends: demo\nname: mine\nannotations: {sample_size: 7}\n"))
    demo = load_recipe("demo")
    assert (mine.name, mine.annotations.sample_size) == ("mine", 7)
    assert mine.annotations.annotator == demo.annotations.annotator
    assert mine.cpt_checkpoints == demo.cpt_checkpoints


def test_null_removes_a_base_model_of_the_extended_recipe(tmp_path):
    text = "extends: demo\nname: mine\nbase_models: {demo-qwen2: null}\n"
    assert list(load_recipe(write(tmp_path, text)).base_models) == ["demo-mistral"]


def test_extending_goes_through_files_too(tmp_path):
    write(tmp_path, "extends: demo\nname: first\ncpt_checkpoints: {epochs: 7}\n", "first.yaml")
    second = load_recipe(write(tmp_path, f"extends: {tmp_path / 'first.yaml'}\nname: second\n"))
    assert (second.name, second.cpt_checkpoints.epochs) == ("second", 7)


def test_a_circle_of_recipes_is_refused(tmp_path):
    write(tmp_path, f"extends: {tmp_path / 'my.yaml'}\nname: first\n", "first.yaml")
    assert "goes in a circle" in mistake(tmp_path, f"extends: {tmp_path / 'first.yaml'}\nname: second\n")


def test_a_path_with_a_dot_is_relative_to_the_recipe(tmp_path):
    mine = load_recipe(write(tmp_path, "extends: demo\nname: mine\nannotations: {gold: ./gold.parquet}\n"))
    assert mine.annotations.gold == str(tmp_path / "gold.parquet")


def test_an_unknown_key_is_named_with_the_likeliest_one(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\nannotations: {sample_siz: 7}\n")
    assert "annotations.sample_siz is not a known key (found 7); did you mean 'sample_size'?" in told


def test_a_key_of_a_section_that_has_several_kinds_is_named_as_it_is_written(tmp_path):
    told = mistake(tmp_path, "extends: paper\nname: mine\nsource: {langage: deu_Latn}\n")
    assert "source.langage is not a known key (found 'deu_Latn'); did you mean 'language'?" in told
    told = mistake(tmp_path, "extends: demo\nname: mine\nsource: {kind: fineweb2, revision: main}\n")
    assert "source.language is missing; add it" in told


def test_a_key_of_a_section_that_may_be_left_out_is_named_with_the_likeliest_one(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\ncpt_corpus: {general: {replay_shar: 0.1}}\n")
    assert "cpt_corpus.general.replay_shar is not a known key (found 0.1); did you mean 'replay_share'?" in told


def test_an_unknown_kind_is_told_with_the_known_ones(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\nsource: {kind: warc}\n")
    assert "source.kind is 'warc'; allowed: 'parquet', 'fineweb2'" in told
    told = mistake(tmp_path, "extends: paper\nname: mine\nsource: null\n")
    assert "source is missing" in told


def test_an_unknown_section_is_named(tmp_path):
    assert "did you mean 'cpt_corpus'?" in mistake(tmp_path, "extends: demo\nname: mine\ncpt_korpus: {}\n")


def test_an_impossible_value_is_named_with_what_is_allowed(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\ncpt_checkpoints: {learning_rate: -1}\n")
    assert "learning_rate is -1" in told
    assert "allowed: above 0" in told


def test_a_wrong_type_is_named(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\ncpt_checkpoints: {epochs: many}\n")
    assert "cpt_checkpoints.epochs is 'many'" in told


def test_every_mistake_is_told_at_once(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\ncpt_checkpoints: {epochs: 0}\nannotations: {sample_size: 0}\n")
    assert len(told.splitlines()) == 2


def test_every_score_bin_needs_its_share_of_the_sample(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\nsampling_frames: {score_bins: {none: 0, some: 0.2}}\n")
    assert "annotations.sample_shares names none, low, medium, high; allowed are sampling_frames.score_bins: none, some" in told


def test_another_endpoint_price_or_place_is_no_other_annotation(tmp_path):
    text = (
        "extends: paper\nname: mine\nannotations: {annotator: {kind: chat, endpoint: {price_per_million_prompt_tokens: 0.6}}}\n"
    )
    mine, paper = load_recipe(write(tmp_path, text)), load_recipe("paper")
    assert mine.annotations != paper.annotations
    assert section_digest(mine.annotations) == section_digest(paper.annotations)


def test_an_opponent_that_is_no_base_model_is_refused(tmp_path):
    told = mistake(tmp_path, "extends: demo\nname: mine\nwin_rates: {opponent_base_model: gpt}\n")
    assert "allowed are the recipe's base models: demo-qwen2, demo-mistral" in told


def test_a_key_given_twice_is_refused(tmp_path):
    assert "stands twice" in mistake(tmp_path, "extends: demo\nname: one\nname: two\n")


def test_broken_yaml_is_told_in_one_line(tmp_path):
    told = mistake(tmp_path, "name: [unclosed\n")
    assert "is not valid YAML" in told
    assert "\n" not in told


def test_a_missing_recipe_names_the_packaged_ones():
    with pytest.raises(UserError, match="give a YAML file or one of: demo, paper"):
        load_recipe("nowhere.yaml")


def test_only_the_changed_section_has_another_digest(tmp_path):
    demo = load_recipe("demo")
    mine = load_recipe(write(tmp_path, "extends: demo\nname: mine\nwin_rates: {opponent_stage: cpt}\n"))
    changed = {
        name
        for name in type(demo).model_fields
        if name not in ("name", "description", "base_models")
        and section_digest(getattr(demo, name)) != section_digest(getattr(mine, name))
    }
    assert changed == {"win_rates"}

"""The recipe's `compute.kubernetes`: a payload's own over the defaults, and no secrets."""

import pytest

from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings, PodSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline.recipe import load_recipe


def test_a_payload_changes_what_it_names_and_takes_the_rest_from_the_defaults():
    settings = KubernetesSettings(
        defaults=PodSettings(image="code:1", memory="8Gi", environment={"A": "1", "B": "1"}, secrets=["store"]),
        payloads={"cpt_checkpoints": PodSettings(image="trainer:1", gpus=8, environment={"B": "2"})},
    )
    training, scoring = settings.pod("cpt_checkpoints"), settings.pod("classifier_scores")
    assert (training.image, training.gpus, training.memory, training.secrets) == ("trainer:1", 8, "8Gi", ["store"])
    assert training.environment == {"A": "1", "B": "2"}
    assert (scoring.image, scoring.gpus, scoring.scratch) == ("code:1", 0, "/scratch")


def test_a_payload_without_an_image_is_told():
    with pytest.raises(ValueError, match=r"names no image for cpt_corpus; set defaults\.image or payloads\.cpt_corpus\.image"):
        KubernetesSettings().pod("cpt_corpus")


def recipe(tmp_path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: demo\nname: mine\ncompute:\n  backend: kubernetes\n  kubernetes: {text}\n", "utf-8")
    return str(path)


def test_a_secret_in_a_recipe_is_refused(tmp_path):
    with pytest.raises(UserError, match="environment holds HF_TOKEN; a recipe keeps no secrets: put it into a Secret"):
        load_recipe(recipe(tmp_path, "{defaults: {image: code, environment: {HF_TOKEN: hf_123}}}"))


def test_a_payload_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match="payloads names cpt_checkpoint"):
        load_recipe(recipe(tmp_path, "{defaults: {image: code}, payloads: {cpt_checkpoint: {gpus: 1}}}"))


def test_an_unknown_key_of_a_pod_is_told(tmp_path):
    with pytest.raises(UserError, match=r"gpu is not a known key \(found 1\); did you mean 'gpus'\?"):
        load_recipe(recipe(tmp_path, "{defaults: {image: code, gpu: 1}}"))


def test_a_recipe_of_the_kubernetes_backend_needs_an_image(tmp_path):
    with pytest.raises(UserError, match="names no image"):
        load_recipe(recipe(tmp_path, "{namespace: mine}"))

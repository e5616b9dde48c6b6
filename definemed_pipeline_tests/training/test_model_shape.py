"""Shapes: the parameters they count are those of real models, and a config they do not understand is refused."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from definemed_pipeline.errors import UserError
from definemed_pipeline.training.model_shape import (
    config_named,
    packaged_config,
    packaged_names,
    read_shape,
    shape_named,
)

TINY = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 101,
}


def real_model(config: dict[str, Any]) -> PreTrainedModel:
    """Return the model transformers makes of a config, without memory for its weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "special",
    [
        {"model_type": "qwen2"},
        {"model_type": "mistral"},
        {"model_type": "mistral", "head_dim": 12},
        {"model_type": "llama"},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    ],
    ids=str,
)
def test_the_parameters_are_those_of_the_real_model(special, tied):
    config = {**TINY, **special, "tie_word_embeddings": tied}
    shape, model = read_shape(config, origin="tiny"), real_model(config)
    assert shape.parameters == sum(one.numel() for one in model.parameters())
    assert shape.layer_parameters == sum(one.numel() for one in model.model.layers[0].parameters())
    matrices = [one.weight.numel() for one in model.modules() if isinstance(one, torch.nn.Linear)]
    assert shape.matrix_parameters == sum(matrices)


@pytest.mark.parametrize(
    ("name", "published"), [("qwen2.5-7b", 7.62), ("mistral-7b", 7.25), ("mistral-small-24b", 23.57), ("qwen2.5-0.5b", 0.49)]
)
def test_packaged_models_have_the_parameters_they_were_published_with(name, published):
    shape = shape_named(name)
    assert round(shape.parameters / 1e9, 2) == published
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_named(name))
    assert shape.parameters == model.num_parameters()


def test_a_config_saved_by_transformers_is_read_as_it_was_meant(tmp_path):
    for name in packaged_names():
        config_named(name).save_pretrained(tmp_path / name)
        saved = AutoConfig.from_pretrained(tmp_path / name).to_dict()
        assert read_shape(saved, origin=name) == shape_named(name)


def test_a_packaged_config_is_found_by_the_repository_of_the_model():
    config = packaged_config("mistralai/Mistral-7B-Instruct-v0.3")
    assert config is not None
    assert read_shape(config, origin="packaged") == shape_named("mistral-7b")
    assert packaged_config("somebody/else") is None


def test_an_unknown_name_is_told_with_the_names_there_are():
    with pytest.raises(
        UserError, match=r"no packaged model 'gpt'; allowed: mistral-7b, mistral-small-24b, qwen2\.5-0\.5b, qwen2\.5-7b"
    ):
        shape_named("gpt")


def test_an_architecture_that_is_not_known_is_refused():
    with pytest.raises(UserError, match=r"my model: model_type is 'mixtral'; .* known for llama, mistral, qwen2 only"):
        read_shape({**TINY, "model_type": "mixtral"}, origin="my model")


def test_a_config_that_lacks_a_size_is_refused():
    config = {key: value for key, value in TINY.items() if key != "vocab_size"}
    with pytest.raises(UserError, match=r"my model: config\.json lacks vocab_size"):
        read_shape({**config, "model_type": "qwen2"}, origin="my model")

import json
from collections.abc import Callable

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, MistralConfig, PreTrainedModel, Qwen2Config

from definemed_pipeline.model_folder import load_model
from definemed_pipeline.training.lora import ADAPTER_FILES, attach_adapter, merge_adapter, save_adapter
from definemed_pipeline.training.settings import LoraSettings

CHOSEN = LoraSettings(rank=4, alpha=8)
CONFIGS = {"qwen2": Qwen2Config, "mistral": MistralConfig}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
IDS = torch.arange(12)[None]


@pytest.fixture(params=list(CONFIGS))
def base(request, tmp_path) -> Callable[..., PreTrainedModel]:
    """Return what loads the same small base model anew, by default in float32."""
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "initializer_range": 0.3}
    config = CONFIGS[request.param](**shape, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    return lambda dtype="float32": load_model(tmp_path / "base", dtype=dtype)


def adapted(base, *, dtype: str = "float32", seed: int = 1) -> PreTrainedModel:
    model = base(dtype)
    attach_adapter(model, CHOSEN, seed=seed)
    return model


def trained(base, *, dtype: str = "float32") -> PreTrainedModel:
    """An adapter that two steps of training have moved away from doing nothing."""
    model = adapted(base, dtype=dtype).train()
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, use_cache=False).logits.float()


def adapter(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_fresh_adapter_changes_nothing(base) -> None:
    assert torch.equal(logits(adapted(base).eval()), logits(base()))


def test_every_linear_layer_of_the_decoder_is_adapted_and_nothing_else_is_trained(base) -> None:
    trained_layers = {name.split(".lora_")[0] for name in adapter(adapted(base))}
    assert trained_layers == {
        f"model.layers.{layer}.{'mlp' if name in LINEAR[4:] else 'self_attn'}.{name}" for layer in range(2) for name in LINEAR
    }


def test_training_moves_the_adapter_and_leaves_the_base_alone(base) -> None:
    before = dict(base().named_parameters())
    after = {name.replace(".base_layer", ""): weight for name, weight in trained(base).named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert (logits(trained(base)) - logits(base())).abs().max() > 0.1


def test_the_seed_and_nothing_else_decides_how_an_adapter_starts(base) -> None:
    torch.manual_seed(5)
    one = adapter(adapted(base, seed=1))
    state = torch.get_rng_state()
    again, other = adapter(adapted(base, seed=1)), adapter(adapted(base, seed=2))
    assert all(torch.equal(again[name], weight) for name, weight in one.items())
    assert not all(torch.equal(other[name], weight) for name, weight in one.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_adapters_stay_float32_beside_weights_in_half_precision(base) -> None:
    model = adapted(base, dtype="bfloat16")
    assert {weight.dtype for weight in adapter(model).values()} == {torch.float32}
    assert model.lm_head.weight.dtype == torch.bfloat16


def test_a_saved_adapter_on_its_base_is_the_merged_model(base, tmp_path) -> None:
    model = trained(base)
    save_adapter(model, tmp_path / "adapter", base="somebody/base")
    loaded = PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    expected = logits(model)
    merge_adapter(model)
    assert torch.equal(logits(loaded), expected)
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert (expected - logits(base())).abs().max() > 0.1


def test_a_merged_model_is_saved_and_loaded_as_its_base_is(base, tmp_path) -> None:
    model = trained(base)
    merge_adapter(model)
    assert {name: weight.dtype for name, weight in model.state_dict().items()} == {
        name: weight.dtype for name, weight in base().state_dict().items()
    }
    model.save_pretrained(tmp_path / "merged")
    assert (tmp_path / "merged" / "config.json").read_bytes() == (tmp_path / "base" / "config.json").read_bytes()
    assert torch.equal(logits(load_model(tmp_path / "merged")), logits(model))


def test_merging_into_half_precision_rounds_once(base) -> None:
    model = trained(base, dtype="bfloat16")
    layer = model.model.layers[1].mlp.down_proj
    low, high = (part["default"].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    expected = (layer.base_layer.weight.double() + CHOSEN.alpha / CHOSEN.rank * high @ low).to(torch.bfloat16)
    merge_adapter(model)
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, expected)


def test_a_saved_adapter_names_the_base_it_is_told_and_no_path_of_this_machine(base, tmp_path) -> None:
    save_adapter(adapted(base), tmp_path / "adapter", base="somebody/base")
    content = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    assert set(content) == set(ADAPTER_FILES)
    assert not any(str(tmp_path).encode() in text for text in content.values())
    assert json.loads(content["adapter_config.json"])["base_model_name_or_path"] == "somebody/base"


def test_equal_adapters_give_equal_bytes(base, tmp_path) -> None:
    for name in ("one", "other"):
        save_adapter(trained(base), tmp_path / name, base="somebody/base")
    for name in ADAPTER_FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text("utf-8"))
    assert config["target_modules"] == sorted(LINEAR)  # a set's own order changes from process to process

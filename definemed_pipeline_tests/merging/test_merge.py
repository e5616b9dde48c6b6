import math
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, MistralConfig, Qwen2Config

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.errors import UserError
from definemed_pipeline.merging.merge import merge
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.merging.tensors import LINEAR_ABOVE
from definemed_pipeline.model_folder import COMPANION_FILES, load_model
from definemed_pipeline.training.tokenizer import train_tokenizer
from definemed_pipeline_tests.conftest import build_artifact

CONFIGS = {"qwen2": Qwen2Config, "mistral": MistralConfig}
VOCABULARY = 320
PADDED = 512  # rows of the embedding; real models pad theirs too
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(params=[("qwen2", True), ("qwen2", False), ("mistral", False)], ids=["qwen2-tied", "qwen2-untied", "mistral"])
def kind(request) -> tuple[str, bool]:
    return request.param


@pytest.fixture
def models(store, kind) -> Callable[..., list[Manifest]]:
    """Make a base and a checkpoint that lies a chosen distance from it."""
    architecture, is_tied = kind

    def build(distance: float = 0.5, harm: Callable[[torch.Tensor], None] | None = None) -> list[Manifest]:
        torch.manual_seed(1)
        config = CONFIGS[architecture](
            vocab_size=PADDED,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=is_tied,
        )
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():  # biases start at zero, where there is no angle
                parameter.add_(0.02 * torch.randn_like(parameter))
        model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
        tokenizer = train_tokenizer(["Lunge Leber Niere"] * 9, architecture, vocabulary_size=VOCABULARY, model_max_length=64)

        def write(draft: Draft[Any]) -> None:
            model.save_pretrained(draft.folder / "model")
            tokenizer.save_pretrained(draft.folder / "model")

        base = build_artifact(store, "base_models", write, MergedModelsSettings(), partition="tiny", code_version=str(distance))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(distance * parameter.square().mean().sqrt() * torch.randn_like(parameter))
            if harm:
                harm(model.get_input_embeddings().weight)
        version = f"{distance} {harm}"
        return [
            base,
            build_artifact(store, "cpt_checkpoints", write, MergedModelsSettings(), partition="tiny", code_version=version),
        ]

    return build


@pytest.fixture
def merged(store, models) -> Callable[..., Manifest]:
    def build(*, distance: float = 0.5, force: bool = False, **section: Any) -> Manifest:
        chosen = MergedModelsSettings(**{"dtype": "float32", **section})
        return build_artifact(store, "merged_models", merge, chosen, partition="tiny", inputs=models(distance), force=force)

    return build


def weights_of(store, manifest: Manifest) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in (store.folder(manifest) / "model").glob("*.safetensors"):
        found |= load_file(path)
    return found


def slerp(t: float, base: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Interpolate along the arc, written from the formula (Shoemake 1985) and in double precision."""
    a, b = base.double().flatten(), other.double().flatten()
    cosine = float(a @ b / (a.norm() * b.norm()))
    if abs(cosine) > LINEAR_ABOVE:
        return ((1 - t) * a + t * b).reshape(base.shape)
    angle = math.acos(cosine)
    return ((math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)).reshape(base.shape)


@pytest.mark.parametrize("t", [0.3, 0.5])
def test_slerp_goes_along_the_arc_from_base_to_checkpoint(store, models, merged, t) -> None:
    base, cpt = (weights_of(store, manifest) for manifest in models())
    for name, weights in weights_of(store, merged(t=t)).items():
        torch.testing.assert_close(weights.double(), slerp(t, base[name], cpt[name]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["slerp", "linear"])
@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_of_the_way_are_base_and_checkpoint(store, models, merged, method, end) -> None:
    expected = weights_of(store, models()[end])
    found = weights_of(store, merged(method=method, t=float(end)))
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        torch.testing.assert_close(weights, expected[name], atol=1e-6, rtol=1e-5)


def test_linear_is_the_weighted_mean(store, models, merged) -> None:
    base, cpt = (weights_of(store, manifest) for manifest in models())
    for name, weights in weights_of(store, merged(method="linear", t=0.25)).items():
        torch.testing.assert_close(weights, 0.75 * base[name] + 0.25 * cpt[name])


@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_t_of_a_module_is_spread_over_the_layers(store, models, merged, method) -> None:
    base, cpt = (weights_of(store, manifest) for manifest in models())
    found = weights_of(store, merged(method=method, t=0.0, self_attn_t=(0.0, 1.0), mlp_t=(1.0, 0.0)))
    for name, expected in (
        ("model.layers.0.self_attn.q_proj.weight", base),
        ("model.layers.2.self_attn.q_proj.weight", cpt),
        ("model.layers.0.mlp.up_proj.weight", cpt),
        ("model.layers.2.mlp.up_proj.weight", base),
        (EMBEDDING, base),
    ):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)


def test_the_padded_vocabulary_and_the_tie_survive(store, kind, merged) -> None:
    manifest = merged()
    model = load_model(store.folder(manifest) / "model")
    assert model.get_input_embeddings().weight.shape[0] == manifest.metrics["vocabulary_size"] == PADDED
    assert manifest.metrics["parameters"] == sum(weights.numel() for weights in model.parameters())
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == kind[1]


def test_everything_but_the_weights_is_the_bases_byte_by_byte(store, models, merged) -> None:
    base, manifest = models()[0], merged()
    before, after = ({file.path: file.sha256 for file in each.files} for each in (base, manifest))
    companions = {path for path in before if path.removeprefix("model/") in COMPANION_FILES}
    assert {path: after[path] for path in companions} == {path: before[path] for path in companions}


def test_merging_twice_gives_the_same_bytes(merged) -> None:
    assert merged().digest == merged(force=True).digest


def test_no_file_names_a_place_on_this_machine(store, merged, tmp_path) -> None:
    manifest = merged()
    for file in manifest.files:
        assert str(tmp_path).encode() not in (store.folder(manifest) / file.path).read_bytes()


@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_the_record_of_the_merge_is_a_configuration_mergekit_reads(store, merged, method) -> None:
    content = yaml.safe_load((store.folder(merged(method=method, mlp_t=(0.0, 1.0))) / "merge.yaml").read_text())
    configuration = MergeConfiguration.model_validate(content)
    assert configuration.merge_method == method
    assert [str(entry.model) for entry in configuration.models] == ["base_models/tiny/model", "cpt_checkpoints/tiny/model"]


def test_a_merge_in_half_precision_is_stored_in_half_precision(store, merged) -> None:
    assert {weights.dtype for weights in weights_of(store, merged(dtype="bfloat16")).values()} == {torch.bfloat16}


def test_the_record_says_for_which_tensors_slerp_was_linear(store, merged) -> None:
    near, far = merged(distance=1e-3), merged(distance=0.5)
    assert near.metrics["linear_fallback_share"] == 1
    assert far.metrics["linear_fallback_share"] < 1
    rows = pq.read_table(store.folder(far) / "tensors.parquet").to_pylist()
    assert [row["tensor"] for row in rows] == sorted(weights_of(store, far))
    assert {row["layer"] for row in rows} == {None, 0, 1, 2}


def test_a_checkpoint_with_values_that_are_no_numbers_is_refused(store, models) -> None:
    def harm(weights: torch.Tensor) -> None:
        weights[3] = math.nan

    with pytest.raises(UserError, match=f"no numbers in {EMBEDDING}"):
        build_artifact(
            store, "merged_models", merge, MergedModelsSettings(dtype="float32"), partition="tiny", inputs=models(harm=harm)
        )

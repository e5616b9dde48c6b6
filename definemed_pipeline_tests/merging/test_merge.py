import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, MistralConfig, Qwen2Config

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.existing_models import FolderModelSettings
from definemed_pipeline.merging.merge import merge, merge_models
from definemed_pipeline.merging.methods import METHODS
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.merging.tensors import LINEAR_ABOVE
from definemed_pipeline.model_folder import COMPANION_FILES, load_model
from definemed_pipeline.training.tokenizer import train_tokenizer
from definemed_pipeline_tests.conftest import build_artifact

CONFIGS = {"qwen2": Qwen2Config, "mistral": MistralConfig}
VOCABULARY = 320
PADDED = 512  # rows of the embedding; real models pad theirs too
EMBEDDING = "model.embed_tokens.weight"
ONE_KIND = pytest.mark.parametrize("kind", [("qwen2", True)], ids=["qwen2-tied"], indirect=True)
SECTION = MergedModelsSettings(parameters={"t": 0.5})
WAYS = {  # one and the same way from base to checkpoint
    "slerp": lambda t: {"method": "slerp", "parameters": {"t": t}},
    "linear": lambda t: {"method": "linear", "parameters": {"weight": {"base": 1 - t, "cpt": t}}},
}


@pytest.fixture(params=[("qwen2", True), ("qwen2", False), ("mistral", False)], ids=["qwen2-tied", "qwen2-untied", "mistral"])
def kind(request) -> tuple[str, bool]:
    return request.param


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One lake for all tests: what one has built the next takes as it is."""
    return Store(str(tmp_path_factory.mktemp("merging") / "lake"))


@pytest.fixture
def models(store, kind) -> Callable[..., list[Manifest]]:
    """Make a base and a checkpoint that lies a chosen distance from it."""

    def build(distance: float = 0.5, harm: Callable[[torch.Tensor], None] | None = None) -> list[Manifest]:
        def write_base(draft: Draft[Any]) -> None:
            write_model(draft.folder / "model", kind, moved=0.0)

        def write_cpt(draft: Draft[Any]) -> None:
            write_model(draft.folder / "model", kind, moved=distance, harm=harm)

        partition = {"partition": "tiny", "code_version": f"{kind}"}
        base = build_artifact(store, "base_models", write_base, SECTION, **partition)
        partition["code_version"] += f" {distance} {harm and harm.__name__}"
        return [base, build_artifact(store, "cpt_checkpoints", write_cpt, SECTION, **partition)]

    return build


def write_model(
    folder: Path, kind: tuple[str, bool], *, moved: float, harm: Callable[[torch.Tensor], None] | None = None
) -> None:
    """Write the model of a kind, moved away from where it was by a share of each tensor."""
    architecture, is_tied = kind
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
        for parameter in model.parameters():
            parameter.add_(moved * parameter.square().mean().sqrt() * torch.randn_like(parameter))
        if harm:
            harm(model.get_input_embeddings().weight)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer = train_tokenizer(["Lunge Leber Niere"] * 9, architecture, vocabulary_size=VOCABULARY, model_max_length=64)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def merged(store, models) -> Callable[..., Manifest]:
    def build(*, distance: float = 0.5, harm: Callable[[torch.Tensor], None] | None = None, **section: Any) -> Manifest:
        """Merge base and checkpoint by a section, after a sweep with this `choice`; `force` merges anew."""

        def swept(choice: dict[str, Any]) -> Manifest:
            def write(draft: Draft[Any]) -> None:
                draft.write_json("choice.json", choice)

            return build_artifact(store, "merge_sweep", write, SECTION, partition="tiny", code_version=str(choice))

        force, choice = section.pop("force", False), section.pop("choice", {})
        chosen = MergedModelsSettings(**{"parameters": {"t": 0.5}, "dtype": "float32", **section})
        return build_artifact(
            store,
            "merged_models",
            merge,
            chosen,
            partition="tiny",
            inputs=[*models(distance, harm), swept(choice)],
            sources=chosen.sources(),
            force=force,
        )

    return build


@pytest.fixture
def third(store, models) -> dict[str, FolderModelSettings]:
    """Another model of the same architecture in a folder of its own."""
    return {"third": FolderModelSettings(kind="folder", path=str(store.folder(models(0.2)[1]) / "model"))}


@pytest.fixture
def folders(store, models, third) -> dict[str, Path]:
    """Where base, checkpoint and the third model lie."""
    base, cpt = (store.folder(manifest) / "model" for manifest in models())
    return {"base": base, "cpt": cpt, "third": Path(third["third"].path)}


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


def test_slerp_goes_along_the_arc_from_base_to_checkpoint(store, models, merged) -> None:
    base, cpt = (weights_of(store, manifest) for manifest in models())
    for name, weights in weights_of(store, merged(parameters={"t": 0.3})).items():
        torch.testing.assert_close(weights.double(), slerp(0.3, base[name], cpt[name]), atol=1e-5, rtol=1e-4)


@ONE_KIND
@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_of_the_way_are_base_and_checkpoint(store, models, merged, method, end) -> None:
    expected = weights_of(store, models()[end])
    found = weights_of(store, merged(**WAYS[method](end)))
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        torch.testing.assert_close(weights, expected[name], atol=1e-6, rtol=1e-5)


@ONE_KIND
def test_what_the_sweep_chose_is_merged_in_place_of_the_sections_own_setting(store, merged) -> None:
    chosen = merged(choice=WAYS["linear"](0.25))
    assert chosen.metrics["method"] == "linear"
    assert chosen.digest == merged(**WAYS["linear"](0.25)).digest
    assert chosen.digest != merged().digest


@ONE_KIND
def test_linear_is_the_weighted_mean(store, models, merged) -> None:
    base, cpt = (weights_of(store, manifest) for manifest in models())
    for name, weights in weights_of(store, merged(**WAYS["linear"](0.25))).items():
        torch.testing.assert_close(weights, 0.75 * base[name] + 0.25 * cpt[name])


@ONE_KIND
def test_t_of_a_module_is_spread_over_the_layers(store, models, merged) -> None:
    base, cpt = (weights_of(store, manifest) for manifest in models())
    schedule = [{"filter": "self_attn", "value": [0, 1]}, {"filter": "mlp", "value": [1, 0]}, {"value": 0}]
    found = weights_of(store, merged(parameters={"t": schedule}))
    for name, expected in (
        ("model.layers.0.self_attn.q_proj.weight", base),
        ("model.layers.2.self_attn.q_proj.weight", cpt),
        ("model.layers.0.mlp.up_proj.weight", cpt),
        ("model.layers.2.mlp.up_proj.weight", base),
        (EMBEDDING, base),
    ):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)
    middle = "model.layers.1.mlp.up_proj.weight"
    torch.testing.assert_close(found[middle].double(), slerp(0.5, base[middle], cpt[middle]), atol=1e-5, rtol=1e-4)


def section_of(method: str, others: dict[str, FolderModelSettings]) -> dict[str, Any]:
    """Return a section for a method with values for all it needs, and with another model where it takes one."""
    known = METHODS[method]
    values: dict[str, Any] = {"t": 0.3, "weight": {"cpt": 0.7}, "density": 0.5, "epsilon": 0.1}
    parameters = {name: values[name] for name in values if name in known.parameters}
    if known.base != "origin" and "weight" in parameters:
        parameters["weight"]["base"] = 0.3
    if known.most is not None:
        return {"method": method, "parameters": parameters}
    if "weight" in parameters:
        parameters["weight"]["third"] = 0.2
    return {"method": method, "parameters": parameters, "others": others}


@pytest.mark.parametrize("method", METHODS)
@ONE_KIND
def test_every_method_merges_models_that_are_alike_to_themselves(folders, third, method, tmp_path) -> None:
    """Whatever a method does with differences, there are none here."""
    chosen = MergedModelsSettings(dtype="float32", **section_of(method, third))
    alike = {name: tmp_path / name for name in chosen.models}
    for place in alike.values():
        place.symlink_to(folders["base"])
    merge_models(chosen, alike, tmp_path / "model", base_model="tiny", report=print)
    found = load_file(tmp_path / "model" / "model.safetensors")
    for name, expected in load_file(folders["base"] / "model.safetensors").items():
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@ONE_KIND
def test_every_method_gives_the_weights_that_mergekit_gives_by_the_recorded_configuration(
    folders, third, method, tmp_path
) -> None:
    chosen = MergedModelsSettings(seed=3, **section_of(method, third))
    merge_models(chosen, folders, tmp_path / "model", base_model="tiny", report=print)
    record = (tmp_path / "merge.yaml").read_text()
    for name, place in (("base", "base_models/tiny"), ("cpt", "cpt_checkpoints/tiny"), ("third", "others/third")):
        record = record.replace(f"{place}/model", str(folders[name]))
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(record)), str(tmp_path / "theirs"), MergeOptions(random_seed=3))
    ours, theirs = (load_file(tmp_path / side / "model.safetensors") for side in ("model", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    base = load_file(folders["base"] / "model.safetensors")
    assert any(not ours[name].equal(base[name].bfloat16()) for name in ours)  # otherwise nothing was merged


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


@ONE_KIND
@pytest.mark.parametrize("method", ["slerp", "dare_ties"])
def test_merging_twice_gives_the_same_bytes(merged, third, method) -> None:
    """Also by a method that draws at random what it keeps."""
    section = section_of(method, third)
    assert merged(**section).digest == merged(**section, force=True).digest


@ONE_KIND
def test_another_seed_draws_other_changes_to_keep(merged, third) -> None:
    section = section_of("dare_ties", third)
    assert merged(**section).digest != merged(**section, seed=1).digest


@ONE_KIND
def test_no_file_names_a_place_on_this_machine(store, merged) -> None:
    manifest = merged()
    for file in manifest.files:
        assert str(store.scratch.parent).encode() not in (store.folder(manifest) / file.path).read_bytes()


@ONE_KIND
def test_a_merge_in_half_precision_is_stored_in_half_precision(store, merged) -> None:
    assert {weights.dtype for weights in weights_of(store, merged(dtype="bfloat16")).values()} == {torch.bfloat16}


@ONE_KIND
def test_the_record_says_for_which_tensors_slerp_was_linear(store, merged) -> None:
    near, far = merged(distance=1e-3), merged(distance=0.5)
    assert near.metrics["nearly_parallel_share"] == 1
    assert far.metrics["nearly_parallel_share"] < 1
    rows = pq.read_table(store.folder(far) / "tensors.parquet").to_pylist()
    assert [row["tensor"] for row in rows] == sorted(weights_of(store, far))
    assert {row["layer"] for row in rows} == {None, 0, 1, 2}


def test_a_whole_merge_has_everything_its_base_has_and_answers(merged) -> None:
    metrics = merged().metrics
    assert metrics["is_tied"]
    assert metrics["has_base_template"]
    assert metrics["answer_tokens"] > 0
    assert metrics["not_finite"] == []


@ONE_KIND
def test_a_checkpoint_with_values_that_are_no_numbers_is_told_by_tensor(merged) -> None:
    def harm(weights: torch.Tensor) -> None:
        weights[3] = math.nan

    metrics = merged(harm=harm).metrics
    assert metrics["not_finite"] == [EMBEDDING]
    assert metrics["answer_tokens"] == 0


@ONE_KIND
def test_a_model_of_another_shape_is_refused_before_anything_is_merged(store, models, merged, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in (store.folder(models()[1]) / "model").iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    weights = load_file(other / "model.safetensors")
    save_file({**weights, EMBEDDING: torch.ones(VOCABULARY, 16)}, other / "model.safetensors", {"format": "pt"})
    section = section_of("karcher", {"third": FolderModelSettings(kind="folder", path=str(other))})
    with pytest.raises(UserError, match=rf"third does not fit its base: 1 tensors differ, {EMBEDDING} is \[320, 16\]"):
        merged(**section)


@ONE_KIND
def test_a_filter_that_finds_no_tensor_is_refused(merged) -> None:
    with pytest.raises(UserError, match=r"no tensor's name holds 'self_atn'; names look like model\.layers\.0"):
        merged(parameters={"t": [{"filter": "self_atn", "value": 1}, {"value": 0}]})


@ONE_KIND
def test_what_mergekit_itself_refuses_is_told_as_it_says_it(merged) -> None:
    with pytest.raises(UserError, match="mergekit cannot merge by della: Epsilon must be chosen"):
        merged(method="della", parameters={"weight": 1, "density": 0.1, "epsilon": 0.2})

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import load_model, load_tokenizer
from definemed_pipeline.training.cpt import train_checkpoint
from definemed_pipeline.training.cpt_corpus import pack_corpus
from definemed_pipeline.training.settings import CptCorpusSettings, GeneralDocumentsSettings, LoraSettings
from definemed_pipeline_tests.conftest import build_artifact

pytestmark = pytest.mark.xdist_group("cpt")  # one worker, one lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("lake")))


@pytest.fixture
def store(lake: Store) -> Store:
    """Share a lake: what one test has trained, others reuse."""
    return lake


@pytest.fixture
def continued(store, base_model, finemed_de, cpt_settings, pretraining_files) -> Callable[..., tuple[Manifest, Manifest]]:
    """Build base and CPT checkpoint; keywords replace single CPT settings."""

    def build(
        architecture: str = "qwen2",
        *,
        base: Manifest | None = None,
        held_out_share: float = 0.1,
        force: bool = False,
        **changes: Any,
    ) -> tuple[Manifest, Manifest]:
        base = base or base_model(architecture=architecture)
        section = CptCorpusSettings(
            sequence_length=64,
            held_out_share=held_out_share,
            general=GeneralDocumentsSettings(files=[pretraining_files["texts"]]),
        )
        corpus = build_artifact(
            store, "cpt_corpus", pack_corpus, section, partition="micro", inputs=[base, finemed_de], sources=section.sources()
        )
        checkpoint = build_artifact(
            store,
            "cpt_checkpoints",
            train_checkpoint,
            dataclasses.replace(cpt_settings, **changes),
            partition="micro",
            inputs=[base, corpus],
            force=force,
        )
        return base, checkpoint

    return build


@pytest.fixture(params=["qwen2", "mistral"])
def architecture(request) -> str:
    return request.param


def rows_of(store, manifest: Manifest, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (store.folder(manifest) / name).read_text().splitlines()]


def test_cpt_learns_the_corpus_also_where_it_never_looked(store, continued, architecture) -> None:
    _, checkpoint = continued(architecture)
    metrics = checkpoint.metrics
    assert metrics["final_loss"] < metrics["initial_loss"]
    assert metrics["held_out_perplexity_corpus"] < metrics["held_out_perplexity_corpus_base"] / 2
    assert metrics["held_out_perplexity_general"] != metrics["held_out_perplexity_general_base"]
    perplexities = rows_of(store, checkpoint, "perplexity.jsonl")
    assert perplexities[0] == {
        "step": 0,
        "corpus": metrics["held_out_perplexity_corpus_base"],
        "general": metrics["held_out_perplexity_general_base"],
    }
    assert perplexities[-1]["step"] == metrics["steps"]


def test_everything_but_the_weights_is_the_bases_byte_by_byte(continued, architecture) -> None:
    base, checkpoint = continued(architecture)
    before, after = ({file.path: file.sha256 for file in manifest.files} for manifest in (base, checkpoint))
    assert {path: after[path] for path in before if not path.endswith(".safetensors")} == {
        path: digest for path, digest in before.items() if not path.endswith(".safetensors")
    }
    assert after["model/model.safetensors"] != before["model/model.safetensors"]


def test_the_checkpoint_loads_without_code_of_its_own_and_answers_as_trained(store, continued, architecture) -> None:
    base, checkpoint = continued(architecture)
    folder = store.folder(checkpoint) / "model"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert model.get_input_embeddings().num_embeddings == base.metrics["vocabulary_size"] == checkpoint.metrics["vocabulary_size"]
    ids = torch.tensor([tokenizer("Eine Krankheit der Lunge zeigt sich oft durch")["input_ids"]])
    before = load_model(store.folder(base) / "model")(input_ids=ids, labels=ids).loss
    assert model(input_ids=ids, labels=ids).loss < before


def test_a_base_in_half_precision_gets_a_checkpoint_in_half_precision(store, continued, base_model) -> None:
    base = base_model(steps=4)
    folder = store.folder(base) / "model"
    load_model(folder).to(torch.bfloat16).save_pretrained(folder)
    _, checkpoint = continued(base=base)
    assert load_model(store.folder(checkpoint) / "model").dtype == torch.bfloat16


def test_adapters_are_kept_by_themselves_and_merged_into_the_weights(store, continued, base_model) -> None:
    base, checkpoint = continued(lora=LoraSettings(rank=4, alpha=8))
    model, base_folder = store.folder(checkpoint) / "model", store.folder(base) / "model"
    merged = load_model(model).eval()
    adapted = PeftModel.from_pretrained(load_model(base_folder), store.folder(checkpoint) / "adapter").eval()
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-5)
        assert not torch.allclose(merged(ids).logits, load_model(base_folder).eval()(ids).logits, atol=1e-3)
    assert torch.equal(merged.get_input_embeddings().weight, load_model(base_folder).get_input_embeddings().weight)
    assert {path.name for path in model.iterdir()} == {path.name for path in base_folder.iterdir()}


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["full", "lora"])
def test_the_artifact_holds_no_pickle_and_no_path(store, continued, tmp_path, lora) -> None:
    _, checkpoint = continued(lora=lora)
    assert {file.path.rsplit(".", 1)[1] for file in checkpoint.files} == {"json", "jinja", "jsonl", "safetensors"}
    for file in checkpoint.files:
        assert str(tmp_path).encode() not in (store.folder(checkpoint) / file.path).read_bytes()


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("qwen2", {}), ("mistral", {"lora": LoraSettings(rank=4)}), ("qwen2", {"precision": "bfloat16"})],
    ids=["full", "lora", "bfloat16"],
)
def test_training_twice_gives_the_same_bytes(continued, architecture, changes) -> None:
    _, first = continued(architecture, **changes)
    _, second = continued(architecture, force=True, **changes)
    assert second.digest == first.digest


def test_large_weights_are_written_in_bounded_files(store, continued, base_model, monkeypatch) -> None:
    monkeypatch.setattr("definemed_pipeline.training.weights.SHARD_SIZE", "20KB")
    _, checkpoint = continued(epochs=1)
    weights = [file for file in checkpoint.files if file.path.endswith(".safetensors")]
    assert len(weights) == 2
    assert all(file.bytes < 30_000 for file in weights)
    assert load_model(store.folder(checkpoint) / "model").num_parameters() == checkpoint.metrics["parameters"]


def test_every_block_is_trained_on_once_an_epoch_and_the_last_step_is_filled_up(continued, cpt_settings) -> None:
    _, checkpoint = continued(epochs=3)
    metrics = checkpoint.metrics
    assert metrics["steps"] == -(-3 * metrics["blocks"] // cpt_settings.global_batch_size)
    assert metrics["trained_tokens"] == metrics["steps"] * cpt_settings.global_batch_size * 64


def test_the_log_has_a_row_for_every_step_and_the_manifest_the_speed(store, continued) -> None:
    _, checkpoint = continued()
    log = rows_of(store, checkpoint, "log.jsonl")
    assert [row["step"] for row in log] == list(range(1, checkpoint.metrics["steps"] + 1))
    assert log[-1]["loss"] == checkpoint.metrics["final_loss"]
    assert set(log[0]) == {"step", "loss", "learning_rate", "grad_norm"}
    assert checkpoint.metrics["speed"]["step"] == [row["step"] for row in log]
    assert (checkpoint.metrics["device"], checkpoint.metrics["attention"]) == ("CPU", "sdpa")


def test_without_held_out_documents_there_is_no_perplexity(store, continued) -> None:
    _, checkpoint = continued(held_out_share=0.0)
    assert rows_of(store, checkpoint, "perplexity.jsonl") == []
    assert not [name for name in checkpoint.metrics if "perplexity" in name]


def test_a_corpus_smaller_than_one_step_is_refused_with_the_cure(continued) -> None:
    with pytest.raises(UserError, match=r"lower cpt_checkpoints\.global_batch_size"):
        continued(global_batch_size=500)

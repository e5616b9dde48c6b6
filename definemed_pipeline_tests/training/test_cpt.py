import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import COMPANION_FILES, load_model
from definemed_pipeline.training.cpt import train_checkpoint
from definemed_pipeline.training.cpt_corpus import pack_corpus
from definemed_pipeline.training.settings import CptCorpusSettings
from definemed_pipeline_tests.conftest import build_artifact


@pytest.fixture
def continued(store, base_model, finemed_de, cpt_settings) -> Callable[..., tuple[Manifest, Manifest]]:
    """Build base and CPT checkpoint; keywords replace single CPT settings."""

    def build(architecture: str = "qwen2", *, force: bool = False, **changes: Any) -> tuple[Manifest, Manifest]:
        base = base_model(architecture=architecture)
        section = CptCorpusSettings(sequence_length=64)
        corpus = build_artifact(store, "cpt_corpus", pack_corpus, section, partition="micro", inputs=[base, finemed_de])
        section = dataclasses.replace(cpt_settings, **changes)
        inputs = [base, corpus]
        checkpoint = build_artifact(
            store, "cpt_checkpoints", train_checkpoint, section, partition="micro", inputs=inputs, force=force
        )
        return base, checkpoint

    return build


@pytest.fixture(params=["qwen2", "mistral"])
def architecture(request) -> str:
    return request.param


def test_cpt_learns_the_corpus_also_where_it_never_looked(continued, architecture) -> None:
    _, checkpoint = continued(architecture)
    assert checkpoint.metrics["final_loss"] < checkpoint.metrics["initial_loss"]
    assert checkpoint.metrics["held_out_perplexity"] < checkpoint.metrics["held_out_perplexity_base"] / 2


def test_everything_but_the_weights_is_the_bases_byte_by_byte(store, continued, architecture) -> None:
    base, checkpoint = continued(architecture)
    before, after = ({file.path: file.sha256 for file in manifest.files} for manifest in (base, checkpoint))
    companions = {path for path in before if path.removeprefix("model/") in COMPANION_FILES}
    assert {path: after[path] for path in companions} == {path: before[path] for path in companions}
    assert after["model/config.json"] == before["model/config.json"]
    assert after["model/model.safetensors"] != before["model/model.safetensors"]


def test_a_base_in_half_precision_gets_a_checkpoint_in_half_precision(store, continued, base_model) -> None:
    folder = store.folder(base_model()) / "model"
    load_model(folder).to(torch.bfloat16).save_pretrained(folder)
    _, checkpoint = continued()
    assert load_model(store.folder(checkpoint) / "model").dtype == torch.bfloat16


def test_the_artifact_holds_no_pickle_and_no_path(store, continued, tmp_path) -> None:
    _, checkpoint = continued()
    assert {file.path.rsplit(".", 1)[1] for file in checkpoint.files} == {"json", "jinja", "jsonl", "safetensors"}
    for file in checkpoint.files:
        assert str(tmp_path).encode() not in (store.folder(checkpoint) / file.path).read_bytes()


def test_training_twice_gives_the_same_bytes(continued, architecture) -> None:
    _, first = continued(architecture)
    _, second = continued(architecture, force=True)
    assert second.digest == first.digest


def test_every_block_is_trained_on_once_an_epoch(continued, cpt_settings) -> None:
    _, checkpoint = continued(epochs=3)
    metrics = checkpoint.metrics
    assert metrics["steps"] == -(-3 * metrics["blocks"] // cpt_settings.batch_size)
    assert metrics["trained_tokens"] == 3 * metrics["blocks"] * 64


def test_the_log_has_a_row_for_every_step(store, continued) -> None:
    _, checkpoint = continued()
    log = [json.loads(line) for line in (store.folder(checkpoint) / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(1, checkpoint.metrics["steps"] + 1))
    assert log[-1]["loss"] == checkpoint.metrics["final_loss"]


def test_without_a_held_out_share_every_block_is_trained_on(continued) -> None:
    _, checkpoint = continued(held_out_share=0.0)
    assert checkpoint.metrics["held_out_blocks"] == 0
    assert "held_out_perplexity" not in checkpoint.metrics


def test_a_corpus_smaller_than_one_step_is_refused_with_the_cure(continued) -> None:
    with pytest.raises(UserError, match="lower batch_size"):
        continued(batch_size=500)

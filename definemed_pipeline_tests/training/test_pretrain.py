import json

import pytest
import torch

from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import load_model, load_tokenizer, read_json


@pytest.fixture(params=["qwen2", "mistral"])
def architecture(request) -> str:
    return request.param


def test_a_model_from_scratch_loads_answers_and_knows_when_to_stop(store, base_model, architecture) -> None:
    manifest = base_model(architecture=architecture)
    folder = store.folder(manifest) / "model"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Wo liegt Ulm?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=3).shape[1] > ids.shape[1]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.model_type == architecture
    assert model.config.use_cache


def test_pretraining_learns(base_model) -> None:
    metrics = base_model(steps=40).metrics
    assert metrics["final_loss"] < metrics["initial_loss"] - 1


def test_pretraining_twice_gives_the_same_bytes(store, base_model, architecture) -> None:
    first = base_model(architecture=architecture)
    assert base_model(architecture=architecture, force=True).digest == first.digest


def test_the_artifact_holds_no_pickle_and_no_path(store, base_model, tmp_path) -> None:
    manifest = base_model()
    assert {file.path.rsplit(".", 1)[1] for file in manifest.files} == {"json", "jinja", "safetensors"}
    for file in manifest.files:
        assert str(tmp_path).encode() not in (store.folder(manifest) / file.path).read_bytes()


@pytest.mark.parametrize("tie", [True, False])
def test_tied_embeddings_are_stored_and_counted_once(store, base_model, tie) -> None:
    manifest = base_model(tie_embeddings=tie)
    model = load_model(store.folder(manifest) / "model")
    assert manifest.metrics["parameters"] == sum(weights.numel() for weights in model.parameters())
    assert torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight) == tie


def test_the_vocabulary_keeps_the_size_asked_for_where_the_texts_are_too_few_to_fill_it(store, base_model) -> None:
    manifest = base_model(vocabulary_size=5000)
    folder = store.folder(manifest) / "model"
    assert manifest.metrics["vocabulary_size"] == read_json(folder / "config.json")["vocab_size"] == 5000
    assert len(load_tokenizer(folder)) < 5000


@pytest.mark.parametrize("line", ['{"text": "cut', '{"words": "x"}', "[]"])
def test_a_line_that_does_not_fit_is_refused_by_file_and_number(base_model, pretraining_files, line) -> None:
    with open(pretraining_files["texts"], "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"general\.jsonl, line 61"):
        base_model()


@pytest.mark.parametrize("empty", ["texts", "chats"])
def test_an_empty_file_is_refused_by_name(base_model, pretraining_files, empty) -> None:
    open(pretraining_files[empty], "w").close()
    with pytest.raises(UserError, match=f"{pretraining_files[empty]} is empty"):
        base_model()


def test_texts_end_as_documents_and_chats_stand_in_the_models_own_turns(store, base_model, pretraining_files) -> None:
    text, chat = "Ein Fluss.", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with open(pretraining_files["texts"], "w", encoding="utf-8") as file:
        file.write(json.dumps({"text": text}) + "\n")
    with open(pretraining_files["chats"], "w", encoding="utf-8") as file:
        file.write(json.dumps({"messages": chat}) + "\n")
    manifest = base_model(steps=1)
    tokenizer = load_tokenizer(store.folder(manifest) / "model")
    written = text + "<|endoftext|>" + tokenizer.apply_chat_template(chat, tokenize=False)
    assert manifest.metrics["tokens"] == len(tokenizer(written, add_special_tokens=False).input_ids)

import json

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.model_folder import load_tokenizer
from definemed_pipeline.training.encoding import DocumentEncoder
from definemed_pipeline.training.tokenizer import train_tokenizer
from definemed_pipeline_tests.training.conftest import CORPUS

TEXT = "Ärzte prüfen die Lunge:\n\n  37,5 °C und 'Husten'."


@pytest.fixture(params=["qwen2", "mistral"])
def folder(request, tmp_path):
    train_tokenizer(CORPUS, request.param, vocabulary_size=330, model_max_length=64).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": request.param}))
    return tmp_path


def test_a_document_starts_and_ends_as_its_model_was_pretrained(folder) -> None:
    encoder, tokenizer = DocumentEncoder(folder), load_tokenizer(folder)
    ids = encoder.encode([TEXT])[0].tolist()
    begin = [tokenizer.bos_token_id] if tokenizer.bos_token else []
    assert ids == begin + tokenizer(TEXT, add_special_tokens=False).input_ids + [encoder.end_id]
    assert encoder.decode(ids) == TEXT


def test_a_chat_model_ends_its_documents_by_the_end_of_text_and_not_by_the_end_of_a_turn(tmp_path) -> None:
    for architecture, end in (("qwen2", "<|endoftext|>"), ("mistral", "</s>")):
        train_tokenizer(CORPUS, architecture, vocabulary_size=330, model_max_length=64).save_pretrained(tmp_path)
        assert DocumentEncoder(tmp_path).end_token == end


def test_a_page_that_spells_special_tokens_cannot_end_a_document(folder) -> None:
    encoder = DocumentEncoder(folder)
    spelt = "".join(token.content for token in encoder.tokenizer.get_added_tokens_decoder().values())
    special = set(encoder.tokenizer.get_added_tokens_decoder())
    plain, hostile = (encoder.encode([text])[0].tolist() for text in ("", spelt))
    assert [token for token in hostile if token in special] == plain
    assert encoder.decode(hostile) == spelt


def test_a_limit_in_the_tokenizers_file_cuts_no_document(folder) -> None:
    whole = DocumentEncoder(folder).encode([TEXT * 10])[0]
    content = json.loads((folder / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 5, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert DocumentEncoder(folder).encode([TEXT * 10])[0].tolist() == whole.tolist()


def test_a_tokenizer_without_an_end_token_is_refused_with_the_cure(tmp_path) -> None:
    train_tokenizer(CORPUS, "mistral", vocabulary_size=330, model_max_length=64).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="set eos_token"):
        DocumentEncoder(tmp_path)

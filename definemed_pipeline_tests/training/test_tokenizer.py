import pytest

from definemed_pipeline.model_folder import load_tokenizer
from definemed_pipeline.training.tokenizer import SPECIAL_TOKENS, train_tokenizer
from definemed_pipeline_tests.training.conftest import CORPUS

CHAT = [
    {"role": "system", "content": "Antworte kurz."},
    {"role": "user", "content": "Wo liegt Ulm?"},
    {"role": "assistant", "content": "An der Donau."},
    {"role": "user", "content": "Und Köln?"},
]


@pytest.fixture(params=["qwen2", "mistral"])
def trained(request):
    return request.param, train_tokenizer(CORPUS, request.param, vocabulary_size=330, model_max_length=64)


def test_chats_are_written_as_the_architectures_instruct_models_write_them(trained) -> None:
    architecture, tokenizer = trained
    expected = {
        "qwen2": (
            "<|im_start|>system\nAntworte kurz.<|im_end|>\n<|im_start|>user\nWo liegt Ulm?<|im_end|>\n"
            "<|im_start|>assistant\nAn der Donau.<|im_end|>\n<|im_start|>user\nUnd Köln?<|im_end|>\n<|im_start|>assistant\n"
        ),
        "mistral": "<s>[INST] Antworte kurz.\n\nWo liegt Ulm? [/INST] An der Donau.</s>[INST] Und Köln? [/INST]",
    }
    assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == expected[architecture]


def test_an_answer_in_the_template_ends_with_the_token_that_ends_generation(trained) -> None:
    _, tokenizer = trained
    written = tokenizer.apply_chat_template(CHAT[:3], tokenize=False).rstrip()
    assert tokenizer(written, add_special_tokens=False).input_ids[-1] == tokenizer.eos_token_id


def test_special_tokens_are_single_tokens_and_come_first(trained) -> None:
    architecture, tokenizer = trained
    special = SPECIAL_TOKENS[architecture].all
    assert tokenizer.convert_tokens_to_ids(special) == list(range(len(special)))


def test_the_saved_folder_loads_as_the_very_same_tokenizer(trained, tmp_path) -> None:
    """transformers rebuilds some tokenizers by the model's type instead of reading how tokenizer.json splits words."""
    import json

    architecture, tokenizer = trained
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture}))
    texts = [*CORPUS, "Größe 12,5 cm\n\n\tüber 'Nacht'  don't [INST] <s> e\u0301"]
    assert load_tokenizer(tmp_path)(texts).input_ids == tokenizer(texts).input_ids


def test_any_text_is_encoded_without_loss(trained) -> None:
    _, tokenizer = trained
    text = "Ünïcødé 漢字 🫀\n\n  zwei"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_two_trainings_give_the_same_tokenizer(trained) -> None:
    architecture, tokenizer = trained
    again = train_tokenizer(CORPUS, architecture, vocabulary_size=330, model_max_length=64)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()

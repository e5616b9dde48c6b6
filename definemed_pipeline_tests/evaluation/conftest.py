"""Micro models of both architectures, and a lake that holds the three stages of each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.generate import SCHEMA
from definemed_pipeline.evaluation.stages import STAGE_ASSETS, write_table
from definemed_pipeline.settings import setting, settings
from definemed_pipeline_tests.conftest import build_artifact

TEXT = [
    "Frage: Welches Organ ist bei Asthma betroffen? Antwort: Die Lunge ist betroffen.",
    "Frage: Womit behandelt man eine Migräne? Antwort: Mit Triptanen, sagt die Ärztin.",
    "Nenne eine Stadt am Meer. Hamburg liegt an der Elbe, Kiel liegt am Meer.",
]
TEMPLATE = (
    "{% if bos %}{{ bos }}{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REFERENCE = "Die Lunge ist bei Asthma betroffen."
FORMATS = {"kurz": '{"max_words": 6}'}  # instruction -> the form it asks for
Answers = dict[str, dict[str, dict[str, tuple[str, bool]]]]
Say = Callable[[Answers], list[Manifest]]
ARCHITECTURES = ("qwen2", "mistral")
QUESTIONS = [
    {"id": f"q{number:02}", "subject": "Organe", "question": f"Welches Organ betrifft Krankheit {number}?", "answer": number % 4,
     "choices": ["Die Lunge ist betroffen, sagt die Ärztin", "Das Herz", "Die Leber und die Galle", "Ei"]}
    for number in range(12)
]  # fmt: skip
INSTRUCTIONS = [
    {"id": f"i{number:02}", "kind": "Alltag", "instruction": "Nenne eine Stadt" + " am Meer" * (number % 5) + ".",
     "reference": "Kiel liegt am Meer."}
    for number in range(10)
]  # fmt: skip


@settings
class MicroModel:
    """Stands for the settings of a stage: what makes two micro models differ."""

    seed: int = setting(default=0)


def make_model(folder: Path, architecture: str, seed: int) -> None:
    """Write a randomly initialised model of a few thousand parameters with its tokenizer, chat template and end token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    has_bos = architecture == "mistral"
    if has_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if has_bos else None, eos_token="<|im_end|>", pad_token=None
    )
    fast.chat_template = TEMPLATE.replace("{% if bos %}{{ bos }}{% endif %}", "<s>" if has_bos else "")
    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(fast), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1,
        "bos_token_id": 0 if has_bos else None, "eos_token_id": 2,
    }  # fmt: skip
    model = (
        MistralForCausalLM(MistralConfig(**shape))
        if has_bos
        else Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True))
    )
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def micro_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Return the folder of a micro model by architecture and seed, made once."""
    root = tmp_path_factory.mktemp("models")

    def folder(architecture: str, seed: int = 0) -> Path:
        place = root / f"{architecture}-{seed}"
        if not place.exists():
            make_model(place, architecture, seed)
        return place

    return folder


@pytest.fixture
def stages(store: Store, micro_models: Callable[[str, int], Path]) -> Callable[[str], list[Manifest]]:
    """Put the three stages of a base model, named as its architecture, into the lake."""

    def put(architecture: str) -> list[Manifest]:
        def copy(draft: Draft[MicroModel]) -> None:
            shutil.copytree(micro_models(architecture, draft.settings.seed), draft.folder / "model")

        return [
            build_artifact(store, asset, copy, MicroModel(seed=seed), partition=architecture)
            for seed, asset in enumerate(STAGE_ASSETS.values())
        ]

    return put


@pytest.fixture
def questions_file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "questions.jsonl", QUESTIONS)


@pytest.fixture
def instructions_file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "instructions.jsonl", INSTRUCTIONS)


@pytest.fixture
def say(store: Store) -> Say:
    """Put responses into the lake that say what the test wants: base model -> stage -> instruction -> (response, is ended)."""

    def put(answers: Answers) -> list[Manifest]:
        def write(draft: Draft[MicroModel]) -> None:
            import pyarrow as pa

            rows = [
                {
                    "base_model": draft.identity.partition,
                    "stage": stage,
                    "instruction_set": "fragen",
                    "instruction_id": instruction,
                    "kind": "Medizin",
                    "instruction": "Welches Organ ist bei Asthma betroffen?",
                    "reference": REFERENCE,
                    "format": FORMATS.get(instruction),
                    "response": response,
                    "tokens": len(response.split()),
                    "is_ended": is_ended,
                }
                for stage, said in answers[draft.identity.partition].items()
                for instruction, (response, is_ended) in said.items()
            ]
            write_table(pa.Table.from_pylist(rows, schema=SCHEMA), draft.folder / "responses.parquet")

        return [build_artifact(store, "responses", write, MicroModel(), partition=base_model) for base_model in answers]

    return put


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path

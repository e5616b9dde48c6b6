"""Payload that trains a small instruct model from scratch: tokenizer, general text and chats, weights.

It gives demo and tests base models that are real and need no download. What is trained on is the recipe's affair.
"""

import json
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM as CausalLM
from transformers import GenerationConfig, MistralConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import run_payload
from definemed_pipeline.training.batches import collate
from definemed_pipeline.training.blocks import PackedBlocks
from definemed_pipeline.training.checkpoints import Checkpoints
from definemed_pipeline.training.encoding import DocumentEncoder, Ids
from definemed_pipeline.training.packing import pack
from definemed_pipeline.training.settings import PretrainBaseModelSettings, TrainingExecutionSettings
from definemed_pipeline.training.telemetry import Pace, Telemetry
from definemed_pipeline.training.tokenizer import train_tokenizer
from definemed_pipeline.training.trainer import BlockSequence, Optimisation, prepare_process, train

Chat = list[dict[str, str]]


def pretrain(draft: Draft[PretrainBaseModelSettings]) -> None:
    """Train tokenizer and model and save them as `model/`. Raise UserError where texts or chats do not fit."""
    prepare_process()
    started, chosen = time.monotonic(), draft.settings
    texts = [str(row) for row in _read_rows(draft, "texts", "text")]
    chats: list[Chat] = list(_read_rows(draft, "chats", "messages"))
    if not texts or not chats:
        raise UserError(f"{chosen.chats if texts else chosen.texts} is empty; an instruct model needs both texts and chats")
    folder = draft.folder / model_folder.FOLDER
    tokenizer = train_tokenizer(
        texts + [message["content"] for chat in chats for message in chat],
        chosen.architecture,
        vocabulary_size=chosen.vocabulary_size,
        model_max_length=chosen.sequence_length,
    )
    tokenizer.save_pretrained(folder)
    blocks = _pack(_encode(texts, chats, tokenizer, folder, chosen.seed), tokenizer, draft)
    torch.manual_seed(chosen.seed)
    model = CausalLM.from_config(_config(chosen, tokenizer))
    sequence = BlockSequence(blocks, range(len(blocks)), items=chosen.steps * chosen.batch_size, seed=chosen.seed)
    trained = train(
        model,
        sequence,
        _optimisation(chosen),
        TrainingExecutionSettings(
            micro_batch_size=chosen.batch_size, activation_checkpointing="none", checkpoint_every=chosen.checkpoint_every
        ),
        checkpoints=Checkpoints(draft.checkpoints, mirror=None, kept=2, report=draft.report),
        telemetry=Telemetry(
            Pace(tokens_per_step=chosen.batch_size * chosen.sequence_length),
            rows=draft.checkpoints / "progress.jsonl",
            report=draft.report,
        ),
        collate=partial(collate, flattened=False),
    )
    _save(model, tokenizer, folder)
    draft.metrics.update(
        parameters=model_folder.count_parameters(folder),
        vocabulary_size=model_folder.vocabulary_size(folder),
        architecture=chosen.architecture,
        texts=len(texts),
        chats=len(chats),
        tokens=blocks.count["tokens"],
        steps=chosen.steps,
        trained_tokens=chosen.steps * chosen.batch_size * chosen.sequence_length,
        initial_loss=trained.log[0]["loss"],
        final_loss=trained.log[-1]["loss"],
        tokens_per_s=round(statistics.median(row["tokens_per_s"] for row in trained.speed)),
        seconds=round(time.monotonic() - started, 2),
    )


def _read_rows(draft: Draft[Any], source: str, key: str) -> Iterator[Any]:
    location = draft.source(source).location
    with open_source(location) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)[key]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{location}, line {number}: not a JSON object with {key!r}; correct or remove the line"
                ) from error


def _encode(
    texts: list[str], chats: list[Chat], tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int
) -> list[tuple[str, Ids]]:
    """Encode texts as documents and chats by the chat template, mixed in an order drawn from the seed."""
    documents = DocumentEncoder(folder).encode(texts)
    rendered = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    conversations = [np.array(ids, dtype=np.uint32) for ids in tokenizer(rendered, add_special_tokens=False)["input_ids"]]
    named = [(f"text {number}", ids) for number, ids in enumerate(documents)]
    named += [(f"chat {number}", ids) for number, ids in enumerate(conversations)]
    return [named[index] for index in np.random.default_rng(seed).permutation(len(named))]


def _pack(
    documents: list[tuple[str, Ids]], tokenizer: PreTrainedTokenizerFast, draft: Draft[PretrainBaseModelSettings]
) -> PackedBlocks:
    folder = draft.checkpoints / "blocks"  # beside the checkpoints, because it is no part of the artifact
    folder.mkdir(exist_ok=True)
    pack(
        [documents],
        folder,
        sequence_length=draft.settings.sequence_length,
        vocabulary_size=draft.settings.vocabulary_size,
        padding_id=tokenizer.pad_token_id,
    )
    return PackedBlocks(folder)


def _config(chosen: PretrainBaseModelSettings, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    kind = {"qwen2": Qwen2Config, "mistral": MistralConfig}[chosen.architecture]
    return kind(
        vocab_size=chosen.vocabulary_size,
        hidden_size=chosen.hidden_size,
        intermediate_size=chosen.intermediate_size,
        num_hidden_layers=chosen.layers,
        num_attention_heads=chosen.heads,
        num_key_value_heads=chosen.kv_heads,
        max_position_embeddings=chosen.sequence_length,
        tie_word_embeddings=chosen.tie_embeddings,
        initializer_range=chosen.hidden_size**-0.5,  # the usual 0.02 suits widths of thousands; small models learn slowly from it
        sliding_window=None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def _optimisation(chosen: PretrainBaseModelSettings) -> Optimisation:
    return Optimisation(
        steps=chosen.steps,
        global_batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        warmup_steps=chosen.warmup_steps,
        weight_decay=chosen.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,  # the custom of pre-training since GPT-3
        max_grad_norm=1.0,
        seed=chosen.seed,
    )


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)


if __name__ == "__main__":
    run_payload(PretrainBaseModelSettings, pretrain)

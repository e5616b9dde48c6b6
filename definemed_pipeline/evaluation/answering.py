"""Greedy answers of a chat model, in batches. Imports torch and transformers where they are used: import only in payloads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definemed_pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

SECONDS_BETWEEN_REPORTS = 5.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer. `tokens` counts the answer without its end token; `is_ended` is False where the limit cut it off."""

    text: str
    tokens: int
    is_ended: bool


def answer_instructions(
    model: Path,
    instructions: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
    report: Callable[[str], None],
) -> list[Answer]:
    """Answer each instruction as the first user turn of the model's chat template, greedily, in the order given.

    Prompts of like length share a batch and are padded on the left; padding is masked and positions start at the first real token,
    so an answer is that of the prompt alone. Sampling and penalties a model ships with are left aside: stages differ by their
    weights only. Raise UserError where there is no chat template or a prompt leaves no room for an answer.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")  # its class is known only from the files
    network.to(device).eval()
    ends = _end_tokens(network, tokenizer)
    network.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=ends[0]
    )
    prompts = [_prompt(tokenizer, instruction, model) for instruction in instructions]
    _refuse_too_long(prompts, instructions, max_new_tokens, network.config.max_position_embeddings)

    answers: dict[int, Answer] = {}
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    reported = time.monotonic()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        tokens, mask = _left_padded([prompts[index] for index in batch], pad=ends[0])
        with torch.inference_mode():
            generated = network.generate(input_ids=tokens.to(device), attention_mask=mask.to(device))
        for index, row in zip(batch, generated[:, tokens.shape[1] :].tolist(), strict=True):
            answers[index] = _answer(row, ends, tokenizer)
        if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            report(f"{len(answers)} of {len(prompts)} answered")
    return [answers[index] for index in range(len(prompts))]


def _end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end a turn: the tokenizer's end token first, then what the generation configuration adds."""
    configured = network.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    ends = [token for token in dict.fromkeys([tokenizer.eos_token_id, *configured]) if token is not None]
    if not ends:
        raise UserError(f"the model in {network.name_or_path} names no end token; set eos_token in its tokenizer")
    return ends


def _prompt(tokenizer: Any, instruction: str, model: Path) -> list[int]:
    if tokenizer.chat_template is None:
        raise UserError(f"the tokenizer in {model} has no chat template; responses need an instruction-tuned model")
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": instruction}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    tokens: list[int] = encoded["input_ids"]
    return tokens


def _refuse_too_long(prompts: Sequence[list[int]], instructions: Sequence[str], max_new_tokens: int, context: int) -> None:
    longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
    if len(prompts[longest]) + max_new_tokens > context:
        raise UserError(
            f"the instruction {instructions[longest][:60]!r} takes {len(prompts[longest])} tokens, which with max_new_tokens {max_new_tokens} "
            f"exceeds the model's context of {context}; lower max_new_tokens or shorten it"
        )


def _left_padded(prompts: Sequence[list[int]], *, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both of shape (prompts, longest)."""
    import torch

    longest = max(map(len, prompts))
    tokens = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return tokens, mask


def _answer(generated: list[int], ends: Sequence[int], tokenizer: Any) -> Answer:
    end = next((position for position, token in enumerate(generated) if token in ends), None)
    tokens = generated if end is None else generated[:end]
    text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Answer(text=text, tokens=len(tokens), is_ended=end is not None)

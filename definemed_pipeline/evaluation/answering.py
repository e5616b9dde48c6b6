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


class ChatModel:
    """A model that answers instructions greedily, each as the first user turn of its own chat template.

    Sampling and penalties that a model ships with are left aside, so that stages differ by their weights only. Raise UserError where the
    folder has no chat template or names no end token.
    """

    def __init__(self, folder: Path, *, max_new_tokens: int) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.max_new_tokens = max_new_tokens
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.chat_template is None:
            raise UserError(f"the tokenizer in {folder} has no chat template; responses need an instruction-tuned model")
        network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")  # its class is known only from the files
        self.network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.ends = _end_tokens(self.tokenizer, self.network.generation_config.eos_token_id, folder)
        self.network.generation_config = GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=self.ends, pad_token_id=self.ends[0]
        )

    def answer(self, instructions: Sequence[str], *, batch_size: int, report: Callable[[str], None]) -> list[Answer]:
        """Answer instructions in the order given. Raise UserError where one leaves no room for an answer.

        Prompts of like length share a batch and are padded on the left. Padding is masked and positions start at the first real
        token, so an answer is that of the prompt alone.
        """
        prompts = [self._prompt(instruction) for instruction in instructions]
        self._refuse_too_long(prompts, instructions)
        answers: dict[int, Answer] = {}
        order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
        reported = time.monotonic()
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            answers |= dict(zip(batch, self._answer_batch([prompts[index] for index in batch]), strict=True))
            if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                report(f"{len(answers)} of {len(prompts)} answered")
        return [answers[index] for index in range(len(prompts))]

    def _prompt(self, instruction: str) -> list[int]:
        encoded = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": instruction}], add_generation_prompt=True, tokenize=True, return_dict=True
        )
        tokens: list[int] = encoded["input_ids"]
        return tokens

    def _refuse_too_long(self, prompts: Sequence[list[int]], instructions: Sequence[str]) -> None:
        longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
        tokens, context = len(prompts[longest]), self.network.config.max_position_embeddings
        if tokens + self.max_new_tokens > context:
            raise UserError(
                f"the instruction {instructions[longest][:60]!r} takes {tokens} tokens, which with max_new_tokens {self.max_new_tokens} "
                f"exceeds the model's context of {context}; lower max_new_tokens or shorten it"
            )

    def _answer_batch(self, prompts: Sequence[list[int]]) -> list[Answer]:
        import torch

        tokens, mask = _left_padded(prompts, pad=self.ends[0])
        device = self.network.device
        with torch.inference_mode():
            generated = self.network.generate(input_ids=tokens.to(device), attention_mask=mask.to(device))
        return [self._read(row) for row in generated[:, tokens.shape[1] :].tolist()]

    def _read(self, generated: list[int]) -> Answer:
        end = next((position for position, token in enumerate(generated) if token in self.ends), None)
        tokens = generated if end is None else generated[:end]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return Answer(text=text, tokens=len(tokens), is_ended=end is not None)


def _end_tokens(tokenizer: Any, configured: int | list[int] | None, folder: Path) -> list[int]:
    """Return the tokens that end a turn: the tokenizer's end token first, then what the generation configuration adds."""
    configured = configured if isinstance(configured, list) else [configured] if configured is not None else []
    ends = [token for token in dict.fromkeys([tokenizer.eos_token_id, *configured]) if token is not None]
    if not ends:
        raise UserError(f"the model in {folder} names no end token; set eos_token in its tokenizer")
    return ends


def _left_padded(prompts: Sequence[list[int]], *, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, both of shape (prompts, longest)."""
    import torch

    longest = max(map(len, prompts))
    tokens = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return tokens, mask

"""Greedy answers of a chat model, in batches. Imports torch and transformers where they are used: import only in payloads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definemed_pipeline.chat import cache
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.kept_answers import CUT, ENDED, KeptAnswers

if TYPE_CHECKING:
    import torch

SECONDS_BETWEEN_REPORTS = 5.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer. `tokens` counts the answer without its end token (None: nobody says); `is_ended` is False where the limit cut it off."""

    text: str
    tokens: int | None
    is_ended: bool


class ChatModel:
    """A model that answers instructions greedily, each as the first user turn of its own chat template.

    Sampling and penalties that a model ships with are left aside, so that stages differ by their weights only. Raise UserError where the
    folder has no chat template or names no end token. The weights are loaded when the first answer is computed.
    """

    def __init__(self, folder: Path, *, max_new_tokens: int) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import torch
        from transformers import AutoConfig, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.folder = folder
        self.max_new_tokens = max_new_tokens
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.computed_tokens, self.computing_seconds = 0, 0.0  # of the answers that were not kept from before
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.chat_template is None:
            raise UserError(f"the tokenizer in {folder} has no chat template; responses need an instruction-tuned model")
        self.config: Any = AutoConfig.from_pretrained(folder)
        self.ends = _end_tokens(self.tokenizer, _configured_ends(folder, self.config), folder)

    @cached_property
    def network(self) -> Any:  # its class is known only from the files
        """Return the model with its weights, on the GPU where there is one."""
        from transformers import AutoModelForCausalLM, GenerationConfig

        network: Any = AutoModelForCausalLM.from_pretrained(self.folder, dtype="auto")
        network = network.to(self.device).eval()
        network.generation_config = GenerationConfig(
            do_sample=False, max_new_tokens=self.max_new_tokens, eos_token_id=self.ends, pad_token_id=self.ends[0]
        )
        return network

    def answer(
        self,
        instructions: Sequence[str],
        *,
        batch_size: int,
        report: Callable[[str], None],
        kept: KeptAnswers | None = None,
    ) -> list[Answer]:
        """Answer instructions in the order given. Raise UserError where one leaves no room for an answer.

        Prompts of like length share a batch and are padded on the left. Padding is masked and positions start at the first real
        token, so an answer is that of the prompt alone. Batches found in `kept` are not computed.
        """
        prompts = [self._prompt(instruction) for instruction in instructions]
        self._refuse_too_long(prompts, instructions)
        answers: dict[int, Answer] = {}
        order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
        reported = time.monotonic()
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            answers |= dict(zip(batch, self._answers([prompts[index] for index in batch], kept), strict=True))
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
        tokens, context = len(prompts[longest]), self.config.max_position_embeddings
        if tokens + self.max_new_tokens > context:
            raise UserError(
                f"the instruction {instructions[longest][:60]!r} takes {tokens} tokens, which with max_new_tokens {self.max_new_tokens} "
                f"exceeds the model's context of {context}; lower max_new_tokens or shorten it"
            )

    def _answers(self, prompts: Sequence[list[int]], kept: KeptAnswers | None) -> list[Answer]:
        found = None if kept is None else kept.get(prompts)
        if found is not None:
            return [Answer(text=one.text, tokens=one.completion_tokens, is_ended=one.finish_reason == ENDED) for one in found]
        answers = self._answer_batch(prompts)
        if kept is not None:
            kept.put(
                prompts,
                [
                    cache.Answer(
                        text=one.text,
                        prompt_tokens=len(prompt),
                        completion_tokens=one.tokens or 0,
                        finish_reason=ENDED if one.is_ended else CUT,
                    )
                    for prompt, one in zip(prompts, answers, strict=True)
                ],
            )
        return answers

    def _answer_batch(self, prompts: Sequence[list[int]]) -> list[Answer]:
        import torch

        tokens, mask = _left_padded(prompts, pad=self.ends[0])
        network, started = self.network, time.monotonic()
        with torch.inference_mode():
            generated = network.generate(input_ids=tokens.to(self.device), attention_mask=mask.to(self.device))
        answers = [self._read(row) for row in generated[:, tokens.shape[1] :].tolist()]
        self.computing_seconds += time.monotonic() - started
        self.computed_tokens += sum(answer.tokens or 0 for answer in answers)
        return answers

    def _read(self, generated: list[int]) -> Answer:
        end = next((position for position, token in enumerate(generated) if token in self.ends), None)
        tokens = generated if end is None else generated[:end]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return Answer(text=text, tokens=len(tokens), is_ended=end is not None)


def _configured_ends(folder: Path, config: Any) -> int | list[int] | None:
    """Return the end tokens of the model's generation configuration, which a folder may leave to the model's own."""
    from transformers import GenerationConfig

    file = folder / "generation_config.json"
    found = GenerationConfig.from_pretrained(folder) if file.exists() else GenerationConfig.from_model_config(config)
    ends: int | list[int] | None = found.eos_token_id
    return ends


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

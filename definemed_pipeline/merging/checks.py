"""What must hold of every merge, measured on the finished model folder as its user would find it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from definemed_pipeline import model_folder

QUESTION = [{"role": "user", "content": "1 + 1 = ?"}]
ANSWER_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Soundness:
    """Properties of a merged model beside those its base has.

    `is_tied`: input and output embeddings are one tensor exactly where the configuration says so. `has_base_template`: a conversation is
    written as the base writes it. `answer` is what the model greedily answers to QUESTION, cut after ANSWER_TOKENS; `answer_tokens` is 0 where
    it gives no next token, or one that follows from values that are no numbers.
    """

    parameters: int
    vocabulary_size: int
    is_tied: bool
    has_base_template: bool
    answer_tokens: int
    answer: str


def measure_soundness(merged: Path, base: Path) -> Soundness:
    """Load a merged model without a model's own code and measure it."""
    model: Any = model_folder.load_model(merged)
    tokenizer, written = model_folder.load_tokenizer(merged), _written(merged)
    is_one = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    prompt = tokenizer(written, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        is_finite = bool(torch.isfinite(model(prompt).logits).all())
        answer = model.generate(prompt, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0, prompt.shape[1] :] if is_finite else []
    return Soundness(
        parameters=model_folder.count_parameters(merged),
        vocabulary_size=model_folder.vocabulary_size(merged),
        is_tied=is_one == model.config.tie_word_embeddings,
        has_base_template=written == _written(base),
        answer_tokens=len(answer),
        answer=str(tokenizer.decode(answer, skip_special_tokens=True)),
    )


def _written(folder: Path) -> str:
    """Write QUESTION by a model's chat template."""
    return str(model_folder.load_tokenizer(folder).apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False))

"""Greedy answers of models behind an OpenAI-compatible endpoint: one conversation per instruction, each paid for once."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from definemed_pipeline.chat import cache
from definemed_pipeline.chat.client import ChatClient
from definemed_pipeline.chat.progress import Progress
from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.evaluation.answering import Answer


def endpoint_of(endpoint: ChatEndpointSettings, *, base_model: str, stage: str) -> ChatEndpointSettings:
    """Return the endpoint with the names of one model put in."""
    named = {
        field: getattr(endpoint, field).replace("{base_model}", base_model).replace("{stage}", stage)
        for field in ("model", "base_url")
    }
    return dataclasses.replace(endpoint, **named)


def answer_by_endpoint(
    endpoint: ChatEndpointSettings,
    instructions: Sequence[str],
    *,
    model_version: str,
    max_tokens: int,
    cache_folder: Path,
    report: Callable[[str], None],
) -> tuple[list[Answer], dict[str, float]]:
    """Answer instructions in the order given; return the answers and the accounting of the client.

    Answers are kept by the version of the weights, the prompt and the sampling. `tokens` is None where the endpoint does not say.
    """
    answers = []
    with ChatClient(endpoint, cache_folder, model_version=model_version) as client:
        progress = Progress(client, report, of="instructions")
        conversations = ([{"role": "user", "content": instruction}] for instruction in instructions)
        with contextlib.closing(client.answers(conversations, temperature=0.0, max_tokens=max_tokens)) as answered:
            for answer in answered:
                answers.append(_read(answer, max_tokens))
                progress.count()
        return answers, {**dataclasses.asdict(client.usage), **client.cost()}


def _read(answer: cache.Answer, max_tokens: int) -> Answer:
    """Take the endpoint's word for why an answer ended; where it gives none, an answer of all the tokens allowed was cut off."""
    is_cut = answer.finish_reason == "length" or (not answer.finish_reason and answer.completion_tokens >= max_tokens)
    return Answer(text=answer.text.strip(), tokens=answer.completion_tokens or None, is_ended=not is_cut)

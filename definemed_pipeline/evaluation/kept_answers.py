"""Answers of local models that were computed before, kept outside the artifact: a killed or forced evaluation computes none of them twice.

What is kept is a whole batch. In other company an answer may differ by rounding, so a batch of which one prompt has changed is
computed anew, and the bytes of the responses never depend on what was interrupted when.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from definemed_pipeline.chat.cache import Answer, AnswerCache
from definemed_pipeline.settings import digest_of

ENDED, CUT = "stop", "length"


class KeptAnswers:
    """Batches of answers of one model; a context manager. `made_by` is whatever else the answers depend on: weights, code, limits, device."""

    def __init__(self, folder: Path, made_by: Mapping[str, Any]) -> None:
        self._made_by = dict(made_by)
        self._cache = AnswerCache(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cache.close()

    def get(self, prompts: Sequence[Sequence[int]]) -> list[Answer] | None:
        """Return the answers to a batch of prompts, in order, or None where any is missing."""
        found = [self._cache.get(key) for key in self._keys(prompts)]
        kept = [answer for answer in found if answer is not None]
        return kept if len(kept) == len(found) else None

    def put(self, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> None:
        """Keep the answers to a batch of prompts."""
        for key, answer in zip(self._keys(prompts), answers, strict=True):
            self._cache.put(key, answer)

    def _keys(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        batch = digest_of({**self._made_by, "prompts": [list(prompt) for prompt in prompts]})
        return [digest_of({"batch": batch, "position": position}) for position in range(len(prompts))]

"""Verdicts in the answers of chat models: how an endpoint is asked for one, and how it is found in what comes back.

A verdict counts where the model commits itself: as the value of the verdict key, as the answer's first word (after a label such as
`Antwort:`), or alone on a line. A verdict's word inside a sentence does not ("das ist ja kein ..."), nor does an offer of several ("ja oder
nein"). The first verdict wins; what a reasoning model thinks aloud before it is passed over.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

ResponseFormat = Literal["text", "json_object", "json_schema"]
T = TypeVar("T")


def response_format(kind: ResponseFormat, properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what the endpoint is asked to hold an answer to: JSON with these properties in this order, where it supports that."""
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    schema = {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


class VerdictReader(Generic[T]):
    """Reads an answer's first verdict in the words that stand for it; None where it holds none. Case does not count."""

    def __init__(self, key: str, words: Mapping[T, Sequence[str]]) -> None:
        # Compared in folded case on both sides: under IGNORECASE a dotless i would match and then be taken for the other verdict.
        self._verdicts = {word.casefold(): verdict for verdict, given in words.items() for word in given}
        either = "|".join(map(re.escape, sorted(self._verdicts, key=len, reverse=True)))
        word = rf"({either})(?!\w)"
        # "ja/nein", "ja oder nein": an offer, or a contradiction.
        alone = rf"{word}(?!\s*[/|,.]?\s*(?:\w+\s+)?(?:{either})(?!\w))"
        key = re.escape(key.casefold())
        # Between lines only \A may skip blanks: an answer of a million empty lines shall be read in linear time.
        self._verdict = re.compile(
            rf"""(?:^|[{{,"'*])[ \t]*{key}["'*]*[ \t]*[:=][ \t]*["'*]*{alone}"""
            rf"""|\A\W*(?:\w+[ \t]*:\W*)?{alone}"""
            rf"""|^[^\w\n]*{word}[^\w\n]*$""",
            re.MULTILINE,
        )

    def __call__(self, answer: str) -> T | None:
        """Return the verdict of an answer."""
        found = self._verdict.search(spoken(answer).casefold())
        return None if found is None else self._verdicts[found[1] or found[2] or found[3]]


def spoken(answer: str) -> str:
    """Return an answer without what a reasoning model thinks aloud."""
    return re.sub(r"<think>.*?(?:</think>|\Z)", "", answer, flags=re.DOTALL | re.IGNORECASE)

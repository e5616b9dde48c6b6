"""The recipe's section for an annotator that asks a chat model."""

from typing import Literal

from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.settings import setting, settings


@settings
class ChatAnnotator:
    """Label by asking a chat model about each document, zero-shot; see `chat_annotator.py` for how its answer is read.

    The prompt is a Jinja template over `text`, the document's first `max_characters`. The prompt and the verdicts are in one
    language; whoever replaces the one replaces the other.
    """

    kind: Literal["chat"] = "chat"
    endpoint: ChatEndpointSettings
    prompt: str = setting(
        default="medical_or_not.de", location=True
    )  # the name of a packaged prompt, or the path or URL of another
    max_characters: int = setting(default=4_000, at_least=1)
    temperature: float = setting(default=0.0, at_least=0, at_most=2)
    max_tokens: int = setting(default=32, at_least=1)
    # What the endpoint is asked to hold the answer to, where it supports that; an answer is read in the same tolerant way.
    response_format: Literal["text", "json_object", "json_schema"] = "text"
    verdict_key: str = "medizinisch"  # of the JSON object that the prompt asks for
    positive_verdicts: tuple[str, ...] = ("true", "ja")
    negative_verdicts: tuple[str, ...] = ("false", "nein")

    def __post_init__(self) -> None:
        positive, negative = (
            {verdict.casefold() for verdict in each} for each in (self.positive_verdicts, self.negative_verdicts)
        )
        if not positive or not negative or positive & negative or not all(positive | negative):
            raise ValueError("positive_verdicts and negative_verdicts: allowed are one or more words each, none in both")

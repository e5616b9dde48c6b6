"""The recipe's section for win rates: who is compared with whom, and who judges."""

from typing import Annotated, Literal

from pydantic import Field

from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.chat.verdicts import ResponseFormat
from definemed_pipeline.evaluation.benchmarks.settings import Stage
from definemed_pipeline.evaluation.settings import ReferenceJudgeSettings
from definemed_pipeline.settings import setting, settings


@settings
class ChatJudgeSettings:
    """Judge by asking a chat model, which sees both answers in both orders; see `chat_judge.py` for how its verdict is read.

    The rubric is a Jinja template over `instruction`, `reference`, `first` and `second`. Rubric and verdicts are in one language; whoever
    replaces the one replaces the other. Of the verdicts of each kind the first is the one that a JSON schema allows.
    """

    kind: Literal["chat"] = "chat"
    endpoint: ChatEndpointSettings
    rubric: str = setting(default="pairwise.de", location=True)  # the name of a packaged rubric, or the path or URL of another
    temperature: float = setting(default=0.0, at_least=0, at_most=2)
    max_tokens: int = setting(default=400, at_least=1)
    response_format: ResponseFormat = "json_schema"
    reason_key: str = "begruendung"  # of the JSON object that the rubric asks for; written before the verdict
    verdict_key: str = "urteil"
    first_verdicts: tuple[str, ...] = ("A", "Antwort A")
    second_verdicts: tuple[str, ...] = ("B", "Antwort B")
    tie_verdicts: tuple[str, ...] = ("unentschieden", "gleich gut", "gleichwertig")

    def __post_init__(self) -> None:
        given = [word.casefold() for words in (self.first_verdicts, self.second_verdicts, self.tie_verdicts) for word in words]
        if not (self.first_verdicts and self.second_verdicts and self.tie_verdicts and all(given)) or len(set(given)) < len(
            given
        ):
            raise ValueError(
                "first_verdicts, second_verdicts, tie_verdicts: allowed are one or more words each, none in two of them"
            )


@settings
class WinRatesSettings:
    """Whom every model is compared with, who judges, and how people voted, where they did.

    `human_votes` is a file of JSON Lines {instruction_set, instruction_id, response, opponent_response, vote: win, tie or loss}.
    """

    opponent_base_model: str
    opponent_stage: Stage = "base"
    judge: Annotated[ReferenceJudgeSettings | ChatJudgeSettings, Field(discriminator="kind")] = setting(
        factory=ReferenceJudgeSettings
    )
    human_votes: str | None = setting(default=None, location=True)
    resamples: int = setting(default=10_000, at_least=100)
    seed: int = setting(default=0, at_least=0)

"""The recipe's sections for evaluation: responses, win rates, model cards; those of benchmarks and failure modes are in rooms of their own.

Languages, prompts and fields of knowledge are values here and nowhere in the code.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.settings import setting, settings


@settings
class InstructionSetSettings:
    """One set of instructions: the name of a packaged one, or a file (JSON Lines: id, kind, instruction, reference, and `format` or none).

    `validation_share` of them is kept for choosing and answered by no reported model (see `splits.py`).
    """

    instructions: str = setting(location=True)
    validation_share: float = setting(default=0.0, at_least=0, at_most=1)


@settings
class TransformersGenerator:
    """Answer with the weights in the lake, in batches, by transformers."""

    kind: Literal["transformers"] = "transformers"
    batch_size: int = setting(default=16, at_least=1)


@settings
class ChatGenerator:
    """Answer through an endpoint that serves the models of the lake (vLLM, ...).

    In the endpoint's `model` and `base_url`, `{base_model}` and `{stage}` (base, cpt or merged) stand for the model that is to answer. Nobody can
    ask an endpoint which weights it serves: that they are the lake's is the word of whoever started it.
    """

    kind: Literal["chat"] = "chat"
    endpoint: ChatEndpointSettings

    def __post_init__(self) -> None:
        named = self.endpoint.model + self.endpoint.base_url
        if "{base_model}" not in named or "{stage}" not in named:
            raise ValueError(
                f"endpoint.model is {self.endpoint.model!r}; allowed: names with {{base_model}} and {{stage}} in them, here or in base_url, "
                "or one model would answer for all"
            )


@settings
class ResponsesSettings:
    """How the models answer: greedily, each instruction as one user turn of the model's own chat template."""

    instruction_sets: dict[str, InstructionSetSettings]
    generator: Annotated[TransformersGenerator | ChatGenerator, Field(discriminator="kind")] = setting(
        factory=TransformersGenerator
    )
    max_new_tokens: int = setting(default=512, at_least=1)

    def __post_init__(self) -> None:
        if not self.instruction_sets:
            raise ValueError("instruction_sets is empty; allowed: one or more")

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "ResponsesSettings":
        """Build the settings from a payload's JSON."""
        sets = {name: InstructionSetSettings(**value) for name, value in section["instruction_sets"].items()}
        return cls(**{**section, "instruction_sets": sets, "generator": _generator(section["generator"])})

    def sources(self) -> dict[str, str]:
        """Return the files of instructions, by the names under which a draft finds them."""
        from definemed_pipeline.artifacts.sources import packaged_location

        return {
            f"instructions/{name}": packaged_location("instructions", one.instructions, "instructions", suffix=".jsonl")
            for name, one in self.instruction_sets.items()
        }


def _generator(section: Mapping[str, Any]) -> TransformersGenerator | ChatGenerator:
    if section["kind"] == "chat":
        return ChatGenerator(endpoint=ChatEndpointSettings(**section["endpoint"]))
    return TransformersGenerator(**section)


@settings
class ReferenceJudgeSettings:
    """The offline judge, which compares a response with the reference answer (see `judge.py`).

    `unended_factor` multiplies the quality of a response that was cut off; two responses whose qualities differ by no more than
    `tie_margin` are tied.
    """

    kind: Literal["reference"] = "reference"
    tie_margin: float = setting(default=0.05, at_least=0, at_most=1)
    unended_factor: float = setting(default=0.5, at_least=0, at_most=1)


@settings
class ModelCardsSettings:
    """What a model card says that was not measured.

    `name` is the published name of a merged model, with `{base_model}` where the base model's name goes; `languages` are ISO 639-1 codes;
    `licenses` maps base models to the Hub's identifiers of their licences.
    """

    name: str
    languages: tuple[str, ...]
    field: str
    intended_use: str
    limits: tuple[str, ...]
    tags: tuple[str, ...] = ()
    licenses: dict[str, str] = setting(factory=dict)

    def __post_init__(self) -> None:
        if "{base_model}" not in self.name:
            raise ValueError(f"name is {self.name!r}; allowed: a text with {{base_model}} in it")

"""Whether a judge is kin to a contestant: judges prefer answers of their own family, so a reader must be told.

Two models are kin where their names hold words of the same family, such as Mixtral and Mistral-7B; a distilled model that names two families
is kin to both. Names are all there is: of a model that hides its origin nothing is known.
"""

import re
from collections.abc import Iterable, Mapping

# What the models of one house or one lineage are called.
FAMILIES: dict[str, tuple[str, ...]] = {
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral", "mathstral", "biomistral"),
    "qwen": ("qwen", "qwq", "qvq"),
    "llama": ("llama", "vicuna", "alpaca"),
    "gemma": ("gemma", "gemini"),
    "gpt": ("gpt", "chatgpt", "openai"),
    "claude": ("claude",),
    "deepseek": ("deepseek",),
    "phi": ("phi",),
    "command": ("command", "aya", "cohere"),
    "falcon": ("falcon",),
    "yi": ("yi",),
    "glm": ("glm", "chatglm"),
    "teuken": ("teuken", "opengpt"),
    "apertus": ("apertus",),
}


def families(names: Iterable[str]) -> set[str]:
    """Return the families that a model's names (repository, architecture, name in the recipe) speak of."""
    words = {word for name in names for word in re.findall(r"[a-z]+", name.casefold())}
    return {family for family, members in FAMILIES.items() if any(_names(member, word) for member in members for word in words)}


def _names(member: str, word: str) -> bool:
    """Tell whether a word names a model: as it is, or with something attached where the name is long enough not to be part of another."""
    return word == member or (len(member) > 4 and word.startswith(member))


def kin_of(judge: str, contestants: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the contestants (with their names) of which the judge is kin, sorted."""
    own = families([judge])
    return sorted(name for name, names in contestants.items() if own & families([name, *names]))

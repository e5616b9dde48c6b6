"""Whether a model card is complete: read as the Hub reads it, with everything that a user of the weights must be told."""

import math
import re

from huggingface_hub import ModelCard

SECTIONS = (
    "Intended use",
    "Limits",
    "Licence",
    "Accuracy",
    "Win rates",
    "Failure modes",
    "What the measurements show",
    "Training data",
    "Merge",
    "Origin",
)
FIELDS = ("language", "license", "base_model", "library_name", "pipeline_tag", "tags", "model_name")


def gaps_of(card: str) -> list[str]:
    """Return what a card lacks, as sentences; none where it is complete.

    It needs front matter that the Hub's client reads, with language, licence, base model and results; every section with a text; the version of the
    corpus; and no number that is none.
    """
    try:
        read = ModelCard(card)
        data = read.data
    except Exception as error:  # of YAML, of types and of values, as the client raises them
        return [f"the front matter cannot be read: {' '.join(str(error).split())}"]
    found = [f"the front matter has no {name}" for name in FIELDS if not getattr(data, name, None)]
    results = getattr(data, "eval_results", None) or []
    if not results:
        found.append("the front matter has no results")
    found += [f"the result on {one.dataset_name} is no number" for one in results if not _is_number(one.metric_value)]
    bodies = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", read.text, re.MULTILINE | re.DOTALL))
    found += [f"the section {name} is empty" for name in SECTIONS if not bodies.get(name, "").strip()]
    if not re.search(r"corpus version `[0-9a-f]+`", bodies.get("Training data", "")):
        found.append("the version of the corpus is not named")
    found += [
        f"{number!r} stands where a number should" for number in sorted(set(re.findall(r"\b(?:nan|inf|None)\b", read.text)))
    ]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

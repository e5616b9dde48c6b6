"""The merged models: how each was merged, under which licence its base stands, what it is not for."""

from collections.abc import Sequence
from dataclasses import dataclass

from definemed_pipeline.evaluation.report.tracing import TracedFiles, TracedText


@dataclass(frozen=True, kw_only=True)
class MergedModel:
    """One merged model. `recipe` is mergekit's configuration; `license` is None where nobody named it."""

    base_model: str
    recipe: TracedText
    license: TracedText | None
    limits: Sequence[TracedText]


def read_models(files: TracedFiles, base_models: Sequence[str]) -> list[MergedModel]:
    """Read what the models' cards say of them."""
    cards = {name: files.manifest("model_cards", name)["identity"]["settings"] for name in base_models}
    return [
        MergedModel(
            base_model=name,
            recipe=files.text("merged_models", "merge.yaml", name),
            license=card["licenses"].get(name),
            limits=card["limits"],
        )
        for name, card in cards.items()
    ]

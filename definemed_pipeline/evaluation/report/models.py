"""The merged models: what they are called, how they were merged, under which licence their base stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from definemed_pipeline.evaluation.report.tracing import Traced, TracedFiles, TracedText


@dataclass(frozen=True, kw_only=True)
class MergedModel:
    """One merged model."""

    base_model: str
    method: TracedText
    t: Traced
    license: TracedText | None


def read_models(files: TracedFiles, base_models: Sequence[str]) -> list[MergedModel]:
    """Read how each base model was merged."""
    found = []
    for name in base_models:
        settings = files.manifest("merged_models", name)["identity"]["settings"]
        found.append(
            MergedModel(
                base_model=name,
                method=settings["method"],
                t=settings["t"],
                license=files.manifest("model_cards", name)["identity"]["settings"]["licenses"].get(name),
            )
        )
    return found

"""Payload for base models that exist already: fetched from the Hub at a pinned revision, or copied from a folder.

Training one from scratch is `pretrain`'s work. Needs no torch: files are fetched and checked, not loaded.
"""

import time

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.existing_models import ExistingModelSettings, fetch_model, parse_existing_model
from definemed_pipeline.payload import run_payload


def provide_base_model(draft: Draft[ExistingModelSettings]) -> None:
    """Put a model's files into the artifact's `model/`, safetensors and tokenizer files only; refuse what would need remote code."""
    started, target = time.monotonic(), draft.folder / model_folder.FOLDER
    fetch_model(draft.settings, draft.identity.sources, target, cache=draft.checkpoints / "download", report=draft.report)
    draft.metrics.update(
        parameters=model_folder.count_parameters(target),
        vocabulary_size=model_folder.vocabulary_size(target),
        architecture=model_folder.read_json(target / "config.json")["model_type"],
        seconds=round(time.monotonic() - started, 2),
    )


if __name__ == "__main__":
    run_payload(ExistingModelSettings, provide_base_model, parse=parse_existing_model)  # type: ignore[arg-type]

"""The models that a merge takes in beside the base and its CPT checkpoint, fetched into a payload's checkpoints."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.existing_models import ExistingModelSettings, fetch_model


def fetch_other_models(draft: Draft[Any], others: Mapping[str, ExistingModelSettings]) -> dict[str, Path]:
    """Return the folder of each model by its name; what a killed try has fetched is not fetched again.

    The files of models in folders are the draft's sources `others/<name>/…`.
    """
    return {name: _fetch(draft, name, model) for name, model in others.items()}


def _fetch(draft: Draft[Any], name: str, model: ExistingModelSettings) -> Path:
    place = draft.checkpoints / "others" / name
    folder, unfinished = place / model_folder.FOLDER, place / "unfinished"
    if not folder.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        files = [source for source in draft.identity.sources if source.name.startswith(f"others/{name}/")]
        fetch_model(model, files, unfinished, cache=place / "download", report=draft.report)
        unfinished.rename(folder)
    return folder

"""Payload for base models that exist already: fetched from the Hub at a pinned revision, or copied from a folder.

Training one from scratch is `pretrain`'s work. Needs no torch: files are fetched and checked, not loaded.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import run_payload
from definemed_pipeline.training.settings import FolderBaseModelSettings, HubBaseModelSettings


def provide_base_model(draft: Draft[HubBaseModelSettings | FolderBaseModelSettings]) -> None:
    """Put a model's files into the artifact's `model/`, safetensors and tokenizer files only; refuse what would need remote code."""
    started, target = time.monotonic(), draft.folder / model_folder.FOLDER
    if isinstance(draft.settings, HubBaseModelSettings):
        origin = f"{draft.settings.repository} at {draft.settings.revision[:8]}"
        _download(draft.settings, draft.checkpoints / "download", target)
    else:
        origin = draft.settings.path
        _copy(draft, target)
    model_folder.check_model_folder(target, origin=origin)
    draft.metrics.update(
        parameters=model_folder.count_parameters(target),
        vocabulary_size=model_folder.vocabulary_size(target),
        architecture=model_folder.read_json(target / "config.json")["model_type"],
        seconds=round(time.monotonic() - started, 2),
    )


def _download(wanted: HubBaseModelSettings, cache: Path, target: Path) -> None:
    """Download into `cache`, which survives a kill, so that a second try fetches only what is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot = snapshot_download(
            wanted.repository,
            revision=wanted.revision,
            cache_dir=cache,
            allow_patterns=list(model_folder.MODEL_FILES),
        )
    except (
        RepositoryNotFoundError,
        RevisionNotFoundError,
    ) as error:  # a network that fails is not among them: that may be retried
        raise UserError(
            f"the Hub shows no {wanted.repository} at {wanted.revision}; check both, and HF_TOKEN where the repository is gated"
        ) from error
    target.mkdir()
    for path in sorted(Path(snapshot).iterdir()):
        if model_folder.is_model_file(path.name):
            shutil.move(path.resolve(), target / path.name)  # the snapshot holds links into the cache


def _copy(draft: Draft[Any], target: Path) -> None:
    target.mkdir()
    for source in draft.identity.sources:
        draft.report(f"copying {source.location}")
        with open_source(source.location) as file, (draft.folder / source.name).open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)


def parse(section: Mapping[str, Any]) -> HubBaseModelSettings | FolderBaseModelSettings:
    """Build the settings whose `kind` the section names."""
    return HubBaseModelSettings(**section) if section["kind"] == "hub" else FolderBaseModelSettings(**section)


if __name__ == "__main__":
    run_payload(HubBaseModelSettings | FolderBaseModelSettings, provide_base_model, parse=parse)  # type: ignore[arg-type]

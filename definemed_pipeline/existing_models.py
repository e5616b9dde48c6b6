"""Models that exist already, on the Hugging Face Hub or in a folder: how a recipe names them and how their files are fetched.

Base models are, and so are models that take part in a merge. Needs no torch: files are fetched and checked, not loaded.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from definemed_pipeline import model_folder
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import setting, settings

if TYPE_CHECKING:
    from definemed_pipeline.artifacts.manifest import Source


@settings
class HubModelSettings:
    """An instruct model of the Hugging Face Hub. `revision` is a whole commit hash: a branch or tag may move."""

    kind: Literal["hub"]
    repository: str
    revision: str

    def __post_init__(self) -> None:
        if len(self.revision) != 40 or set(self.revision) - set("0123456789abcdef"):
            raise ValueError(f"revision is {self.revision!r}; allowed: a commit hash of 40 hexadecimal digits")

    @property
    def origin(self) -> str:
        """Return what an error calls the model."""
        return f"{self.repository} at {self.revision[:8]}"

    def sources(self) -> dict[str, str]:
        """Return nothing: the revision names the bytes."""
        return {}


@settings
class FolderModelSettings:
    """An instruct model in a folder (path or URL) laid out as `save_pretrained` does."""

    kind: Literal["folder"]
    path: str = setting(location=True)

    @property
    def origin(self) -> str:
        """Return what an error calls the model."""
        return self.path

    def sources(self) -> dict[str, str]:
        """Return the files of the model in that folder, by name; raise UserError where there are none."""
        return model_folder.list_model_files(self.path)


ExistingModelSettings: TypeAlias = HubModelSettings | FolderModelSettings


def parse_existing_model(section: Mapping[str, Any]) -> ExistingModelSettings:
    """Build the settings whose `kind` the section names. Raise ValueError for another kind."""
    kinds: dict[str, type[ExistingModelSettings]] = {"hub": HubModelSettings, "folder": FolderModelSettings}
    if section.get("kind") not in kinds:
        raise ValueError(f"kind is {section.get('kind')!r}; allowed: {', '.join(kinds)}")
    return kinds[section["kind"]](**section)


def fetch_model(
    model: ExistingModelSettings, files: "Iterable[Source]", target: Path, *, cache: Path, report: Callable[[str], None]
) -> None:
    """Put a model's safetensors and tokenizer files into the new folder `target`. Raise UserError where it is not whole or not safe to load.

    `files` are the sources of a model in a folder; what comes from the Hub is kept in `cache` until it is whole, so that a second try
    fetches only what is missing.
    """
    target.mkdir(parents=True)
    if isinstance(model, HubModelSettings):
        _download(model, cache, target)
    else:
        _copy(files, target, report)
    model_folder.check_model_folder(target, origin=model.origin)


def _download(model: HubModelSettings, cache: Path, target: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        snapshot = snapshot_download(
            model.repository,
            revision=model.revision,
            cache_dir=cache,
            allow_patterns=list(model_folder.MODEL_FILES),
        )
    except (
        RepositoryNotFoundError,
        RevisionNotFoundError,
    ) as error:  # a network that fails is not among them: that may be retried
        raise UserError(
            f"the Hub shows no {model.repository} at {model.revision}; check both, and HF_TOKEN where the repository is gated"
        ) from error
    for path in sorted(Path(snapshot).iterdir()):
        if model_folder.is_model_file(path.name):
            shutil.move(path.resolve(), target / path.name)  # the snapshot holds links into the cache


def _copy(files: "Iterable[Source]", target: Path, report: Callable[[str], None]) -> None:
    from definemed_pipeline.artifacts.sources import open_source

    for source in files:
        report(f"copying {source.location}")
        with open_source(source.location) as file, (target / PurePosixPath(source.name).name).open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)

"""The recipe section `source`, one class a kind. Only declarations belong here.

Nearly every field is a *location*: it says where bytes lie or how they are reached, never what they are. The version of a shard
follows from the digest of its file, so that another revision or another disk makes only those shards stale whose bytes differ.
"""

import re
from typing import Annotated, Literal

from pydantic import Field

from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.settings import setting, settings

COMMIT = re.compile(r"[0-9a-f]{40}")
ACCESS_VARIABLE, CACHE_VARIABLE = "DEFINEMED_HUB_ACCESS", "DEFINEMED_HUB_CACHE_GIB"


@settings
class ParquetSource:
    """FineWeb2-shaped parquet files that lie wherever fsspec reaches, one shard each."""

    kind: Literal["parquet"] = "parquet"
    files: tuple[str, ...] = setting(location=True)  # paths, globs or fsspec URLs

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files is empty; allowed: one or more paths, globs or URLs of parquet files")

    def sources(self) -> dict[str, str]:
        """Return the files beside its own that a shard is made with, by name: none."""
        return {}

    def environment(self) -> dict[str, str]:
        """Return what processes that read the shards must know beyond each file's location: nothing."""
        return {}


@settings
class Fineweb2Source:
    """One language of FineWeb2, or of a Hub dataset laid out like it: `data/<language>/<split>/*.parquet`.

    `revision` is a commit (40 hex digits), which is listed once ever, or a branch or tag, whose commit is looked up at each refresh.
    `access: download` keeps verified copies on local disk, at most `cache_gib` of them; `scan` reads ranges over HTTP and stores nothing.
    The token of a gated repository is read from HF_TOKEN and stands in no recipe.
    """

    kind: Literal["fineweb2"] = "fineweb2"
    repository: str = setting(default="HuggingFaceFW/fineweb-2", location=True)
    language: str = setting(location=True)  # as the folder is called: deu_Latn
    split: str = setting(default="train", location=True)
    revision: str = setting(location=True)
    access: Literal["download", "scan"] = setting(default="download", location=True)
    cache_gib: float = setting(default=100, above=0, location=True)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise ValueError(f"repository is {self.repository!r}; allowed: owner/name of a dataset on the Hub")
        for name in ("language", "split", "revision"):
            value = getattr(self, name)
            if not value or (name != "revision" and "/" in value):  # a branch may have slashes
                raise ValueError(f"{name} is {value!r}; allowed: a name{' without a slash' if value else ''}")

    @property
    def folder(self) -> str:
        """Return the folder of the shards within the repository."""
        return f"data/{self.language}/{self.split}"

    def sources(self) -> dict[str, str]:
        """Return the files beside its own that a shard is made with, by name: none."""
        return {}

    def environment(self) -> dict[str, str]:
        """Return how this recipe reads the Hub, for the processes that read shards: they know locations, not recipes."""
        return {ACCESS_VARIABLE: self.access, CACHE_VARIABLE: str(self.cache_gib)}


# The next kind is added here, to `listing` and, where its files are no parquet, to `register`.
SourceSettings = Annotated[ParquetSource | Fineweb2Source | HtmlSource, Field(discriminator="kind")]

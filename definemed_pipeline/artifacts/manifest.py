"""The manifest: one JSON file that says what an artifact is, what it was made from, and by which code.

It is written last, so its presence is what makes a directory an artifact, and it is complete without Dagster's database.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from definemed_pipeline.settings import digest_of

FORMAT = 1
UNPARTITIONED = "_"


@dataclass(frozen=True, kw_only=True)
class Input:
    """Another artifact this one was made from; `digest` is the digest of its files."""

    asset: str
    partition: str
    version: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file outside the lake this artifact was made from, for example the gold labels named in the recipe."""

    name: str
    location: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of an artifact; `rows` where the file has rows."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who made an artifact, when and with what; none of it enters the version."""

    created_at: str
    run_id: str
    code_commit: str
    environment_digest: str
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What an artifact is to be, known before it is built."""

    asset: str
    partition: str
    code_version: str
    settings: Mapping[str, Any]
    settings_digest: str
    inputs: tuple[Input, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def version(self) -> str:
        """Digest the code version, the recipe section and all inputs; equal identities have equal versions."""
        return digest_of(
            {
                "asset": self.asset,
                "partition": self.partition,
                "code_version": self.code_version,
                "settings": self.settings_digest,
                "inputs": sorted((i.asset, i.partition, i.digest) for i in self.inputs),
                "sources": sorted((s.name, s.digest) for s in self.sources),
            }
        )[:16]

    def source(self, name: str) -> Source:
        """Return the source of that name."""
        return next(source for source in self.sources if source.name == name)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Identity":
        """Rebuild an identity from its JSON form; raise TypeError or KeyError where it does not fit."""
        return cls(
            **{
                **data,
                "inputs": tuple(Input(**item) for item in data["inputs"]),
                "sources": tuple(Source(**item) for item in data["sources"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An artifact's record: identity, files, metrics and provenance."""

    identity: Identity
    version: str
    digest: str
    recipe: str
    files: tuple[File, ...]
    metrics: Mapping[str, Any]
    provenance: Provenance
    format: int = field(default=FORMAT)

    @property
    def asset(self) -> str:
        return self.identity.asset

    @property
    def partition(self) -> str:
        return self.identity.partition

    @property
    def rows(self) -> int:
        return sum(file.rows or 0 for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def as_input(self) -> Input:
        """Return the record by which a downstream artifact names this one."""
        return Input(asset=self.asset, partition=self.partition, version=self.version, digest=self.digest)

    def to_json(self) -> str:
        """Return the manifest as readable JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest back; raise ValueError where it was written by a newer format."""
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"manifest format {data['format']} is not {FORMAT}: it was written by another release")
        return cls(
            **{
                **data,
                "identity": Identity.from_json(data["identity"]),
                "files": tuple(File(**item) for item in data["files"]),
                "provenance": Provenance(**data["provenance"]),
            }
        )


def content_digest(files: tuple[File, ...]) -> str:
    """Digest the bytes of an artifact: the sorted paths and checksums of its files."""
    return digest_of(sorted((file.path, file.sha256) for file in files))

"""One row of the listing: a file of a source (of the `html` source also a folder), which becomes a shard."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import identify, identify_folder

SHARD = "shard"  # the name under which a shard's artifact has its file as a source
SUFFIXES = (".parquet", ".gz", ".zst", ".lz4", ".warc")


def stem(location: str) -> str:
    """Return what a file or folder is called: `000_00000` for `web/000_00000.parquet`, `klinik` for `crawls/klinik.warc.gz` or `crawls/klinik/`."""
    name = PurePosixPath(location.rstrip("/")).name
    while name.endswith(SUFFIXES):
        name = name.rpartition(".")[0]
    return name


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A listed file.

    `digest` identifies its content: the SHA-256 that the Hub records, the tag of an object store, else what reading it told; None where
    it was not read.
    `revision` is the commit at which it lies, None where it may be changed in place.
    """

    partition: str
    location: str
    bytes: int
    digest: str | None
    revision: str | None = None

    @classmethod
    def at(cls, location: str, *, bytes: int, digest: str | None, revision: str | None = None) -> "SourceFile":
        """Return the file at a location; its stem, such as `000_00000`, is the partition."""
        return cls(partition=stem(location), location=location, bytes=bytes, digest=digest, revision=revision)

    def identify(self, scratch: Path | None) -> Source:
        """Return the source that a shard is made from.

        A file at a commit is what the listing says, for ever. Any other is looked at again, since it may have been replaced after it
        was listed; what `scratch` remembers spares reading a local one that was not touched (see `artifacts.sources.identify`).
        """
        if self.revision is not None and self.digest is not None:
            return Source(name=SHARD, location=self.location, digest=self.digest)
        filesystem, path = fsspec.core.url_to_fs(self.location)
        return (identify_folder if filesystem.isdir(path) else identify)(SHARD, self.location, scratch=scratch)

"""One row of the listing: a file of a source, which becomes a shard."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import identify

SHARD = "shard"  # the name under which a shard's artifact has its file as a source


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A listed file.

    `digest` identifies its content: the SHA-256 that the Hub records, the tag of an object store, None where only reading it can tell.
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
        return cls(partition=PurePosixPath(location).stem, location=location, bytes=bytes, digest=digest, revision=revision)

    def identify(self, scratch: Path) -> Source:
        """Return the source that a shard is made from.

        A file at a commit is what the listing says, for ever. Any other is looked at again, since it may have been replaced after it
        was listed; what `scratch` remembers spares reading a local one that was not touched (see `artifacts.sources.identify`).
        """
        if self.revision is not None and self.digest is not None:
            return Source(name=SHARD, location=self.location, digest=self.digest)
        return identify(SHARD, self.location, scratch=scratch)

"""What the assets reach through Dagster's resources: the lake with the active recipe's artifacts."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import dagster as dg

from definemed_pipeline.artifacts.manifest import Manifest, Source
from definemed_pipeline.artifacts.sources import identify
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.sources.files import SourceFile
from definemed_pipeline.corpus.sources.listing import files_of, latest_listing, watched_listing
from definemed_pipeline.errors import UserError
from definemed_pipeline.recipe import active_recipe


@contextmanager
def final_failures() -> Iterator[None]:
    """Turn an error the user can cure into a Dagster failure that is not retried."""
    try:
        yield
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


class Lake(dg.ConfigurableResource):
    """The lake, as the active recipe sees it."""

    url: str

    @cached_property
    def store(self) -> Store:
        with final_failures():
            return Store(self.url)

    def artifact(self, asset: str, partition: str = "_") -> Manifest:
        """Return the recipe's artifact of an asset; fail with the cure where there is none yet."""
        with final_failures():
            return self.store.require(active_recipe().name, asset, partition)

    def latest(self, asset: str, partition: str = "_") -> Manifest | None:
        """Return the recipe's artifact of an asset, or None where there is none yet."""
        return self.store.latest(active_recipe().name, asset, partition)

    def artifacts(self, asset: str, partitions: Iterable[str]) -> list[Manifest]:
        """Return one artifact per partition, or fail naming all that are missing: Dagster itself would run with holes."""
        found = {partition: self.latest(asset, partition) for partition in partitions}
        missing = [partition for partition, manifest in found.items() if manifest is None]
        if missing:
            named = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            raise dg.Failure(
                f"{asset}: {len(missing)} of {len(found)} partitions are missing ({named}): materialize them first",
                allow_retries=False,
            )
        return [manifest for manifest in found.values() if manifest is not None]

    def shards(self, *, watching: bool = False) -> dict[str, SourceFile]:
        """Return partition key and file of the recipe's latest listing, made now where there is none.

        `watching` looks for new files, as often as the source's kind allows.
        """
        recipe = active_recipe()
        listing = watched_listing if watching else latest_listing
        with final_failures():
            return files_of(self.store, listing(self.store, recipe.name, recipe.source, run_id="discovery"))

    def sources(self, locations: Mapping[str, str | None]) -> list[Source]:
        """Identify the files named in the recipe by their bytes; names without a location are left out."""
        with final_failures():
            return [
                identify(name, location, scratch=self.store.scratch)
                for name, location in locations.items()
                if location is not None
            ]


def lake_from_environment() -> Lake:
    """Return the lake named by DEFINEMED_LAKE (a folder or an fsspec URL), or `lake/` in the working directory."""
    return Lake(url=os.environ.get("DEFINEMED_LAKE") or str(Path.cwd() / "lake"))

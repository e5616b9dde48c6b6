"""The listing: which files a recipe's source has, as an artifact of its own (asset `source_files`).

Listing a source again for every step would spend the Hub's quota (some 1,000 calls in 5 minutes) and could give two steps of one run
two answers. So a source is listed when somebody asks for a refresh, and everybody else reads the latest listing of the recipe.

Shards are never made from the listing, only from their own row of it: one new file would make all of them stale otherwise.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from definemed_pipeline.artifacts.build import Draft, build
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Identity, Manifest, Source
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.shards import ASSET as SHARDS
from definemed_pipeline.corpus.sources import hub
from definemed_pipeline.corpus.sources.files import SHARD, SourceFile
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.places import list_places
from definemed_pipeline.corpus.sources.settings import COMMIT, Fineweb2Source, ParquetSource
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import as_json, digest_of, section_digest

ASSET, CODE_VERSION = "source_files", "1"
TABLE = "files.parquet"
SCHEMA = {
    "partition": pl.String, "location": pl.String, "bytes": pl.Int64, "digest": pl.String, "revision": pl.String
}  # fmt: skip
READING = ("access", "cache_gib")  # how files are read has no part in which there are
LOG = logging.getLogger(__name__)
Report = Callable[[str], None]
AnySource = ParquetSource | Fineweb2Source | HtmlSource
Files = dict[str, SourceFile]


def list_source(source: AnySource, report: Report = LOG.info) -> Files:
    """Ask a source for its files, without reading any: partition -> file, sorted.

    Raise UserError where it has none or two would share a partition.
    """
    match source:
        case ParquetSource():
            return _by_partition(list_places(source.files))
        case HtmlSource():
            return _by_partition(list_places(source.files, folders=True))
        case Fineweb2Source():
            return _list_hub(source, _at_commit(source, report), report)


def refresh_listing(store: Store, recipe: str, source: AnySource, *, run_id: str, report: Report = LOG.info) -> Manifest:
    """List a source now and make that the recipe's latest listing; return it.

    A commit of the Hub is listed once ever, and a branch that did not move costs one request. There is nothing to force: the version
    says all that is in a listing, and others may be reading it. Raise UserError where the source cannot be listed.
    """
    listing, find = _look(source, store.scratch, report)
    identity = Identity(
        asset=ASSET,
        partition=UNPARTITIONED,
        code_version=CODE_VERSION,
        settings=as_json(source),
        settings_digest=section_digest(source),
        sources=(listing,),
    )

    def write(draft: Draft[Any]) -> None:
        files = find()
        write_parquet(pl.DataFrame([asdict(file) for file in files.values()], schema=SCHEMA), draft.folder / TABLE)
        draft.metrics |= {"files": len(files), "source_bytes": sum(file.bytes for file in files.values())}

    return build(store, identity, write, settings=source, recipe=recipe, run_id=run_id, report=report).manifest


def latest_listing(store: Store, recipe: str, source: AnySource, *, run_id: str) -> Manifest:
    """Return the recipe's latest listing of its source, or a new one where there is none."""
    latest = store.latest(recipe, ASSET)
    if latest is not None and _places(latest.identity.settings) == _places(as_json(source)):
        return latest
    return refresh_listing(store, recipe, source, run_id=run_id)


def watched_listing(store: Store, recipe: str, source: AnySource, *, run_id: str) -> Manifest:
    """Return the listing for somebody who asks every minute: a branch of the Hub is not asked for so often, other sources are."""
    listed = latest_listing if isinstance(source, Fineweb2Source) else refresh_listing
    return listed(store, recipe, source, run_id=run_id)


def files_of(store: Store, listing: Manifest) -> Files:
    """Read a listing: partition -> file, sorted."""
    rows = pl.read_parquet(store.folder(listing) / TABLE).iter_rows(named=True)
    return {row["partition"]: SourceFile(**row) for row in rows}


def changed_shards(store: Store, recipe: str, listing: Manifest) -> tuple[list[str], list[str]]:
    """Return the partitions of a listing that are not registered as shards, and those registered with other bytes, each sorted.

    Local files are read only where they were touched since they were registered (see `artifacts.sources.identify`).
    """
    new, changed = [], []
    for partition, file in files_of(store, listing).items():
        registered = store.latest(recipe, SHARDS, partition)
        if registered is None:
            new.append(partition)
        elif (file.digest or file.identify(store.scratch).digest) not in _digests(registered):
            changed.append(partition)
    return new, changed


def _digests(registered: Manifest) -> set[str]:
    return {source.digest for source in registered.identity.sources if source.name == SHARD}


def _places(settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in READING}


def _look(source: AnySource, scratch: Path, report: Report) -> tuple[Source, Callable[[], Files]]:
    """Return what identifies the listing of a source as it is now, and how its files are found.

    At a commit the place alone does, and nothing is asked yet. Elsewhere it is the files and their bytes; `scratch` remembers those of
    local ones that were not touched.
    """
    if isinstance(source, Fineweb2Source):
        folder = _at_commit(source, report)
        listing = Source(name="listing", location=folder.location, digest=digest_of([source.kind, folder.location]))
        return listing, lambda: _list_hub(source, folder, report)
    listed = list_source(source, report)
    found = {partition: replace(file, digest=file.identify(scratch).digest) for partition, file in listed.items()}
    location, identified_by = " ".join(source.files), [asdict(file) for file in found.values()]
    return Source(name="listing", location=location, digest=digest_of(identified_by)), lambda: found


def _at_commit(source: Fineweb2Source, report: Report) -> hub.HubPath:
    """Return the folder of a source's files at the commit its revision stands for now."""
    commit = source.revision
    if not COMMIT.fullmatch(commit):
        commit = hub.resolve_commit(source.repository, commit, report)
    return hub.HubPath(repository=source.repository, revision=commit, path=source.folder)


def _list_hub(source: Fineweb2Source, folder: hub.HubPath, report: Report) -> Files:
    if folder.revision == source.revision:  # nobody has asked yet: one request tells a wrong commit from a wrong folder
        hub.resolve_commit(source.repository, source.revision, report)
    found = [file for file in hub.list_files(folder, report) if file.path.endswith(".parquet")]
    if not found:
        raise UserError(f"{folder.location} holds no parquet file; correct source.language or source.split")
    return _by_partition(
        SourceFile.at(
            hub.HubPath(repository=folder.repository, revision=folder.revision, path=file.path).location,
            bytes=file.size,
            digest=hub.digest_of_file(file),
            revision=folder.revision,
        )
        for file in found
    )


def _by_partition(files: Iterable[SourceFile]) -> Files:
    found: Files = {}
    for file in files:
        first = found.setdefault(file.partition, file)
        if first.location != file.location:
            raise UserError(
                f"source.files: {first.location} and {file.location} would both be shard {file.partition!r}; "
                "rename one of them or leave it out"
            )
    return dict(sorted(found.items()))

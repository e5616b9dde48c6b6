"""Build an artifact once: reuse a complete one, otherwise work in scratch and publish.

The same few steps serve work done inside Dagster's process and payloads in a process or container of their own.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Identity, Manifest, Source, content_digest
from definemed_pipeline.artifacts.provenance import current_provenance
from definemed_pipeline.artifacts.store import Store, describe_files

S = TypeVar("S")
LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Draft(Generic[S]):
    """An artifact in the making: what a work function reads from and writes to.

    `folder` takes the files of the artifact. `checkpoints` survives a kill and is given to the next try of the same version;
    it is removed when the artifact is published. `execution` says how the work uses the machine it runs on; it is no part of the version.
    """

    store: Store
    identity: Identity
    settings: S
    folder: Path
    checkpoints: Path
    execution: Mapping[str, Any] = field(default_factory=dict)
    report: Callable[[str], None] = LOG.info
    metrics: dict[str, Any] = field(default_factory=dict)

    def input(self, asset: str, partition: str = UNPARTITIONED) -> Path:
        """Return the local folder of an input artifact."""
        return self.store.folder(self.input_manifest(asset, partition))

    def input_manifest(self, asset: str, partition: str = UNPARTITIONED) -> Manifest:
        """Return the manifest of an input artifact at the very version this draft was asked to build on."""
        wanted = next(i for i in self.identity.inputs if (i.asset, i.partition) == (asset, partition))
        manifest = self.store.manifest(wanted.asset, wanted.partition, wanted.version)
        if manifest is None or manifest.digest != wanted.digest:
            raise FileNotFoundError(f"input {asset}[{partition}] version {wanted.version} has left the lake {self.store.url}")
        return manifest

    def partitions(self, asset: str) -> list[str]:
        """Return the sorted partitions of an input asset."""
        return sorted(i.partition for i in self.identity.inputs if i.asset == asset)

    def source(self, name: str) -> Source:
        """Return the source of that name."""
        return self.identity.source(name)

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write a small JSON file into the artifact, the same bytes for the same value."""
        (self.folder / path).write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


@dataclass(frozen=True, kw_only=True)
class Built:
    """The outcome of `build`."""

    manifest: Manifest
    reused: bool
    seconds: float


def build(
    store: Store,
    identity: Identity,
    work: Callable[[Draft[S]], None],
    *,
    settings: S,
    recipe: str,
    run_id: str,
    force: bool = False,
    execution: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = LOG.info,
) -> Built:
    """Return the artifact of an identity, calling `work` only where it is not complete in the lake (or on `force`).

    Two processes asked for the same version on one machine build it once: the second waits and reuses.
    """
    started = time.monotonic()
    if not force and (manifest := reuse(store, identity, recipe)):
        return Built(manifest=manifest, reused=True, seconds=time.monotonic() - started)
    place = _place(store, identity)
    with store.writing():
        place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_suffix(".lock"), report):
        if not force and (manifest := reuse(store, identity, recipe)):
            return Built(manifest=manifest, reused=True, seconds=time.monotonic() - started)
        with store.writing():
            draft = _fresh_draft(store, identity, settings, place, execution=execution or {}, report=report)
            work(draft)
            manifest = _publish(draft, recipe, run_id)
        store.forget_checkpoints(identity)
        shutil.rmtree(place)
    return Built(manifest=manifest, reused=False, seconds=time.monotonic() - started)


def assist(
    store: Store,
    identity: Identity,
    work: Callable[[Draft[S]], None],
    *,
    settings: S,
    recipe: str,
    force: bool = False,
    execution: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = LOG.info,
) -> None:
    """Do this node's share of an artifact that the first node builds and publishes: the same work, whose files are thrown away.

    All nodes share one scratch folder, and with it the checkpoints; the first alone holds the lock.
    """
    if not force and reuse(store, identity, recipe):
        return
    checkpoints = _place(store, identity) / "checkpoints"
    with store.writing():
        checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as files:
        work(
            Draft(
                store=store,
                identity=identity,
                settings=settings,
                folder=Path(files),
                checkpoints=checkpoints,
                execution=execution or {},
                report=report,
            )
        )


def reuse(store: Store, identity: Identity, recipe: str) -> Manifest | None:
    """Return the complete artifact of an identity and make it the recipe's latest, or None."""
    manifest = store.manifest(identity.asset, identity.partition, identity.version)
    if manifest is not None:
        store.point(recipe, manifest)
    return manifest


def _place(store: Store, identity: Identity) -> Path:
    return store.scratch / "work" / identity.asset / identity.partition / identity.version


def _fresh_draft(
    store: Store,
    identity: Identity,
    settings: S,
    place: Path,
    *,
    execution: Mapping[str, Any],
    report: Callable[[str], None],
) -> Draft[S]:
    files, checkpoints = place / "files", place / "checkpoints"
    if files.exists():  # left by a try that was killed
        shutil.rmtree(files)
    files.mkdir(parents=True)
    checkpoints.mkdir(exist_ok=True)
    return Draft(
        store=store,
        identity=identity,
        settings=settings,
        folder=files,
        checkpoints=checkpoints,
        execution=execution,
        report=report,
    )


def _publish(draft: Draft[Any], recipe: str, run_id: str) -> Manifest:
    files = describe_files(draft.folder)
    manifest = Manifest(
        identity=draft.identity,
        version=draft.identity.version,
        digest=content_digest(files),
        recipe=recipe,
        files=files,
        metrics=draft.metrics,
        provenance=current_provenance(run_id),
    )
    draft.store.publish(draft.folder, manifest)
    draft.store.point(recipe, manifest)
    return manifest


def _locked(path: Path, report: Callable[[str], None]) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another process that is building {path.parent.parent.name}[{path.parent.name}]")
        lock.acquire()
    return lock

"""Build artifacts with the project's own machinery: what cascade.py, packing.py and score.py measure in."""

from collections.abc import Callable, Iterable
from typing import Any

from definemed_pipeline.artifacts.build import Draft, build
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Identity, Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.settings import as_json, section_digest

RECIPE = "benchmark"


def make(
    store: Store,
    asset: str,
    work: Callable[[Draft[Any]], None],
    section: Any,
    inputs: Iterable[Manifest] = (),
    *,
    partition: str = UNPARTITIONED,
    **how: Any,
) -> Manifest:
    """Build an artifact or take the one that is there; `how` is what `build` takes beside (force, report)."""
    identity = Identity(
        asset=asset,
        partition=partition,
        code_version="benchmark",
        settings=as_json(section),
        settings_digest=section_digest(section),
        inputs=tuple(manifest.as_input() for manifest in inputs),
    )
    return build(store, identity, work, settings=section, recipe=RECIPE, run_id="benchmark", **how).manifest

"""One index, made in one way: what the corpus demands of the artifacts of all shards before it gathers them.

An unpartitioned asset runs with whatever its partitions hold. Signatures of different settings or releases would never meet in a band, and
leaks of an older benchmark would let the newer one through, both without a word.
"""

import json
from collections import defaultdict
from typing import Any

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.corpus.assembly.benchmark_leaks import ASSET as LEAKS
from definemed_pipeline.corpus.assembly.medical_documents import ASSET as DOCUMENTS
from definemed_pipeline.errors import UserError

NAMED = 5


def check_uniform(draft: Draft[Any]) -> None:
    """Raise UserError, with what to materialize, where the shards' artifacts were not all made in one way."""
    names = draft.partitions(DOCUMENTS)
    documents = {name: draft.input_manifest(DOCUMENTS, name) for name in names}
    leaks = {name: draft.input_manifest(LEAKS, name) for name in names}
    _check(DOCUMENTS, "with other settings or libraries", {name: _way(one) for name, one in documents.items()})
    classifier = {i.digest for i in draft.identity.inputs if i.asset == "medical_classifier"}
    _check(
        "classifier_scores",
        "by another classifier",
        {name: read_counts(draft, name)["classifier"] for name in names},
        *classifier,
    )
    asked = sorted((source.name, source.digest) for source in draft.identity.sources)
    _check(LEAKS, "with other settings", {name: _way(one) for name, one in leaks.items()})
    searched = {name: sorted((source.name, source.digest) for source in one.identity.sources) for name, one in leaks.items()}
    _check(LEAKS, "for other questions", searched, asked)
    read = {name: next(i.digest for i in one.identity.inputs if i.asset == DOCUMENTS) for name, one in leaks.items()}
    outdated = [name for name in names if read[name] != documents[name].digest]
    _refuse(LEAKS, "from other documents", outdated)


def read_counts(draft: Draft[Any], shard: str) -> dict[str, Any]:
    """Return what a shard's segment says of itself: `documents`, `medical_documents`, `classifier`."""
    counts: dict[str, Any] = json.loads((draft.input(DOCUMENTS, shard) / "shard.json").read_text("utf-8"))
    return counts


def _way(manifest: Manifest) -> tuple[str, str]:
    return manifest.identity.code_version, manifest.identity.settings_digest


def _check(asset: str, how: str, ways: dict[str, Any], *wanted: Any) -> None:
    """Refuse the partitions that were made in another way than wanted (where nothing is: than most)."""
    by_way: dict[str, list[str]] = defaultdict(list)
    for name, way in ways.items():
        by_way[repr(way)].append(name)
    right = repr(wanted[0]) if wanted else max(by_way, key=lambda way: (len(by_way[way]), way), default="")
    _refuse(asset, how, sorted(name for way, names in by_way.items() if way != right for name in names))


def _refuse(asset: str, how: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
        raise UserError(
            f"{asset}: {len(names)} shards ({shown}) were made {how} than the corpus needs: materialize {asset} of them again"
        )

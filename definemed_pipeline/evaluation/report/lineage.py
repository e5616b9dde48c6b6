"""Where the page came from: the tree of artifacts behind it, each once, many partitions of one asset folded into one line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from definemed_pipeline.artifacts.lineage import Lineage
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Manifest, Source

UNFOLDED = 12  # partitions of one asset that are named one by one


@dataclass(frozen=True, kw_only=True)
class Named:
    """An artifact as the tree names it; `partition` is empty where the asset has none."""

    partition: str
    version: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Branch:
    """An asset at one place of the tree: artifacts that were not named above, their sources, and what they were made from."""

    asset: str
    artifacts: Sequence[Named]
    hidden: int  # further partitions
    is_above: bool  # some or all of its artifacts are named above
    sources: Sequence[Source]
    branches: Sequence["Branch"]


def branches_of(inputs: Sequence[Lineage]) -> list[Branch]:
    """Return the tree below the page."""
    return list(_branches(inputs, set()))


def _branches(inputs: Sequence[Lineage], seen: set[tuple[str, str]]) -> Iterator[Branch]:
    by_asset: dict[str, list[tuple[Lineage, Manifest]]] = {}
    for node in inputs:
        if node.manifest is not None:
            by_asset.setdefault(node.manifest.asset, []).append((node, node.manifest))
    for asset, found in sorted(by_asset.items()):
        new = [(node, manifest) for node, manifest in found if (node.name, node.version) not in seen]
        seen.update((node.name, node.version) for node, _ in new)
        shown = [manifest for _, manifest in new[:UNFOLDED]]
        below = {(one.name, one.version): one for node, _ in new for one in node.inputs}
        yield Branch(
            asset=asset,
            artifacts=[
                Named(partition="" if one.partition == UNPARTITIONED else one.partition, version=one.version, digest=one.digest)
                for one in shown
            ],
            hidden=len(new) - len(shown),
            is_above=len(new) < len(found),
            sources=list(dict.fromkeys(source for one in shown for source in one.identity.sources)),
            branches=list(_branches(list(below.values()), seen)),
        )

"""The tree of artifacts behind an artifact, from manifests alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from definemed_pipeline.artifacts.manifest import Manifest, Source
from definemed_pipeline.artifacts.store import Store


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """An artifact with everything it was made from. `manifest` is None where an input has left the lake."""

    name: str
    version: str
    manifest: Manifest | None
    inputs: tuple["Lineage", ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.manifest.identity.sources if self.manifest else ()

    def walk(self) -> Iterator["Lineage"]:
        """Yield this artifact and every artifact behind it, each once."""
        seen: set[tuple[str, str]] = set()
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if (node.name, node.version) not in seen:
                seen.add((node.name, node.version))
                yield node
                waiting.extend(node.inputs)


def lineage_of(store: Store, manifest: Manifest) -> Lineage:
    """Follow the inputs of an artifact down to the sources; each artifact is read once however often it is used."""
    known: dict[tuple[str, str, str], Lineage] = {}

    def follow(asset: str, partition: str, version: str, found: Manifest | None) -> Lineage:
        key = (asset, partition, version)
        if key not in known:
            inputs = found.identity.inputs if found else ()
            known[key] = Lineage(
                name=asset if partition == "_" else f"{asset}[{partition}]",
                version=version,
                manifest=found,
                inputs=tuple(
                    follow(i.asset, i.partition, i.version, store.manifest(i.asset, i.partition, i.version)) for i in inputs
                ),
            )
        return known[key]

    return follow(manifest.asset, manifest.partition, manifest.version, manifest)

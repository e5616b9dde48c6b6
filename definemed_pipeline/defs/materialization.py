"""The bridge between an artifact and Dagster: build or reuse it, then tell Dagster the same that the manifest holds."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft, build, reuse
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Identity, Manifest, Source
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.payload import Spec
from definemed_pipeline.recipe import active_recipe
from definemed_pipeline.settings import as_json, section_digest

OWNERS = ["team:definemed"]
FORCE_TAG = "definemed/force"  # a run with this tag rebuilds what is complete
RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)


def code_version(version: str, section: Any) -> str:
    """Return an asset's code version with the digest of its recipe section, so that the UI marks it stale when either changes."""
    return f"{version}-{section_digest(section)[:8]}"


def identify_artifact(
    context: dg.AssetExecutionContext, *, section: Any, inputs: Iterable[Manifest], sources: Iterable[Source] = ()
) -> Identity:
    """Return the identity of the artifact that this step is to build."""
    version = context.assets_def.code_versions_by_key[context.asset_key] or ""
    return Identity(
        asset=context.asset_key.path[-1],
        partition=context.partition_key if context.has_partition_key else UNPARTITIONED,
        code_version=version.rpartition("-")[0],
        settings=as_json(section),
        settings_digest=section_digest(section),
        inputs=tuple(manifest.as_input() for manifest in inputs),
        sources=tuple(sources),
    )


def build_here(
    context: dg.AssetExecutionContext,
    lake: Lake,
    work: Callable[[Draft[Any]], None],
    *,
    section: Any,
    inputs: Iterable[Manifest],
    sources: Iterable[Source] = (),
) -> Manifest:
    """Build or reuse an artifact in this process."""
    identity = identify_artifact(context, section=section, inputs=inputs, sources=sources)
    with final_failures():
        return build(
            lake.store,
            identity,
            work,
            settings=section,
            recipe=active_recipe().name,
            run_id=context.run_id,
            force=_forced(context),
            report=context.log.info,
        ).manifest


def build_in_payload(
    context: dg.AssetExecutionContext,
    lake: Lake,
    compute: Compute,
    module: str,
    *,
    section: Any,
    inputs: Iterable[Manifest],
    sources: Iterable[Source] = (),
) -> Manifest:
    """Reuse an artifact, or build it in a payload launched by the recipe's compute."""
    identity = identify_artifact(context, section=section, inputs=inputs, sources=sources)
    spec = Spec(
        lake=lake.store.url,
        scratch=str(lake.store.scratch),
        recipe=active_recipe().name,
        run_id=context.run_id,
        force=_forced(context),
        identity=identity,
    )
    if not spec.force and (manifest := reuse(lake.store, identity, spec.recipe)):
        return manifest
    with final_failures():
        compute.run(context, module, spec)
    return lake.artifact(identity.asset, identity.partition)


def result(
    context: dg.AssetExecutionContext,
    lake: Lake,
    manifest: Manifest,
    *,
    table: str | None = None,
    plots: Mapping[str, str] | None = None,
    checks: Iterable[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """Describe an artifact to Dagster: metadata, picture, data version, checks. `table` is a glob of its main parquet files."""
    metadata: dict[str, Any] = {
        "artifact": dg.MetadataValue.path(lake.store.uri(manifest)),
        "version": manifest.version,
        "reused": manifest.provenance.run_id != context.run_id,
        "bytes": manifest.bytes,
        **{name: value for name, value in manifest.metrics.items() if value is not None},
        **{name: dg.MetadataValue.md(picture) for name, picture in (plots or {}).items()},
    }
    if table is not None:
        metadata |= _describe_table(lake.store.folder(manifest), table)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(manifest.digest), check_results=list(checks))


def check(name: str, passed: bool, **metadata: Any) -> dg.AssetCheckResult:
    """Return a check's result; what is blocking is said in the asset's check specs."""
    return dg.AssetCheckResult(check_name=name, passed=bool(passed), severity=dg.AssetCheckSeverity.ERROR, metadata=metadata)


def blocking(asset: str, **checks: str) -> list[dg.AssetCheckSpec]:
    """Declare checks that stop the run: each name with the sentence that says what must hold."""
    return [dg.AssetCheckSpec(name=name, asset=asset, description=text, blocking=True) for name, text in checks.items()]


def _describe_table(folder: Path, pattern: str) -> dict[str, Any]:
    files = sorted(folder.glob(pattern))
    schema = pq.read_schema(files[0])
    return {
        "dagster/row_count": sum(pq.read_metadata(file).num_rows for file in files),
        "dagster/column_schema": dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in schema]),
    }


def _forced(context: dg.AssetExecutionContext) -> bool:
    return context.run.tags.get(FORCE_TAG) == "true"

"""The bridge between an artifact and Dagster: build or reuse it, then tell Dagster the same that the manifest holds."""

import warnings
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
from definemed_pipeline.settings import as_json, digest_of, section_digest

OWNERS = ["team:definemed"]
FORCE_TAG = "definemed/force"  # a run with this tag rebuilds what is complete
RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
# Runs that read from the Hub share a pool, since its quota is one for all; how many run at once is the instance's to say (dagster.yaml).
HUB = "hub" if active_recipe().source.kind == "fineweb2" else None
# A run takes several shards, and one payload builds them all: its start is paid once.
SHARDS_PER_RUN = dg.BackfillPolicy.multi_run(active_recipe().compute.shards_per_run)
# Dagster announces the parameter as beta at every asset that has it; constraints.txt pins the version it was tried with.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)


def code_version(version: str, section: Any) -> str:
    """Return an asset's code version with the digest of its recipe section, so that the UI marks it stale when either changes."""
    return f"{version}-{section_digest(section)[:8]}"


def identify_artifact(
    context: dg.AssetExecutionContext,
    *,
    section: Any,
    inputs: Iterable[Manifest],
    sources: Iterable[Source] = (),
    partition: str | None = None,
) -> Identity:
    """Return the identity of the artifact that this step is to build, or of one `partition` where it builds several."""
    if partition is None:
        partition = context.partition_key if context.has_partition_key else UNPARTITIONED
    version = context.assets_def.code_versions_by_key[context.asset_key] or ""
    return Identity(
        asset=context.asset_key.path[-1],
        partition=partition,
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
    execution: Any = None,
) -> Manifest:
    """Reuse an artifact, or build it in a payload launched by the recipe's compute.

    `execution` is the section that says how the payload uses its machine.
    """
    identity = identify_artifact(context, section=section, inputs=inputs, sources=sources)
    _launch(context, lake, compute, module, [identity], execution=execution)
    return lake.artifact(identity.asset, identity.partition)


def build_partitions_in_payload(
    context: dg.AssetExecutionContext,
    lake: Lake,
    compute: Compute,
    module: str,
    *,
    section: Any,
    inputs: Callable[[str], Iterable[Manifest]],
    sources: Callable[[str], Iterable[Source]] = lambda _: (),
) -> dict[str, Manifest]:
    """Reuse or build the artifacts of all partitions of this run, in one payload; `inputs` and `sources` are asked per partition."""
    identities = [
        identify_artifact(context, section=section, inputs=inputs(key), sources=sources(key), partition=key)
        for key in context.partition_keys
    ]
    _launch(context, lake, compute, module, identities)
    return {identity.partition: lake.artifact(identity.asset, identity.partition) for identity in identities}


def _launch(
    context: dg.AssetExecutionContext,
    lake: Lake,
    compute: Compute,
    module: str,
    identities: Iterable[Identity],
    *,
    execution: Any = None,
) -> None:
    """Launch one payload for the artifacts that are not in the lake yet (on force: for all)."""
    recipe, force = active_recipe().name, _forced(context)
    missing = tuple(identity for identity in identities if force or reuse(lake.store, identity, recipe) is None)
    if not missing:
        return
    spec = Spec(
        lake=lake.store.url,
        scratch=str(lake.store.scratch),
        recipe=recipe,
        run_id=context.run_id,
        force=force,
        identities=missing,
        execution={} if execution is None else as_json(execution),
    )
    with final_failures():
        compute.run(context, module, spec)


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
    metadata = _describe(context, lake, manifest, table, plots or {})
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(manifest.digest), check_results=list(checks))


def partitions_result(
    context: dg.AssetExecutionContext,
    lake: Lake,
    manifests: Mapping[str, Manifest],
    *,
    table: str | None = None,
    plots: Callable[[Manifest], Mapping[str, str]] = lambda _: {},
    checks: Iterable[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """Describe the artifacts of all partitions of this run to Dagster, each by itself; checks are of all of them.

    Dagster gives every partition of a run the same data version. Of several it is made from all their digests, so a partition that is
    built again in other company makes Dagster call what follows stale although its bytes are the same; building that reuses it.
    """
    for key, manifest in manifests.items():
        context.add_asset_metadata(_describe(context, lake, manifest, table, plots(manifest)), partition_key=key)
    digests = [manifest.digest for manifest in manifests.values()]
    version = digests[0] if len(digests) == 1 else digest_of(digests)
    return dg.MaterializeResult(data_version=dg.DataVersion(version), check_results=list(checks))


def _describe(
    context: dg.AssetExecutionContext, lake: Lake, manifest: Manifest, table: str | None, plots: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "artifact": dg.MetadataValue.path(lake.store.uri(manifest)),
        "version": manifest.version,
        "reused": manifest.provenance.run_id != context.run_id,
        "bytes": manifest.bytes,
        **{name: value for name, value in manifest.metrics.items() if value is not None},
        **{name: dg.MetadataValue.md(picture) for name, picture in plots.items()},
        **(_describe_table(lake.store.folder(manifest), table) if table is not None else {}),
    }


def check(name: str, passed: bool, *, warns: bool = False, **metadata: Any) -> dg.AssetCheckResult:
    """Return a check's result; what is blocking is said in the asset's check specs. A check that `warns` is no error where it fails."""
    severity = dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(check_name=name, passed=bool(passed), severity=severity, metadata=metadata)


def blocking(asset: str, **checks: str) -> list[dg.AssetCheckSpec]:
    """Declare checks that stop the run: each name with the sentence that says what must hold."""
    return [dg.AssetCheckSpec(name=name, asset=asset, description=text, blocking=True) for name, text in checks.items()]


def warning(asset: str, **checks: str) -> list[dg.AssetCheckSpec]:
    """Declare checks that stop nothing: each name with the sentence that says what one would wish for."""
    return [dg.AssetCheckSpec(name=name, asset=asset, description=text) for name, text in checks.items()]


def _describe_table(folder: Path, pattern: str) -> dict[str, Any]:
    files = sorted(folder.glob(pattern))
    schema = pq.read_schema(files[0])
    return {
        "dagster/row_count": sum(pq.read_metadata(file).num_rows for file in files),
        "dagster/column_schema": dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in schema]),
    }


def _forced(context: dg.AssetExecutionContext) -> bool:
    return context.run.tags.get(FORCE_TAG) == "true"

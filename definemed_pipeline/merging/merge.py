"""Payload that merges a CPT checkpoint with its instruct model, and with others where the recipe names them, by mergekit.

The paper's method is SLERP (Shoemake 1985), tensor by tensor, with the instruct model as its base, as in BioMistral. What it meant for each
tensor is recorded, since between a base and its CPT checkpoint it often is linear interpolation.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.merging.checks import measure_soundness
from definemed_pipeline.merging.configuration import merge_configuration
from definemed_pipeline.merging.other_models import fetch_other_models
from definemed_pipeline.merging.parameters import filters_of
from definemed_pipeline.merging.settings import BASE, CPT, MergedModelsSettings
from definemed_pipeline.merging.tensors import SCHEMA, Weights, compare_tensors
from definemed_pipeline.merging.weights import SECONDS_BETWEEN_REPORTS, merge_weights
from definemed_pipeline.payload import run_payload


def merge(draft: Draft[MergedModelsSettings]) -> None:
    """Merge into `model/`, record each tensor in `tensors.parquet`, and measure whether the result is a whole, working model."""
    torch.set_num_threads(1)  # norms are sums, and come out the same whatever the number of cores
    started, name = time.monotonic(), draft.identity.partition
    chosen = _chosen(draft)
    folders = {
        BASE: draft.input("base_models", name) / model_folder.FOLDER,
        CPT: draft.input("cpt_checkpoints", name) / model_folder.FOLDER,
        **fetch_other_models(draft, chosen.others),
    }
    merged = draft.folder / model_folder.FOLDER
    draft.report(f"merging {name}: {', '.join(chosen.models)} by {chosen.method}")
    merge_models(chosen, folders, merged, base_model=name, report=draft.report)
    written = time.monotonic()
    rows = _compare(draft, folders, merged)
    compared = time.monotonic()
    draft.metrics.update(
        method=chosen.method,
        parameters_of_the_method=chosen.parameters,
        **_summary(rows),
        **dataclasses.asdict(measure_soundness(merged, folders[BASE])),
        merge_seconds=round(written - started, 2),
        compare_seconds=round(compared - written, 2),
        seconds=round(time.monotonic() - started, 2),
    )


def _chosen(draft: Draft[MergedModelsSettings]) -> MergedModelsSettings:
    """Return the section with the method and parameters that the sweep chose, or as it is where nothing was swept."""
    choice = model_folder.read_json(draft.input("merge_sweep", draft.identity.partition) / "choice.json")
    return dataclasses.replace(draft.settings, **choice)


def merge_models(
    chosen: MergedModelsSettings,
    folders: Mapping[str, Path],
    target: Path,
    *,
    base_model: str,
    report: Callable[[str], None],
) -> None:
    """Write the model that a section makes of `folders` (by name, see the settings) to `target`, and `merge.yaml` beside it.

    Everything but the weights is the base's. Raise UserError where the models do not fit each other or the section.
    """
    _refuse_useless_filters(chosen, model_folder.weight_shapes(folders[BASE]))
    merge_weights(chosen, folders, target, report=report)
    model_folder.copy_companions(folders[BASE], target)
    model_folder.write_config(folders[BASE], target, dtype=chosen.dtype)
    named = {BASE: f"base_models/{base_model}/model", CPT: f"cpt_checkpoints/{base_model}/model"}
    named |= {other: f"others/{other}/model" for other in chosen.others}
    record = yaml.safe_dump(merge_configuration(chosen, named), sort_keys=False)
    target.with_name("merge.yaml").write_text(record, "utf-8")


def _refuse_useless_filters(chosen: MergedModelsSettings, tensors: Mapping[str, Any]) -> None:
    for part in filters_of(chosen.parameters):
        if not any(part in tensor for tensor in tensors):
            example = next((tensor for tensor in tensors if ".layers." in tensor), next(iter(tensors)))
            raise UserError(f"merged_models.parameters: no tensor's name holds {part!r}; names look like {example}")


def _compare(draft: Draft[MergedModelsSettings], folders: Mapping[str, Path], merged: Path) -> list[dict[str, Any]]:
    base, cpt, result = Weights(folders[BASE]), Weights(folders[CPT]), Weights(merged)
    reported, rows = time.monotonic(), []
    for row in compare_tensors(base, cpt, result):
        rows.append(row)
        if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            draft.report(f"{len(rows)} of {len(base.names)} tensors compared")
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), draft.folder / "tensors.parquet", compression="zstd")
    return rows


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    finite = [row for row in rows if row["is_finite"]] or rows
    count = len(finite)
    means = ("cosine", "angle_degrees", "relative_change", "merged_cosine_to_base", "merged_cosine_to_cpt", "merged_change")
    return {
        "tensors": len(rows),
        "nearly_parallel_share": round(sum(row["is_nearly_parallel"] for row in finite) / count, 4),
        **{f"{name}_mean": round(sum(row[name] for row in finite) / count, 6) for name in means},
        "cosine_min": round(min(row["cosine"] for row in finite), 6),
        "angle_degrees_max": round(max(row["angle_degrees"] for row in finite), 4),
        "not_finite": [row["tensor"] for row in rows if not row["is_finite"]][:10],
    }


if __name__ == "__main__":
    run_payload(MergedModelsSettings, merge, parse=MergedModelsSettings.parse)

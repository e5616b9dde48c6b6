"""Payload that merges a CPT checkpoint with its instruct model, tensor by tensor, by mergekit.

Method: SLERP as in Shoemake (1985), per tensor, by mergekit's `slerp`; the base is the instruct model, as in BioMistral. What SLERP meant
for each tensor is recorded, since between a base and its CPT checkpoint it often is linear interpolation.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.merging.settings import MergedModelsSettings
from definemed_pipeline.merging.tensors import SCHEMA, Weights, compare_tensors
from definemed_pipeline.payload import run_payload

PROBE = [{"role": "user", "content": "1 + 1 = ?"}]


def merge(draft: Draft[MergedModelsSettings]) -> None:
    """Merge into `model/`, record each tensor in `tensors.parquet`, and check that the result is a whole, working model."""
    torch.set_num_threads(1)  # norms are sums, and come out the same whatever the number of cores
    started, name = time.monotonic(), draft.identity.partition
    base = draft.input("base_models", name) / model_folder.FOLDER
    cpt = draft.input("cpt_checkpoints", name) / model_folder.FOLDER
    merged = draft.folder / model_folder.FOLDER
    draft.report(f"merging {name} with its CPT checkpoint by {draft.settings.method}")
    run_merge(
        MergeConfiguration.model_validate(merge_configuration(draft.settings, base=_reference(base), cpt=_reference(cpt))),
        str(merged),
        MergeOptions(copy_tokenizer=False, write_model_card=False, trust_remote_code=False, quiet=True),
    )
    _keep_model_files(merged)
    model_folder.copy_companions(base, merged)
    named = merge_configuration(draft.settings, base=f"base_models/{name}/model", cpt=f"cpt_checkpoints/{name}/model")
    (draft.folder / "merge.yaml").write_text(yaml.safe_dump(named, sort_keys=False), "utf-8")
    check_shapes(merged, base)
    draft.report("comparing tensors")
    rows = compare_tensors(Weights(base), Weights(cpt), Weights(merged))
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), draft.folder / "tensors.parquet", compression="zstd")
    check_finite(rows)
    check_answers(merged)
    draft.metrics.update(_summary(rows), method=draft.settings.method, t=draft.settings.t)
    draft.metrics.update(
        parameters=model_folder.count_parameters(merged),
        vocabulary_size=model_folder.vocabulary_size(merged),
        seconds=round(time.monotonic() - started, 2),
    )


def merge_configuration(chosen: MergedModelsSettings, *, base: Any, cpt: Any) -> dict[str, Any]:
    """Return mergekit's configuration for two models, each given as mergekit reads a reference.

    There is no `tokenizer_source`: with one, mergekit cuts the vocabulary's padding off (Qwen2.5: 152,064 to 151,665 rows).
    """
    by_module = [("self_attn", list(chosen.self_attn_t)), ("mlp", list(chosen.mlp_t))]
    t = [{"filter": module, "value": values} for module, values in by_module if values] + [{"value": chosen.t}]
    shared = {"merge_method": chosen.method, "dtype": chosen.dtype, "base_model": base}
    if chosen.method == "slerp":
        return {**shared, "models": [{"model": base}, {"model": cpt}], "parameters": {"t": t}}
    weights = [(base, [_complement(entry) for entry in t]), (cpt, t)]
    return {**shared, "models": [{"model": model, "parameters": {"weight": weight}} for model, weight in weights]}


def check_shapes(merged: Path, base: Path) -> None:
    """Raise UserError where the merge has other tensors than its base, or tensors of another shape."""
    found, expected = ({name: weights.shape(name) for name in weights.names} for weights in (Weights(merged), Weights(base)))
    if found != expected:
        different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise UserError(
            f"the merge and its base differ in the shape of {', '.join(different[:3])}; is the checkpoint of this base?"
        )


def check_finite(rows: list[dict[str, Any]]) -> None:
    """Raise UserError where a merged tensor holds values that are no numbers."""
    broken = [row["tensor"] for row in rows if not row["is_finite"]]
    if broken:
        raise UserError(
            f"the merge holds values that are no numbers in {', '.join(broken[:3])}; look at the CPT checkpoint's loss"
        )


def check_answers(merged: Path) -> None:
    """Load the merge as a user would and let it answer. Raise UserError where it does not, or its embeddings lost their tie."""
    model: Any = model_folder.load_model(merged)
    tokenizer = model_folder.load_tokenizer(merged)
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if is_tied != model.config.tie_word_embeddings:
        raise UserError("the merge lost the tie of input and output embeddings")
    written = str(tokenizer.apply_chat_template(PROBE, add_generation_prompt=True, tokenize=False))
    prompt = tokenizer(written, add_special_tokens=False, return_tensors="pt")["input_ids"]
    if model.generate(prompt, max_new_tokens=4, do_sample=False).shape[1] <= prompt.shape[1]:
        raise UserError("the merge loads but generates nothing")


def _reference(folder: Path) -> dict[str, Any]:
    """Name a local folder to mergekit; in a plain string it would read `@` as a revision and `+` as an adapter."""
    return {"model": {"path": str(folder)}}


def _complement(entry: Mapping[str, Any]) -> dict[str, Any]:
    value = entry["value"]
    return {**entry, "value": [1 - t for t in value] if isinstance(value, list) else 1 - value}


def _keep_model_files(folder: Path) -> None:
    """Remove what mergekit writes beside the model, such as notes with local paths."""
    for path in folder.iterdir():
        if not model_folder.is_model_file(path.name):
            path.unlink()


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    count = len(rows)
    return {
        "tensors": count,
        "linear_fallback_share": round(sum(row["is_linear_fallback"] for row in rows) / count, 4),
        "cosine_mean": round(sum(row["cosine"] for row in rows) / count, 6),
        "cosine_min": round(min(row["cosine"] for row in rows), 6),
        "relative_change_mean": round(sum(row["relative_change"] for row in rows) / count, 6),
        "merged_change_mean": round(sum(row["merged_change"] for row in rows) / count, 6),
    }


if __name__ == "__main__":
    run_payload(MergedModelsSettings, merge)

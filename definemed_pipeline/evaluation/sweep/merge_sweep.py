"""Payload: which merge of a base model and its CPT checkpoint to take, told by validation questions and instructions alone.

It imports merging, as what it measures are merges: each is made by the code that makes the published one, measured, and removed. Test questions
are not asked. A killed sweep goes on with the candidate it was at.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from definemed_pipeline import model_folder
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO, accuracy_of
from definemed_pipeline.evaluation.failures.diagnosis import diagnose
from definemed_pipeline.evaluation.sweep.choose import Measured, choose
from definemed_pipeline.evaluation.sweep.measure import Answers, ValidationItems, answers_of
from definemed_pipeline.evaluation.sweep.settings import SweptMergeSettings
from definemed_pipeline.intervals import wilson
from definemed_pipeline.merging.merge import merge_models
from definemed_pipeline.merging.other_models import fetch_other_models
from definemed_pipeline.merging.settings import BASE, CPT, MergedModelsSettings
from definemed_pipeline.payload import run_payload

SCHEMA = {
    "model": pl.String,
    "method": pl.String,
    "parameters": pl.String,  # JSON
    **{
        f"{measure}{bound}": pl.Float64
        for measure in ("accuracy", "answered_properly", "language_mixing")
        for bound in ("", "_low", "_high")
    },
    "questions": pl.Int64,
    "instructions": pl.Int64,
    "accuracy_kept": pl.Float64,
    "instruction_following_recovered": pl.Float64,
    "balance": pl.Float64,
    "keeps_limits": pl.Boolean,
    "is_on_front": pl.Boolean,
    "is_chosen": pl.Boolean,
}


def sweep_merges(draft: Draft[SweptMergeSettings]) -> None:
    """Measure base, CPT checkpoint and every candidate; write `candidates.parquet`, a row for each, and `choice.json`.

    Without candidates nothing is measured, the table is empty, and so is the choice.
    """
    merges = draft.settings.merge_sweep.merges(draft.settings.merged_models)
    rows = _rows(draft, merges) if merges else []
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    table.write_parquet(draft.folder / "candidates.parquet")
    chosen = [merge for merge, row in zip(merges, rows[2:], strict=True) if row["is_chosen"]]
    draft.write_json("choice.json", {"method": chosen[0].method, "parameters": chosen[0].parameters} if chosen else {})
    draft.metrics["candidates"] = len(merges)
    for row in rows:
        if row["is_chosen"]:
            draft.metrics |= {
                "chosen": row["model"],
                **{name: value for name, value in row.items() if name not in ("model", "is_chosen")},
            }


def name_of(merge: MergedModelsSettings) -> str:
    """Return what a table calls a candidate: its method and parameters."""
    values = (f"{name}={json.dumps(value, sort_keys=True)}" for name, value in merge.parameters.items())
    return " ".join([merge.method, *values])


def _rows(draft: Draft[SweptMergeSettings], merges: Sequence[MergedModelsSettings]) -> list[dict[str, Any]]:
    """Return a row for base and CPT checkpoint, which are no candidates, and then for each candidate in its order."""
    measured = _measure(draft, merges)
    base, cpt, *candidates = [
        Measured(**{field.name: one[field.name] for field in dataclasses.fields(Measured)}) for one in measured
    ]
    choice = choose(base, cpt, candidates, draft.settings.merge_sweep.rule)
    rows = [{"model": name, **one, "is_chosen": False} for name, one in zip((BASE, CPT), measured, strict=False)]
    for number, (merge, one, value) in enumerate(zip(merges, measured[2:], choice.valued, strict=True)):
        told = {"method": merge.method, "parameters": json.dumps(merge.parameters, sort_keys=True)}
        rows.append({"model": name_of(merge), **told, **one, **dataclasses.asdict(value), "is_chosen": number == choice.chosen})
    return [{column: row.get(column) for column in SCHEMA} for row in rows]


def _measure(draft: Draft[SweptMergeSettings], merges: Sequence[MergedModelsSettings]) -> list[dict[str, Any]]:
    """Have all models answer, one after the other, and return what each reached, with 95 % intervals."""
    name, items = draft.identity.partition, ValidationItems(draft)
    folders = {
        BASE: draft.input("base_models", name) / model_folder.FOLDER,
        CPT: draft.input("cpt_checkpoints", name) / model_folder.FOLDER,
    }
    answers = {stage: answers_of(draft, stage, items, partial(folders.__getitem__, stage)) for stage in (BASE, CPT)}
    folders |= fetch_other_models(draft, draft.settings.merged_models.others)
    for number, merge in enumerate(merges, start=1):
        draft.report(f"{name}: candidate {number} of {len(merges)}, {name_of(merge)}")
        stage, place = f"candidate-{number}", draft.checkpoints / "candidate"
        answers[stage] = answers_of(draft, stage, items, partial(_merged, draft, merge, folders, place))
        shutil.rmtree(place, ignore_errors=True)
    responses = pl.DataFrame(pa.concat_tables([one.responses for one in answers.values()]))
    diagnosed = diagnose(responses, draft.settings.failure_modes)
    return [_reached(draft.settings, one, diagnosed.filter(stage=stage)) for stage, one in answers.items()]


def _merged(draft: Draft[SweptMergeSettings], merge: MergedModelsSettings, folders: Mapping[str, Path], place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)  # left by a try that was killed
    place.mkdir()
    merge_models(merge, folders, place / model_folder.FOLDER, base_model=draft.identity.partition, report=draft.report)
    return place / model_folder.FOLDER


def _reached(settings: SweptMergeSettings, answers: Answers, diagnosed: pl.DataFrame) -> dict[str, Any]:
    outcomes: dict[str, list[bool]] = {}
    for row in answers.outcomes.to_pylist():
        outcomes.setdefault(row["task"], []).append(row["is_correct"])
    right = {task: np.array(found) for task, found in sorted(outcomes.items())}
    macro = accuracy_of(right, resamples=settings.merge_sweep.resamples, seed=settings.merge_sweep.seed)[MACRO]
    count = diagnosed.height
    proper = wilson(count - int(diagnosed["not_answered_properly"].sum()), count)
    mixing = wilson(int(diagnosed["language_mixing"].sum()), count)
    return {**macro, **proper.as_metrics("answered_properly"), **mixing.as_metrics("language_mixing"), "instructions": count}


if __name__ == "__main__":
    run_payload(SweptMergeSettings, sweep_merges, parse=SweptMergeSettings.parse)

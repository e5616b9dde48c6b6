"""Payload: the multiple-choice accuracy of the three stages of a base model, measured in one process."""

from typing import Any

import numpy as np
import pyarrow as pa

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.evaluation.accuracy import MACRO, accuracy_of, differences_of
from definemed_pipeline.evaluation.examples import Question
from definemed_pipeline.evaluation.multiple_choice import Answered, answer_questions
from definemed_pipeline.evaluation.settings import BenchmarkScoresSettings, BenchmarkSettings
from definemed_pipeline.evaluation.splits import questions_of
from definemed_pipeline.evaluation.stages import STAGES, model_folder, table_of_stages, write_table
from definemed_pipeline.payload import run_payload

SCHEMA = pa.schema(
    {
        "base_model": pa.string(),
        "stage": pa.string(),
        "benchmark": pa.string(),
        "question_id": pa.string(),
        "subject": pa.string(),
        "answer": pa.int64(),
        "predicted": pa.int64(),
        "is_correct": pa.bool_(),
        "acc": pa.bool_(),
        "acc_norm": pa.bool_(),
        "log_likelihoods": pa.list_(pa.float64()),
    }
)


def score_models(draft: Draft[BenchmarkScoresSettings]) -> None:
    """Ask every stage of a base model the test questions of the recipe's benchmarks; write `questions.parquet` and `scores.json`."""
    benchmarks = {
        name: (benchmark, questions_of("test", draft.source(f"benchmark/{name}"), benchmark))
        for name, benchmark in sorted(draft.settings.benchmarks.items())
    }
    table = table_of_stages(draft, lambda stage: _score_stage(draft, stage, benchmarks))
    write_table(
        table.sort_by([("benchmark", "ascending"), ("question_id", "ascending"), ("stage", "ascending")]),
        draft.folder / "questions.parquet",
    )
    _write_scores(draft, table)


def _score_stage(
    draft: Draft[BenchmarkScoresSettings],
    stage: str,
    benchmarks: dict[str, tuple[BenchmarkSettings, list[Question]]],
) -> pa.Table:
    draft.report(f"asking {draft.identity.partition}, stage {stage}: {sum(len(q) for _, q in benchmarks.values())} questions")
    answered = answer_questions(model_folder(draft, stage), benchmarks, batch_size=draft.settings.batch_size)
    metric = draft.settings.metric
    rows = [
        {
            "base_model": draft.identity.partition,
            "stage": stage,
            "benchmark": item.benchmark,
            "question_id": item.question.id,
            "subject": item.question.subject,
            "answer": item.question.answer,
            "predicted": _predicted(item, metric),
            "is_correct": item.is_right[metric],
            **item.is_right,
            "log_likelihoods": list(item.log_likelihoods),
        }
        for item in answered
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _predicted(item: Answered, metric: str) -> int:
    """Return the choice that lm-eval takes as the model's answer: the first with the highest score."""
    lengths = [len(choice) if metric == "acc_norm" else 1 for choice in item.question.choices]
    return int(np.argmax(np.array(item.log_likelihoods) / np.array(lengths, dtype=np.float64)))


def _write_scores(draft: Draft[BenchmarkScoresSettings], table: pa.Table) -> None:
    settings = draft.settings
    outcomes = {stage: _outcomes(table, stage) for stage in STAGES}
    accuracy = {stage: accuracy_of(outcomes[stage], resamples=settings.resamples, seed=settings.seed) for stage in STAGES}
    differences = differences_of(outcomes, resamples=settings.resamples, seed=settings.seed)
    draft.write_json(
        "scores.json",
        {
            "base_model": draft.identity.partition,
            "metric": settings.metric,
            "accuracy": accuracy,
            "differences": differences,
        },
    )
    for stage in STAGES:
        macro = accuracy[stage][MACRO]
        draft.metrics |= {f"{stage}_{key}": macro[key] for key in ("accuracy", "accuracy_low", "accuracy_high")}
    draft.metrics["questions"] = accuracy[STAGES[0]][MACRO]["questions"]
    for change in differences:
        if change["benchmark"] == MACRO:
            name = f"difference_{change['before']}_{change['after']}"
            draft.metrics |= {f"{name}{part}": change[f"difference{part}"] for part in ("", "_low", "_high")}
            draft.metrics[f"{name}_p"] = change["mcnemar_p"]


def _outcomes(table: pa.Table, stage: str) -> dict[str, Any]:
    """Return per benchmark whether each question was answered right, in the order of the questions."""
    rows = [row for row in table.select(["stage", "benchmark", "question_id", "is_correct"]).to_pylist() if row["stage"] == stage]
    names = sorted({row["benchmark"] for row in rows})
    return {name: np.array([row["is_correct"] for row in rows if row["benchmark"] == name]) for name in names}


if __name__ == "__main__":
    run_payload(BenchmarkScoresSettings, score_models, parse=BenchmarkScoresSettings.parse)

"""Payload: the accuracy of the three stages of a base model on the recipe's benchmarks, measured in one process.

A killed run goes on with the next task of the stage it was at: each is kept in `checkpoints/` as soon as it is done.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.evaluation.answering import ChatModel
from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO, accuracy_of, differences_of
from definemed_pipeline.evaluation.benchmarks.multiple_choice import Answered, QuestionModel
from definemed_pipeline.evaluation.benchmarks.rules import CheckedInstruction, described, kept_rules
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings
from definemed_pipeline.evaluation.benchmarks.tasks import Task, read_tasks, write_task
from definemed_pipeline.evaluation.splits import checked_instructions_of
from definemed_pipeline.evaluation.stages import STAGES, model_folder, write_table
from definemed_pipeline.payload import run_payload

KEYS = {name: pa.string() for name in ("base_model", "stage", "benchmark", "task", "question_id")}
QUESTIONS = pa.schema(
    {
        **KEYS,
        "subject": pa.string(),
        "answer": pa.int64(),
        "predicted": pa.int64(),
        "is_correct": pa.bool_(),
        "acc": pa.bool_(),
        "acc_norm": pa.bool_(),
        "log_likelihoods": pa.list_(pa.float64()),
    }
)
INSTRUCTIONS = pa.schema(
    {
        **KEYS,
        "instruction": pa.string(),
        "response": pa.string(),
        "is_ended": pa.bool_(),
        "rules": pa.list_(pa.string()),
        "kept": pa.list_(pa.bool_()),
        "is_correct": pa.bool_(),
    }
)


def score_models(draft: Draft[BenchmarkScoresSettings]) -> None:
    """Ask every stage of a base model the test questions of the recipe's benchmarks.

    Write `questions.parquet` and `instructions.parquet`, a row per stage and question, `scores.json`, and in `tasks/` each task as lm-eval's
    own command takes it.
    """
    tasks = read_tasks(draft)
    checked = {
        name: checked_instructions_of("test", draft.source(f"instruction_following/{name}"), one)
        for name, one in sorted(draft.settings.instruction_following.items())
    }
    asked = [table for stage in STAGES for table in _ask(draft, stage, tasks)]
    told = [table for stage in STAGES for table in _instruct(draft, stage, checked)]
    questions, instructions = _sorted(asked, QUESTIONS), _sorted(told, INSTRUCTIONS)
    write_table(questions, draft.folder / "questions.parquet")
    write_table(instructions, draft.folder / "instructions.parquet")
    (draft.folder / "tasks").mkdir()
    for task in tasks:
        write_task(task, draft.folder / "tasks")
    _write_scores(draft, pa.concat_tables([table.select([*KEYS, "is_correct"]) for table in (questions, instructions)]))


def _ask(draft: Draft[BenchmarkScoresSettings], stage: str, tasks: Sequence[Task]) -> list[pa.Table]:
    """Put the multiple-choice tasks to a stage; its model is loaded only where a task is not done yet."""

    @cache
    def model() -> QuestionModel:
        return QuestionModel(model_folder(draft, stage), batch_size=draft.settings.batch_size)

    def measure(task: Task) -> pa.Table:
        draft.report(f"{draft.identity.partition}, stage {stage}: {task.name}, {len(task.questions)} questions")
        keys = {"base_model": draft.identity.partition, "stage": stage, "benchmark": task.benchmark}
        rows = [{**keys, **_question_row(item, draft.settings.metric)} for item in model().answer([task])]
        return pa.Table.from_pylist(rows, schema=QUESTIONS)

    tables = [_once(draft, f"{stage}-{task.name}", partial(measure, task)) for task in tasks]
    model.cache_clear()
    gc.collect()  # two models at a time may be more than a GPU holds
    return tables


def _instruct(
    draft: Draft[BenchmarkScoresSettings], stage: str, checked: Mapping[str, Sequence[CheckedInstruction]]
) -> list[pa.Table]:
    """Have a stage answer the instructions that rules check."""

    def measure(name: str) -> pa.Table:
        place = f"{draft.identity.partition}, stage {stage}: {name}"
        draft.report(f"{place}, {len(checked[name])} instructions")
        model = ChatModel(model_folder(draft, stage), max_new_tokens=draft.settings.instruction_following[name].max_new_tokens)
        answers = model.answer(
            [item.instruction for item in checked[name]],
            batch_size=draft.settings.batch_size,
            report=lambda text: draft.report(f"{place}, {text}"),
        )
        keys = {"base_model": draft.identity.partition, "stage": stage, "benchmark": name, "task": name}
        rows = [
            {**keys, **_instruction_row(item, answer.text, answer.is_ended)}
            for item, answer in zip(checked[name], answers, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=INSTRUCTIONS)

    return [_once(draft, f"{stage}-{name}", partial(measure, name)) for name in checked]


def _once(draft: Draft[Any], name: str, measure: Callable[[], pa.Table]) -> pa.Table:
    """Return a table from the checkpoints, after making it where it is not there."""
    kept = draft.checkpoints / f"{name}.parquet"
    if not kept.exists():
        with written_whole(kept) as unfinished:
            pq.write_table(measure(), unfinished)
    return pq.read_table(kept)


def _question_row(item: Answered, metric: str) -> dict[str, Any]:
    return {
        "task": item.task,
        "question_id": item.question.id,
        "subject": item.question.subject,
        "answer": item.question.answer,
        "predicted": item.predicted(metric),
        "is_correct": item.is_right[metric],
        **item.is_right,
        "log_likelihoods": list(item.log_likelihoods),
    }


def _instruction_row(item: CheckedInstruction, response: str, is_ended: bool) -> dict[str, Any]:
    kept = kept_rules(response, item.rules)
    return {
        "question_id": item.id,
        "instruction": item.instruction,
        "response": response,
        "is_ended": is_ended,
        "rules": [described(rule) for rule in item.rules],
        "kept": kept,
        "is_correct": all(kept),
    }


def _sorted(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    table = pa.concat_tables([schema.empty_table(), *tables])
    return table.sort_by([(key, "ascending") for key in ("task", "question_id", "stage")])


def _write_scores(draft: Draft[BenchmarkScoresSettings], table: pa.Table) -> None:
    settings, average = draft.settings, sorted(draft.settings.average_tasks())
    outcomes = {stage: _outcomes(table, stage) for stage in STAGES}
    resamples, seed = settings.resamples, settings.seed
    accuracy = {stage: accuracy_of(outcomes[stage], resamples=resamples, seed=seed, average=average) for stage in STAGES}
    differences = differences_of(outcomes, resamples=resamples, seed=seed, average=average)
    draft.write_json(
        "scores.json",
        {
            "base_model": draft.identity.partition,
            "metric": settings.metric,
            "average": average,
            "accuracy": accuracy,
            "differences": differences,
        },
    )
    for stage in STAGES:
        for task, found in accuracy[stage].items():
            prefix = f"{stage}_" if task == MACRO else f"{stage}_{task}_"
            draft.metrics |= {f"{prefix}{key}": found[key] for key in ("accuracy", "accuracy_low", "accuracy_high")}
    draft.metrics["questions"] = table.num_rows // len(STAGES)
    for change in differences:
        if change["benchmark"] == MACRO:
            name = f"difference_{change['before']}_{change['after']}"
            draft.metrics |= {f"{name}{part}": change[f"difference{part}"] for part in ("", "_low", "_high")}
            draft.metrics[f"{name}_p"] = change["mcnemar_p_holm"]


def _outcomes(table: pa.Table, stage: str) -> dict[str, Any]:
    """Return per task whether each question was answered right, in the order of the questions."""
    found: dict[str, list[bool]] = {}
    for row in table.select(["stage", "task", "is_correct"]).to_pylist():
        if row["stage"] == stage:
            found.setdefault(row["task"], []).append(row["is_correct"])
    return {task: np.array(right) for task, right in sorted(found.items())}


if __name__ == "__main__":
    run_payload(BenchmarkScoresSettings, score_models, parse=BenchmarkScoresSettings.parse)

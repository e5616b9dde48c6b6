"""Models on validation items: whether they answer questions right, and what they answer to instructions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.evaluation.answering import ChatModel
from definemed_pipeline.evaluation.benchmarks.multiple_choice import QuestionModel
from definemed_pipeline.evaluation.benchmarks.tasks import Task, tasks_of
from definemed_pipeline.evaluation.examples import Instruction
from definemed_pipeline.evaluation.generate import SCHEMA, response_row
from definemed_pipeline.evaluation.settings import TransformersGenerator
from definemed_pipeline.evaluation.splits import instructions_of, questions_of
from definemed_pipeline.evaluation.sweep.settings import SweptMergeSettings

OUTCOMES = pa.schema({"stage": pa.string(), "task": pa.string(), "question_id": pa.string(), "is_correct": pa.bool_()})


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model answered: a row per question (see OUTCOMES), a row per instruction (as in `responses`)."""

    outcomes: pa.Table
    responses: pa.Table


class ValidationItems:
    """The validation questions and instructions of a recipe. Raise UserError where there are none."""

    def __init__(self, draft: Draft[SweptMergeSettings]) -> None:
        self._draft = draft

    @cached_property
    def tasks(self) -> list[Task]:
        """The tasks of the macro average, their validation questions asked without examples: those of a benchmark may be validation questions themselves."""
        benchmarks = self._draft.settings.benchmark_scores.benchmarks
        return [
            task
            for name, one in sorted(benchmarks.items())
            if one.in_average and one.validation_share
            for task in tasks_of(name, one, questions_of("validation", self._draft.source(f"benchmark/{name}"), one))
        ]

    @cached_property
    def instructions(self) -> list[tuple[str, Instruction]]:
        """The name of its set and each instruction."""
        sets = self._draft.settings.responses.instruction_sets
        return [
            (name, instruction)
            for name, one in sorted(sets.items())
            if one.validation_share
            for instruction in instructions_of("validation", self._draft.source(f"instructions/{name}"), one)
        ]


def answers_of(draft: Draft[SweptMergeSettings], stage: str, items: ValidationItems, place: Callable[[], Path]) -> Answers:
    """Have the model in the folder `place()` answer the items, as `stage`; one that answered before a kill is not even made again."""
    kept = [draft.checkpoints / f"{stage}-{what}.parquet" for what in ("outcomes", "responses")]
    if not all(path.exists() for path in kept):
        folder = place()
        for path, measure in zip(kept, (_ask, _instruct), strict=True):
            with written_whole(path) as unfinished:
                pq.write_table(measure(draft, stage, items, folder), unfinished)
    return Answers(outcomes=pq.read_table(kept[0]), responses=pq.read_table(kept[1]))


def _ask(draft: Draft[SweptMergeSettings], stage: str, items: ValidationItems, folder: Path) -> pa.Table:
    settings = draft.settings.benchmark_scores
    answered = QuestionModel(folder, batch_size=settings.batch_size).answer(items.tasks)
    rows = [
        {"stage": stage, "task": item.task, "question_id": item.question.id, "is_correct": item.is_right[settings.metric]}
        for item in answered
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOMES)


def _instruct(draft: Draft[SweptMergeSettings], stage: str, items: ValidationItems, folder: Path) -> pa.Table:
    settings, generator = draft.settings.responses, draft.settings.responses.generator
    assert isinstance(generator, TransformersGenerator)  # see SweptMergeSettings.of
    model = ChatModel(folder, max_new_tokens=settings.max_new_tokens)
    answers = model.answer(
        [instruction.instruction for _, instruction in items.instructions],
        batch_size=generator.batch_size,
        report=lambda text: draft.report(f"{draft.identity.partition}, {stage}: {text}"),
    )
    rows = [
        response_row(draft.identity.partition, stage, name, instruction, answer)
        for (name, instruction), answer in zip(items.instructions, answers, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)

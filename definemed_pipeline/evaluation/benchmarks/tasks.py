"""A benchmark as lm-eval tasks: their configuration, the rows they ask, the examples they show; and as files for lm-eval's own command."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.questions import LETTERS, Question, read_examples
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkScoresSettings, BenchmarkSettings
from definemed_pipeline.evaluation.splits import folded, questions_of


@dataclass(frozen=True, kw_only=True)
class Task:
    """What lm-eval asks in one task: a benchmark, or one subject of it."""

    name: str
    benchmark: str
    settings: BenchmarkSettings
    questions: tuple[Question, ...]
    examples: tuple[Question, ...] = ()  # as many as are shown

    def config(self) -> dict[str, Any]:
        """Return lm-eval's task configuration without its data, as it could stand in a task's YAML file."""
        shown = {"fewshot_split": "examples", "fewshot_config": {"sampler": "first_n"}} if self.examples else {}
        return {
            "task": self.name,
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": self.settings.prompt,
            "doc_to_choice": "letters" if self.settings.scoring == "letters" else "choices",
            "doc_to_target": "answer",
            "num_fewshot": len(self.examples),
            **shown,
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
            ],
        }

    def scored(self, question: Question) -> tuple[str, ...]:
        """Return the texts of which the most likely one is the model's answer."""
        return tuple(LETTERS[: len(question.choices)]) if self.settings.scoring == "letters" else question.choices

    def splits(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the task's splits, `letters` beside the choices."""
        splits = {"test": self.questions, **({"examples": self.examples} if self.examples else {})}
        return {name: [_row(question) for question in questions] for name, questions in splits.items()}


def read_tasks(draft: Draft[BenchmarkScoresSettings]) -> list[Task]:
    """Read the test questions of the recipe's benchmarks and the examples shown with them, by task, sorted by name.

    Raise UserError where a file does not fit or has too few examples.
    """
    tasks = []
    for name, settings in sorted(draft.settings.benchmarks.items()):
        questions = questions_of("test", draft.source(f"benchmark/{name}"), settings)
        examples = _examples(draft, name, settings)
        tasks += tasks_of(name, settings, questions, examples)
    return tasks


def tasks_of(
    name: str, settings: BenchmarkSettings, questions: Sequence[Question], examples: Sequence[Question] = ()
) -> list[Task]:
    """Return a benchmark's tasks for these questions, each with the first `num_fewshot` of its examples; an example that is asked is passed over."""
    asked = {folded(question.question) for question in questions}
    unasked = [example for example in examples if folded(example.question) not in asked]
    tasks = []
    for task in settings.tasks(name):
        shown = [one for one in unasked if settings.task(name, one.subject) == task][: settings.num_fewshot]
        if len(shown) < settings.num_fewshot:
            raise UserError(
                f"benchmark {task}: num_fewshot is {settings.num_fewshot} and there are {len(shown)} examples that are not asked; "
                "lower it, or name a file with more examples"
            )
        own = tuple(question for question in questions if settings.task(name, question.subject) == task)
        if not own:
            raise UserError(f"benchmark {task} has no question in this split; change its validation_share")
        tasks.append(Task(name=task, benchmark=name, settings=settings, questions=own, examples=tuple(shown)))
    return tasks


def write_task(task: Task, folder: Path) -> None:
    """Write a task as lm-eval's command takes it: `NAME.yaml`, and its rows beside it; the command runs in that folder."""
    import yaml

    files = {}
    for split, rows in task.splits().items():
        files[split] = f"{task.name}.{split}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / files[split]).write_text("".join(lines), "utf-8")
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}}
    text = yaml.safe_dump({**task.config(), **data}, sort_keys=False, allow_unicode=True)
    (folder / f"{task.name}.yaml").write_text(text, "utf-8")


def _examples(draft: Draft[BenchmarkScoresSettings], name: str, settings: BenchmarkSettings) -> list[Question]:
    if not settings.num_fewshot:
        return []
    if settings.examples is not None:
        return read_examples(draft.source(f"examples/{name}"), settings)
    return questions_of("validation", draft.source(f"benchmark/{name}"), settings)


def _row(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "subject": question.subject,
        "question": question.question,
        "choices": list(question.choices),
        "letters": list(LETTERS[: len(question.choices)]),
        "answer": question.answer,
    }

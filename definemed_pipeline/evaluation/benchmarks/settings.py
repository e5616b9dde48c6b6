"""The recipe's section `benchmark_scores`: which questions, how they are asked, how accuracy is measured.

Needs the standard library only, so that payloads read their settings without pydantic.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from definemed_pipeline.settings import setting, settings

Metric = Literal["acc", "acc_norm"]
Stage = Literal["base", "cpt", "merged"]


@settings
class ColumnsSettings:
    """Where a file's rows hold a question.

    `id`: null where rows have none, they are then counted. `choices`: a column with a list, or with an object whose keys are letters, or
    one column per choice. `answer`: the right choice's index from 0, its letter, or its text.
    """

    id: str | None = "id"
    subject: str | None = "subject"
    question: str = "question"
    choices: str | tuple[str, ...] = "choices"
    answer: str = "answer"


@settings
class BenchmarkSettings:
    """One set of multiple-choice questions (JSON Lines or parquet, see `ColumnsSettings`) and how it is asked.

    `prompt` is a Jinja template over `question`, `choices`, `letters` and `subject`. `scoring` says what is scored as its continuation after one
    space: the text of each answer, or its letter. With `subjects` only these are asked, and each is a task of its own. `num_fewshot` examples
    stand before each question, always the same: the first of the file `examples` (with `subjects`: of the same subject), else of the validation questions; one
    that is asked itself is passed over. `validation_share` of the questions is kept for choosing and never reported (see `splits.py`).
    `in_average`: whether it counts in the macro average; a control does not.
    """

    questions: str = setting(location=True)
    prompt: str = setting()
    columns: ColumnsSettings = setting(factory=ColumnsSettings)
    scoring: Literal["answers", "letters"] = "answers"
    subjects: tuple[str, ...] = ()
    num_fewshot: int = setting(default=0, at_least=0, at_most=100)
    examples: str | None = setting(default=None, location=True)
    validation_share: float = setting(default=0.0, at_least=0, at_most=1)
    in_average: bool = True

    def __post_init__(self) -> None:
        if not re.search(r"\bquestion\b", self.prompt):
            raise ValueError(f"prompt is {self.prompt!r}; allowed: a template with {{{{question}}}} in it")
        if self.scoring == "letters" and not re.search(r"\bchoices\b", self.prompt):
            raise ValueError(f"prompt is {self.prompt!r}; allowed with scoring by letters: one that names each of the choices")
        if self.num_fewshot and self.examples is None and not self.validation_share:
            raise ValueError(
                f"num_fewshot is {self.num_fewshot}; allowed without a file of examples and without a validation_share: 0, "
                "as a test question is never shown with its answer"
            )

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "BenchmarkSettings":
        """Build the settings from a payload's JSON."""
        columns = dict(section.get("columns", {}))
        if isinstance(columns.get("choices"), list):
            columns["choices"] = tuple(columns["choices"])
        return cls(**{**section, "columns": ColumnsSettings(**columns), "subjects": tuple(section.get("subjects", ()))})

    def tasks(self, name: str) -> list[str]:
        """Return the names of the benchmark's tasks: one per subject where it names subjects, else its own."""
        return [self.task(name, subject) for subject in self.subjects] or [name]

    def task(self, name: str, subject: str) -> str:
        """Return the task that a question on a subject belongs to."""
        return f"{name}_{subject}" if self.subjects else name


@settings
class InstructionFollowingSettings:
    """Instructions whose answers are checked by rules; answered greedily in chat, right if all rules hold.

    `instructions` names a packaged file, or is the path or URL of another (JSON Lines: id, instruction, rules; see `rules.py`).
    """

    instructions: str = setting(location=True)
    max_new_tokens: int = setting(default=512, at_least=1)
    validation_share: float = setting(default=0.0, at_least=0, at_most=1)


@settings
class BenchmarkScoresSettings:
    """How accuracy is measured. `metric` is what counts as right of multiple-choice questions, in lm-eval's terms.

    `acc`: the answer with the highest log-likelihood; `acc_norm`: the highest log-likelihood per character, which does not favour
    short answers.
    """

    benchmarks: dict[str, BenchmarkSettings]
    instruction_following: dict[str, InstructionFollowingSettings] = setting(factory=dict)
    metric: Metric = setting(default="acc_norm")
    batch_size: int = setting(default=16, at_least=1)
    resamples: int = setting(default=10_000, at_least=100)
    seed: int = setting(default=0, at_least=0)

    def __post_init__(self) -> None:
        if not self.average_tasks():
            raise ValueError("benchmarks has none that is in_average; allowed: one or more")
        names = [task for name, benchmark in self.benchmarks.items() for task in benchmark.tasks(name)]
        names += self.instruction_following
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"benchmarks and instruction_following have two tasks named {', '.join(twice)}; rename one")

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "BenchmarkScoresSettings":
        """Build the settings from a payload's JSON."""
        benchmarks = {name: BenchmarkSettings.parse(one) for name, one in section["benchmarks"].items()}
        checked = {name: InstructionFollowingSettings(**one) for name, one in section.get("instruction_following", {}).items()}
        return cls(**{**section, "benchmarks": benchmarks, "instruction_following": checked})

    def sources(self) -> dict[str, str]:
        """Return the files of questions, examples and instructions, by the names under which a draft finds them."""
        return {
            **{f"benchmark/{name}": one.questions for name, one in self.benchmarks.items()},
            **{f"examples/{name}": one.examples for name, one in self.benchmarks.items() if one.examples is not None},
            **{f"instruction_following/{name}": _checked_location(one) for name, one in self.instruction_following.items()},
        }

    def columns(self) -> dict[str, ColumnsSettings]:
        """Return the columns of the files that are not laid out as usual, by source."""
        usual = ColumnsSettings()
        return {
            source: one.columns
            for name, one in self.benchmarks.items()
            if one.columns != usual
            for source in (f"benchmark/{name}", f"examples/{name}")
        }

    def average_tasks(self) -> list[str]:
        """Return the tasks whose unweighted mean is the macro average."""
        return [task for name, one in self.benchmarks.items() if one.in_average for task in one.tasks(name)]


def _checked_location(one: InstructionFollowingSettings) -> str:
    from definemed_pipeline.artifacts.sources import packaged_location

    return packaged_location("checked_instructions", one.instructions, "instruction_following.instructions", suffix=".jsonl")

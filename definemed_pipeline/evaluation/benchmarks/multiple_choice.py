"""Tasks of multiple-choice questions put to a model through lm-eval. Everything of lm-eval's that we run is here.

Questions are handed over in memory: nothing is looked up on the network and nothing is written to caches. Import only in payloads:
lm-eval brings torch, transformers and datasets with it.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.questions import Question
from definemed_pipeline.evaluation.benchmarks.tasks import Task

FEWSHOT_SEED = 1234  # lm-eval's own default; it wants one although the first examples are taken


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question as a model answered it: log-likelihood per choice, and whether lm-eval counts it right by either metric."""

    task: str
    question: Question
    scored: tuple[str, ...]  # what the log-likelihoods are of: the answers' texts, or their letters
    log_likelihoods: tuple[float, ...]
    is_right: Mapping[str, bool]  # by metric

    def predicted(self, metric: str) -> int:
        """Return the choice that lm-eval takes as the model's answer: the first with the highest score."""
        lengths = [len(text) if metric == "acc_norm" else 1 for text in self.scored]
        return int(np.argmax(np.array(self.log_likelihoods) / np.array(lengths, dtype=np.float64)))


class QuestionModel:
    """A model that lm-eval scores answers with, loaded once for any number of tasks.

    Raise UserError where the tokenizer ends every text by itself.
    """

    def __init__(self, folder: Path, *, batch_size: int) -> None:
        _stay_offline()
        import torch
        import transformers
        from lm_eval.models.huggingface import HFLM

        transformers.utils.logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._lm = _quiet(HFLM)(pretrained=str(folder), device=device, batch_size=batch_size)
        _refuse_appended_end_token(self._lm, folder)

    def answer(self, tasks: Sequence[Task]) -> list[Answered]:
        """Answer tasks in the order of tasks and questions.

        The log-likelihoods are of the answer's text, or of its letter, after the prompt and one space, summed over its tokens. Raise
        UserError where a prompt cannot be filled in.
        """
        from lm_eval.evaluator import evaluate

        prepared = {task.name: _prepare(task) for task in tasks}
        # `evaluate` and not `simple_evaluate`, which indexes lm-eval's thousands of tasks and asks the machine for its details first.
        results = evaluate(self._lm, {"tasks": prepared, "groups": {}}, bootstrap_iters=0, log_samples=True)
        assert results is not None  # None only on the other ranks of a distributed run
        return [
            _answered(task, sample)
            for task in tasks
            for sample in sorted(results["samples"][task.name], key=lambda sample: sample["doc_id"])
        ]


def _quiet(model_class: Any) -> Any:
    """Return lm-eval's model class without the progress bars that it draws whatever the environment says."""

    class Quiet(model_class):
        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    return Quiet


def _prepare(task: Task) -> Any:
    import jinja2
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    def in_memory(**_: Any) -> dict[str, Dataset]:
        return {split: Dataset.from_list(rows) for split, rows in task.splits().items()}

    try:
        prepared = ConfigurableTask(config={**task.config(), "custom_dataset": in_memory})
    except jinja2.TemplateError as error:
        raise UserError(
            f"benchmark {task.name}: prompt {task.settings.prompt!r} cannot be filled in: {error}; "
            "a question has id, subject, question, choices, letters"
        ) from error
    prepared.set_fewshot_seed(FEWSHOT_SEED)
    return prepared


def _answered(task: Task, sample: Mapping[str, Any]) -> Answered:
    question = task.questions[sample["doc_id"]]
    return Answered(
        task=task.name,
        question=question,
        scored=task.scored(question),
        log_likelihoods=tuple(float(likelihood) for likelihood, _ in sample["filtered_resps"]),
        is_right={metric: bool(sample[metric]) for metric in ("acc", "acc_norm")},
    )


def _refuse_appended_end_token(lm: Any, model: Path) -> None:
    """Refuse a tokenizer that appends an end token: lm-eval would score it as part of every answer."""
    if lm.tok_encode("a")[-1] == lm.tokenizer.eos_token_id:
        raise UserError(f"the tokenizer in {model} appends its end token to every text; turn add_eos_token off to score answers")


def _stay_offline() -> None:
    """Keep lm-eval and its libraries from the network and quiet; they read these variables when first imported."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    for name in ("lm_eval", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)

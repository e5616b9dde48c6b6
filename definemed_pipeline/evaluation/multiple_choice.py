"""Multiple-choice questions as an lm-eval task, and a model scored on them. Everything of lm-eval's that we use is here.

Questions are handed over in memory: nothing is looked up on the network and nothing is written to caches. Import only in payloads:
lm-eval brings torch, transformers and datasets with it.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.examples import Question
from definemed_pipeline.evaluation.settings import BenchmarkSettings

FEWSHOT_SEED = 1234  # lm-eval's own default, so that its command draws the same examples


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question as a model answered it: log-likelihood per choice, and whether lm-eval counts it right by either metric."""

    benchmark: str
    question: Question
    log_likelihoods: tuple[float, ...]
    is_right: Mapping[str, bool]  # by metric


def task_config(name: str, settings: BenchmarkSettings) -> dict[str, Any]:
    """Return lm-eval's task configuration without its data, as it could stand in a task YAML file."""
    return {
        "task": name,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": settings.prompt,
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "num_fewshot": settings.num_fewshot,
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")],
    }


def answer_questions(
    model: Path,
    benchmarks: Mapping[str, tuple[BenchmarkSettings, Sequence[Question]]],
    *,
    batch_size: int,
) -> list[Answered]:
    """Score a model on benchmarks through lm-eval, in the order of benchmarks and questions.

    The log-likelihoods are of the answer's text after the prompt and one space, summed over its tokens. Raise UserError where a
    prompt cannot be filled in or the tokenizer ends every text by itself.
    """
    _stay_offline()
    import torch
    import transformers
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    transformers.utils.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = _quiet(HFLM)(pretrained=str(model), device=device, batch_size=batch_size)
    _refuse_appended_end_token(lm, model)
    tasks = {name: _task(name, settings, questions) for name, (settings, questions) in benchmarks.items()}
    # `evaluate` and not `simple_evaluate`, which indexes lm-eval's thousands of tasks and asks the machine for its details first.
    results = evaluate(lm, {"tasks": tasks, "groups": {}}, bootstrap_iters=0, log_samples=True)
    assert results is not None  # None only on the other ranks of a distributed run
    return [
        _answered(name, questions[sample["doc_id"]], sample)
        for name, (_, questions) in benchmarks.items()
        for sample in sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    ]


def _quiet(model_class: Any) -> Any:
    """Return lm-eval's model class without the progress bars that it draws whatever the environment says."""

    class Quiet(model_class):
        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    return Quiet


def _task(name: str, settings: BenchmarkSettings, questions: Sequence[Question]) -> Any:
    import jinja2
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    def in_memory(**_: Any) -> dict[str, Dataset]:
        return {"test": Dataset.from_list([{**asdict(q), "choices": list(q.choices)} for q in questions])}

    try:
        task = ConfigurableTask(config={**task_config(name, settings), "custom_dataset": in_memory})
    except jinja2.TemplateError as error:
        raise UserError(
            f"benchmark {name}: prompt {settings.prompt!r} cannot be filled in: {error}; a question has id, subject, question, choices"
        ) from error
    task.set_fewshot_seed(FEWSHOT_SEED)
    return task


def _answered(benchmark: str, question: Question, sample: Mapping[str, Any]) -> Answered:
    return Answered(
        benchmark=benchmark,
        question=question,
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

"""What a model answers is what lm-eval says it answers, and what its own probabilities say."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.benchmarks.multiple_choice import QuestionModel
from definemed_pipeline.evaluation.benchmarks.questions import Question
from definemed_pipeline.evaluation.benchmarks.settings import BenchmarkSettings
from definemed_pipeline.evaluation.benchmarks.tasks import Task, tasks_of, write_task
from definemed_pipeline_tests.evaluation.conftest import ARCHITECTURES, QUESTIONS

PROMPT = "Frage: {{question}}\nAntwort:"
LETTERED = "Frage: {{question}}\n{% for choice in choices %}{{letters[loop.index0]}}. {{choice}}\n{% endfor %}Antwort:"
ASKED = [Question(**{**one, "choices": tuple(one["choices"])}) for one in QUESTIONS]
EXAMPLES = [
    Question(id=f"e{number}", subject="Organe", question=f"Was betrifft Leiden {number}?", choices=("Ei", "Das Herz"), answer=number % 2)
    for number in range(3)
]  # fmt: skip


def tasks(**changes: object) -> list[Task]:
    """Return the questions as they are asked by answers and by letters, without examples and with two."""
    return [
        task
        for scoring, prompt in (("answers", PROMPT), ("letters", LETTERED))
        for shots in (0, 2)
        for task in tasks_of(
            f"{scoring}_{shots}",
            BenchmarkSettings(questions="q", examples="e", prompt=prompt, scoring=scoring, num_fewshot=shots),
            ASKED,
            EXAMPLES,
        )
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_likelihoods_are_those_of_the_answers_under_the_model_itself(
    architecture: str, micro_models: Callable[..., Path]
) -> None:
    """The tokenizer's own start token, if it has one, stands once before the prompt; nothing stands after the answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = micro_models(architecture)
    plain, _, lettered, shown = tasks()
    answered = QuestionModel(folder, batch_size=7).answer([plain, lettered, shown])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    starts = [0] if architecture == "mistral" else []
    examples = "".join(f"Frage: {one.question}\nA. Ei\nB. Das Herz\nAntwort: {'AB'[one.answer]}\n\n" for one in EXAMPLES[:2])
    for item in answered:
        choices = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", item.question.choices, strict=True))
        body = f"Frage: {item.question.question}\n"
        prompt = {
            plain.name: f"{body}Antwort:",
            lettered.name: f"{body}{choices}Antwort:",
            shown.name: f"{examples}{body}{choices}Antwort:",
        }[item.task]
        for scored, found in zip(item.scored, item.log_likelihoods, strict=True):
            before = starts + tokenizer.encode(prompt, add_special_tokens=False)
            tokens = (starts + tokenizer.encode(f"{prompt} {scored}", add_special_tokens=False))[-256:]
            length = len(starts + tokenizer.encode(f"{prompt} {scored}", add_special_tokens=False)) - len(before)
            with torch.no_grad():
                log_probabilities = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
            places = range(len(tokens) - length, len(tokens))
            assert found == pytest.approx(sum(log_probabilities[place - 1, tokens[place]].item() for place in places), abs=1e-4)


def test_a_prompt_with_an_unknown_field_is_refused_with_its_name(micro_models: Callable[..., Path]) -> None:
    settings = BenchmarkSettings(questions="q", prompt="{{question}} {{options}}:")
    with pytest.raises(UserError, match=r"benchmark organe: prompt .*'options' is undefined"):
        QuestionModel(micro_models("qwen2"), batch_size=4).answer(tasks_of("organe", settings, ASKED))


def test_a_tokenizer_that_ends_every_text_is_refused(micro_models: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(micro_models("mistral"), tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["post_processor"]["single"].append({"SpecialToken": {"id": "<|im_end|>", "type_id": 0}})
    tokenizer["post_processor"]["special_tokens"]["<|im_end|>"] = {"id": "<|im_end|>", "ids": [2], "tokens": ["<|im_end|>"]}
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="appends its end token"):
        QuestionModel(tmp_path / "model", batch_size=4)


@pytest.mark.slow
def test_the_plain_lm_eval_command_gives_the_same_answers_from_the_written_tasks(
    micro_models: Callable[..., Path], tmp_path: Path
) -> None:
    """By answers and by letters, without examples and with two; the model has a start token, which makes the tokenizer's part the harder one."""
    model = micro_models("mistral")
    (tmp_path / "tasks").mkdir()
    for task in tasks():
        write_task(task, tmp_path / "tasks")
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}",
        "--tasks", ",".join(task.name for task in tasks()), "--include_path", ".", "--device", "cpu", "--batch_size", "4",
        "--output_path", str(tmp_path / "out"), "--log_samples",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path / "tasks", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    samples = {}
    for task in tasks():
        (file,) = (tmp_path / "out").rglob(f"samples_{task.name}_*.jsonl")
        samples |= {(task.name, (sample := json.loads(line))["doc"]["id"]): sample for line in file.read_text().splitlines()}

    answered = QuestionModel(model, batch_size=4).answer(tasks())
    assert len(answered) == len(samples) == 4 * len(QUESTIONS)
    for item in answered:
        sample = samples[item.task, item.question.id]
        assert item.is_right == {"acc": bool(sample["acc"]), "acc_norm": bool(sample["acc_norm"])}
        assert item.is_right == {metric: item.predicted(metric) == item.question.answer for metric in item.is_right}
        expected = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
        assert list(item.log_likelihoods) == pytest.approx(expected, abs=1e-4)

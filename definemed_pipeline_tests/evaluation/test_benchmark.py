import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from definemed_pipeline.artifacts.manifest import Manifest, Source
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation import benchmark
from definemed_pipeline.evaluation.benchmark import score_models
from definemed_pipeline.evaluation.examples import read_questions
from definemed_pipeline.evaluation.multiple_choice import answer_questions, task_config
from definemed_pipeline.evaluation.settings import BenchmarkScoresSettings, BenchmarkSettings
from definemed_pipeline.payload import Spec
from definemed_pipeline_tests.conftest import build_artifact, identity_of
from definemed_pipeline_tests.evaluation.conftest import ARCHITECTURES, QUESTIONS, write_lines

PROMPT = "Frage: {{question}}\nAntwort:"


def section(questions: Path, **changes: object) -> BenchmarkScoresSettings:
    benchmarks = {"organe": BenchmarkSettings(questions=str(questions), prompt=PROMPT)}
    return BenchmarkScoresSettings(**{"benchmarks": benchmarks, "batch_size": 5, "resamples": 200, **changes})


@pytest.fixture
def score(store: Store, questions_file: Path, stages: Callable[[str], list[Manifest]]) -> Callable[..., Manifest]:
    def build(architecture: str = "qwen2", **changes: object) -> Manifest:
        return build_artifact(
            store,
            "benchmark_scores",
            score_models,
            section(questions_file, **changes),
            partition=architecture,
            inputs=stages(architecture),
            sources={"benchmark/organe": str(questions_file)},
        )

    return build


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_likelihoods_are_those_of_the_answers_text_under_the_model_itself(
    architecture: str, micro_models: Callable[..., Path], questions_file: Path
) -> None:
    """The tokenizer's own start token, if it has one, stands once before the prompt; nothing stands after the answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = micro_models(architecture)
    questions = read_questions(Source(name="organe", location=str(questions_file), digest=""))
    settings = BenchmarkSettings(questions=str(questions_file), prompt=PROMPT)
    answered = answer_questions(folder, {"organe": (settings, questions)}, batch_size=7)

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    starts = [0] if architecture == "mistral" else []
    for item in answered:
        prompt = f"Frage: {item.question.question}\nAntwort:"
        for choice, found in zip(item.question.choices, item.log_likelihoods, strict=True):
            before = starts + tokenizer.encode(prompt, add_special_tokens=False)
            tokens = starts + tokenizer.encode(f"{prompt} {choice}", add_special_tokens=False)
            with torch.no_grad():
                log_probabilities = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
            expected = sum(log_probabilities[place - 1, tokens[place]].item() for place in range(len(before), len(tokens)))
            assert found == pytest.approx(expected, abs=1e-4)


def test_each_question_is_kept_with_what_each_stage_answered(store: Store, score: Callable[..., Manifest]) -> None:
    rows = pl.read_parquet(Path(store.uri(score())) / "questions.parquet")
    assert len(rows) == 3 * len(QUESTIONS)
    assert rows.columns[:5] == ["base_model", "stage", "benchmark", "question_id", "subject"]
    likelihoods = np.array(rows["log_likelihoods"].to_list())
    lengths = np.array([len(choice) for choice in QUESTIONS[0]["choices"]])
    assert (rows["predicted"].to_numpy() == (likelihoods / lengths).argmax(axis=1)).all()
    assert (rows["is_correct"] == (rows["predicted"] == rows["answer"])).all()
    assert (rows["acc"].to_numpy() == (likelihoods.argmax(axis=1) == rows["answer"].to_numpy())).all()
    by_stage = rows.group_by("stage").agg(pl.col("log_likelihoods").explode().sum())
    assert by_stage["log_likelihoods"].n_unique() == 3, "every stage is a model of its own"


def test_the_metric_of_the_recipe_decides_what_counts_as_right(store: Store, score: Callable[..., Manifest]) -> None:
    rows = pl.read_parquet(Path(store.uri(score(metric="acc"))) / "questions.parquet")
    assert (rows["is_correct"] == rows["acc"]).all()
    assert (rows["is_correct"] == (rows["predicted"] == rows["answer"])).all()
    assert (rows["acc"] != rows["acc_norm"]).any()


def test_scores_and_metrics_agree_with_the_questions(store: Store, score: Callable[..., Manifest]) -> None:
    manifest = score()
    folder = Path(store.uri(manifest))
    rows = pl.read_parquet(folder / "questions.parquet")
    scores = json.loads((folder / "scores.json").read_text())
    for stage in ("base", "cpt", "merged"):
        accuracy = rows.filter(stage=stage)["is_correct"].mean()
        assert scores["accuracy"][stage]["organe"]["accuracy"] == accuracy == manifest.metrics[f"{stage}_accuracy"]
        assert manifest.metrics[f"{stage}_accuracy_low"] <= accuracy <= manifest.metrics[f"{stage}_accuracy_high"]
    difference = manifest.metrics["cpt_accuracy"] - manifest.metrics["base_accuracy"]
    assert manifest.metrics["difference_base_cpt"] == pytest.approx(difference)


def test_a_killed_run_goes_on_with_the_next_stage_and_gives_the_same_bytes(
    store: Store, score: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def killed_before_the_third(folder: Path, *args: object, **options: int) -> object:
        asked.append(folder.parents[2].name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer_questions(folder, *args, **options)

    monkeypatch.setattr(benchmark, "answer_questions", killed_before_the_third)
    with pytest.raises(KeyboardInterrupt):
        score()
    resumed = score()
    assert asked == ["base_models", "cpt_checkpoints", "merged_models", "merged_models"]
    monkeypatch.undo()
    store.__init__(str(tmp_path / "another_lake"))
    assert score().digest == resumed.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["Lunge"]}, "line 2: choices is"),
        ({"answer": 4}, "line 2: answer is 4; it must be the index of the right choice, 0 to 3"),
        ({"id": "q00"}, "line 2: the id 'q00' occurs twice"),
        ({"question": ""}, "line 2: 'question' must be a non-empty text"),
    ],
)
def test_a_faulty_question_is_refused_with_file_and_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "faulty.jsonl", [QUESTIONS[0], {**QUESTIONS[1], **change}])
    with pytest.raises(UserError, match=r"faulty\.jsonl") as refused:
        read_questions(Source(name="organe", location=str(file), digest=""))
    assert message in str(refused.value)


def test_a_prompt_with_an_unknown_field_is_refused_with_its_name(score: Callable[..., Manifest], questions_file: Path) -> None:
    benchmarks = {"organe": BenchmarkSettings(questions=str(questions_file), prompt="{{question}} {{options}}:")}
    with pytest.raises(UserError, match=r"benchmark organe: prompt .*'options' is undefined"):
        score(benchmarks=benchmarks)


def test_a_prompt_without_the_question_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt is 'Antwort:'"):
        BenchmarkSettings(questions="q.jsonl", prompt="Antwort:")


def test_a_tokenizer_that_ends_every_text_is_refused(
    micro_models: Callable[..., Path], questions_file: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(micro_models("mistral"), tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["post_processor"]["single"].append({"SpecialToken": {"id": "<|im_end|>", "type_id": 0}})
    tokenizer["post_processor"]["special_tokens"]["<|im_end|>"] = {"id": "<|im_end|>", "ids": [2], "tokens": ["<|im_end|>"]}
    file.write_text(json.dumps(tokenizer))
    questions = read_questions(Source(name="organe", location=str(questions_file), digest=""))
    settings = BenchmarkSettings(questions=str(questions_file), prompt=PROMPT)
    with pytest.raises(UserError, match="appends its end token"):
        answer_questions(tmp_path / "model", {"organe": (settings, questions)}, batch_size=4)


@pytest.mark.slow
def test_the_plain_lm_eval_command_gives_the_same_answers(
    micro_models: Callable[..., Path], tmp_path: Path, questions_file: Path
) -> None:
    """Without examples and with two; the model has a start token, which makes the tokenizer's part the harder one."""
    model = micro_models("mistral")
    benchmarks = {
        f"organe_{shots}": BenchmarkSettings(questions=str(questions_file), prompt=PROMPT, num_fewshot=shots) for shots in (0, 2)
    }
    (tmp_path / "tasks").mkdir()
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(questions_file)}}}
    for name, settings in benchmarks.items():
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump({**task_config(name, settings), **data}))
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}",
        "--tasks", ",".join(benchmarks), "--include_path", str(tmp_path / "tasks"), "--device", "cpu", "--batch_size", "4",
        "--output_path", str(tmp_path / "out"), "--log_samples",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    samples = {}
    for name in benchmarks:
        (file,) = (tmp_path / "out").rglob(f"samples_{name}_*.jsonl")
        samples |= {(name, (sample := json.loads(line))["doc"]["id"]): sample for line in file.read_text().splitlines()}

    questions = read_questions(Source(name="organe", location=str(questions_file), digest=""))
    answered = answer_questions(model, {name: (one, questions) for name, one in benchmarks.items()}, batch_size=4)
    assert len(answered) == len(samples) == 2 * len(QUESTIONS)
    for item in answered:
        sample = samples[item.benchmark, item.question.id]
        assert item.is_right == {"acc": bool(sample["acc"]), "acc_norm": bool(sample["acc_norm"])}
        expected = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
        assert list(item.log_likelihoods) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_payload_builds_from_its_spec_and_writes_nothing_into_the_users_home(
    store: Store, tmp_path: Path, stages: Callable[[str], list[Manifest]], questions_file: Path
) -> None:
    identity = identity_of(
        "benchmark_scores",
        section(questions_file),
        partition="qwen2",
        inputs=stages("qwen2"),
        sources={"benchmark/organe": str(questions_file)},
    )
    spec = Spec(lake=store.url, scratch=str(store.scratch), recipe="test", run_id="test", force=False, identities=(identity,))
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    (tmp_path / "home").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-m", "definemed_pipeline.evaluation.benchmark", "--spec", str(tmp_path / "spec.json")],
        env={**environment, "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "%|" not in done.stderr, "no progress bars beside the reports"
    assert store.require("test", "benchmark_scores", "qwen2").metrics["questions"] == len(QUESTIONS)
    assert list((tmp_path / "home").iterdir()) == []

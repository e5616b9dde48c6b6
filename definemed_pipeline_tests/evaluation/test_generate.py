import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest, Source
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation import generate
from definemed_pipeline.evaluation.answering import Answer, ChatModel
from definemed_pipeline.evaluation.examples import read_instructions
from definemed_pipeline.evaluation.generate import collect_responses
from definemed_pipeline.evaluation.settings import InstructionSetSettings, ResponsesSettings, TransformersGenerator
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import ARCHITECTURES, INSTRUCTIONS, write_lines

ASKED = [record["instruction"] for record in INSTRUCTIONS]


def answer(folder: Path, *, batch_size: int, max_new_tokens: int = 24) -> list[Answer]:
    return ChatModel(folder, max_new_tokens=max_new_tokens).answer(ASKED, batch_size=batch_size, report=lambda text: None)


@pytest.fixture
def respond(store: Store, instructions_file: Path, stages: Callable[[str], list[Manifest]]) -> Callable[..., Manifest]:
    def build(architecture: str = "qwen2", *, force: bool = False, **changes: Any) -> Manifest:
        sets = {"alltag": InstructionSetSettings(instructions=str(instructions_file))}
        return build_artifact(
            store,
            "responses",
            collect_responses,
            ResponsesSettings(
                **{"instruction_sets": sets, "max_new_tokens": 24, "generator": TransformersGenerator(batch_size=4), **changes}
            ),
            force=force,
            partition=architecture,
            inputs=stages(architecture),
            sources={"instructions/alltag": str(instructions_file)},
        )

    return build


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_in_padded_batches_are_those_of_each_prompt_alone(architecture: str, micro_models: Callable[..., Path]) -> None:
    folder = micro_models(architecture)
    alone = answer(folder, batch_size=1)
    assert len({item.text for item in alone}) > 1
    assert answer(folder, batch_size=4) == alone
    assert answer(folder, batch_size=len(ASKED)) == alone


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_the_greedy_continuation_of_the_chat_template(architecture: str, micro_models: Callable[..., Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = micro_models(architecture)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    start = "<s>" if architecture == "mistral" else ""
    for asked, found in zip(ASKED[:3], answer(folder, batch_size=4, max_new_tokens=8)[:3], strict=True):
        text = f"{start}<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        tokens = tokenizer.encode(text, add_special_tokens=False)
        said: list[int] = []
        while len(said) < 8 and 2 not in said:
            with torch.no_grad():
                said.append(int(model(torch.tensor([tokens + said])).logits[0, -1].argmax()))
        ended = said[-1] == 2
        said = said[:-1] if ended else said
        expected = Answer(text=tokenizer.decode(said, skip_special_tokens=True).strip(), tokens=len(said), is_ended=ended)
        assert found == expected


def test_an_answer_that_reaches_its_end_token_is_ended_and_one_cut_off_is_not(
    micro_models: Callable[..., Path], tmp_path: Path
) -> None:
    """The output layer of the copy is biased by a constant hidden feature, so that the end token wins at once or never."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for ends in (True, False):
        model = AutoModelForCausalLM.from_pretrained(micro_models("mistral"))
        with torch.no_grad():
            model.model.norm.weight.zero_()
            model.model.norm.weight[0] = 1.0
            sign = model.model(torch.tensor([[1]])).last_hidden_state[0, 0, 0].sign()
            model.model.embed_tokens.weight[:, 0] = 100 * sign  # outweighs whatever the layers add
            model.lm_head.weight.zero_()
            model.lm_head.weight[2 if ends else 50, 0] = sign
        folder = tmp_path / str(ends)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(micro_models("mistral")).save_pretrained(folder)
        answers = answer(folder, batch_size=4, max_new_tokens=6)
        assert {(item.tokens, item.is_ended) for item in answers} == {(0, True) if ends else (6, False)}


def test_the_settings_a_model_ships_with_do_not_change_its_answers(micro_models: Callable[..., Path], tmp_path: Path) -> None:
    """Some models ship a repetition penalty or sampling, which would act on the base and not on its stages."""
    import shutil

    shutil.copytree(micro_models("qwen2"), tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0})
    )
    assert answer(tmp_path / "model", batch_size=4) == answer(micro_models("qwen2"), batch_size=4)


def test_every_stage_answers_every_instruction(store: Store, respond: Callable[..., Manifest]) -> None:
    manifest = respond()
    rows = pl.read_parquet(Path(store.uri(manifest)) / "responses.parquet")
    assert rows.columns == generate.SCHEMA.names
    assert rows.group_by("stage").agg(pl.col("instruction_id").n_unique()).sort("stage").rows() == [
        ("base", len(INSTRUCTIONS)),
        ("cpt", len(INSTRUCTIONS)),
        ("merged", len(INSTRUCTIONS)),
    ]
    assert manifest.metrics["responses"] == 3 * len(INSTRUCTIONS)
    assert manifest.metrics["base_ended"] == rows.filter(stage="base")["is_ended"].mean()


def test_a_killed_run_computes_no_batch_twice_and_gives_the_same_bytes(
    store: Store, respond: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    compute = ChatModel._answer_batch

    def killed_before_the_fifth(self: ChatModel, prompts: list[list[int]]) -> list[Answer]:
        if len(computed) == 4:
            computed.append(0)
            raise KeyboardInterrupt
        computed.append(len(prompts))
        return compute(self, prompts)

    monkeypatch.setattr(ChatModel, "_answer_batch", killed_before_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        respond()
    resumed = respond()
    assert computed == [4, 4, 2, 4, 0, 4, 2, 4, 4, 2], "ten instructions of three stages, in batches of four"
    assert respond(force=True).digest == resumed.digest
    assert len(computed) == 10, "a forced evaluation computes nothing again"
    monkeypatch.undo()
    store.__init__(str(tmp_path / "another_lake"))  # type: ignore[misc]
    assert respond().digest == resumed.digest


def test_the_weights_are_not_loaded_for_answers_that_are_kept(
    respond: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = respond()
    monkeypatch.setattr(ChatModel, "network", property(lambda self: pytest.fail("loaded")))
    assert respond(force=True).digest == first.digest
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        respond(max_new_tokens=23)


def test_an_instruction_that_leaves_no_room_for_an_answer_is_refused(respond: Callable[..., Manifest]) -> None:
    with pytest.raises(UserError, match="max_new_tokens 250 exceeds the model's context of 256; lower max_new_tokens"):
        respond(max_new_tokens=250)


def test_a_model_without_a_chat_template_is_refused(micro_models: Callable[..., Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(micro_models("qwen2"), tmp_path / "model", ignore=shutil.ignore_patterns("*.jinja"))
    with pytest.raises(UserError, match="has no chat template"):
        answer(tmp_path / "model", batch_size=4)


def test_an_instruction_without_a_reference_is_refused_with_its_line(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "faulty.jsonl", [INSTRUCTIONS[0], {**INSTRUCTIONS[1], "reference": None}])
    with pytest.raises(UserError, match=r"faulty\.jsonl, line 2: 'reference' must be a non-empty text"):
        read_instructions(Source(name="alltag", location=str(file), digest=""))


def test_an_empty_instruction_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"empty\.jsonl holds no records"):
        read_instructions(Source(name="alltag", location=str(tmp_path / "empty.jsonl"), digest=""))


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"max_word": 5}, r"line 1: format is max_word; it is a mapping with any of max_words, list, table, json, pattern"),
        ("list", r"line 1: format is 'list'; it is a mapping"),
        ({"max_words": 0}, r"line 1: format\.max_words is 0; allowed: a number of words from 1"),
        ({"pattern": "("}, r"line 1: format\.pattern is '\('; allowed: a regular expression"),
    ],
)
def test_a_format_that_nobody_could_verify_is_refused(tmp_path: Path, declared: object, told: str) -> None:
    file = write_lines(tmp_path / "faulty.jsonl", [{**INSTRUCTIONS[0], "format": declared}])
    with pytest.raises(UserError, match=told):
        read_instructions(Source(name="alltag", location=str(file), digest=""))

"""Answers through an endpoint that serves the models: paid for once, and known by the version of the weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.chat.client import EndpointUnavailableError
from definemed_pipeline.evaluation.generate import collect_responses
from definemed_pipeline.evaluation.served import answer_by_endpoint
from definemed_pipeline.evaluation.settings import ChatGenerator, InstructionSetSettings, ResponsesSettings
from definemed_pipeline.evaluation.stages import STAGE_ASSETS
from definemed_pipeline.settings import as_json
from definemed_pipeline_tests.chat.endpoint import Endpoint, Reply, completion, running_endpoint
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import INSTRUCTIONS, MicroModel, write_lines


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running_endpoint() as running:
        yield running


@pytest.fixture
def respond(endpoint: Endpoint, store: Store, tmp_path: Path) -> Callable[..., Manifest]:
    records = [{**record, "instruction": f"Frage {number}?"} for number, record in enumerate(INSTRUCTIONS)]
    file = write_lines(tmp_path / "instructions.jsonl", records)

    def build(*, force: bool = False, weights: int = 0, **reached: Any) -> Manifest:
        generator = ChatGenerator(endpoint=endpoint.settings(**{"model": "{base_model}/{stage}", **reached}))
        section = ResponsesSettings(
            instruction_sets={"alltag": InstructionSetSettings(instructions=str(file))}, generator=generator, max_new_tokens=9
        )

        def put(draft: Any) -> None:
            (draft.folder / "weights").write_text(f"{draft.identity.asset} {draft.settings.seed}")

        stages = [
            build_artifact(store, asset, put, MicroModel(seed=weights), partition="qwen2") for asset in STAGE_ASSETS.values()
        ]
        assert ResponsesSettings.parse(as_json(section)) == section, "the payload reads what the recipe says"
        return build_artifact(
            store,
            "responses",
            collect_responses,
            section,
            partition="qwen2",
            inputs=stages,
            sources=section.sources(),
            force=force,
        )

    return build


def test_every_stage_is_asked_under_its_own_name_and_greedily(
    respond: Callable[..., Manifest], endpoint: Endpoint, store: Store
) -> None:
    manifest = respond(price_per_million_prompt_tokens=1.0)
    assert {body["model"] for body in endpoint.bodies} == {"qwen2/base", "qwen2/cpt", "qwen2/merged"}
    assert {(body["temperature"], body["max_tokens"]) for body in endpoint.bodies} == {(0.0, 9)}
    rows = pl.read_parquet(store.folder(manifest) / "responses.parquet")
    assert (rows["response"] == "answer to " + rows["instruction"]).all()
    assert rows["tokens"].to_list() == [3] * 30
    assert rows["is_ended"].all()
    assert (manifest.metrics["cpt_completion_tokens"], manifest.metrics["cpt_requests"]) == (30, 10)
    assert manifest.metrics["base_cost"] == pytest.approx(70 / 1e6)


def test_a_forced_evaluation_pays_nothing_and_new_weights_under_an_old_name_are_asked_anew(
    respond: Callable[..., Manifest], endpoint: Endpoint
) -> None:
    first = respond()
    assert respond(force=True).digest == first.digest
    assert len(endpoint.questions) == 30
    respond(weights=1)
    assert len(endpoint.questions) == 60


def test_an_endpoint_that_goes_away_in_the_middle_is_gone_on_with_and_paid_once(
    respond: Callable[..., Manifest], endpoint: Endpoint
) -> None:
    def until_the_fourteenth(question: str) -> Reply:
        return Reply(way="dropped") if len(endpoint.questions) > 14 else completion("Kiel.", prompt_tokens=1, completion_tokens=1)

    endpoint.reply = until_the_fourteenth
    with pytest.raises(EndpointUnavailableError, match="the answers so far are kept"):
        respond()
    before = len(endpoint.questions)
    endpoint.reply = lambda question: completion("Kiel.", prompt_tokens=1, completion_tokens=1)
    metrics = respond().metrics
    assert len(endpoint.questions) - before == 30 - 14
    assert metrics["base_cached"] + metrics["cpt_cached"] + metrics["merged_cached"] == 14


@pytest.mark.parametrize(
    ("reason", "tokens", "is_ended"),
    [("stop", 9, True), ("length", 9, False), ("", 9, False), ("", 4, True), ("length", 0, False)],
)
def test_an_answer_is_ended_where_the_endpoint_says_so_or_where_room_was_left(
    endpoint: Endpoint, tmp_path: Path, reason: str, tokens: int, is_ended: bool
) -> None:
    text = f'{{"choices": [{{"message": {{"content": " Kiel. "}}, "finish_reason": "{reason}"}}], "usage": {{"completion_tokens": {tokens}}}}}'
    endpoint.reply = lambda question: Reply(body=text.encode())
    settings = endpoint.settings()
    (found,), _ = answer_by_endpoint(settings, ["Wo?"], model_version="v", max_tokens=9, cache_folder=tmp_path, report=print)
    assert (found.text, found.tokens, found.is_ended) == ("Kiel.", tokens or None, is_ended)


def test_one_name_for_all_models_is_refused() -> None:
    with pytest.raises(ValueError, match="one model would answer for all"):
        ChatGenerator(endpoint=Endpoint(url="http://127.0.0.1:1/v1", reply=lambda _: Reply()).settings(model="m-{stage}"))

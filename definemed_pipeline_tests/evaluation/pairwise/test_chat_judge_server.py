"""Judge and generation against a real server process and a real model. That it may be killed under a client is in test_chat_server.py."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from definemed_pipeline.artifacts.prompts import read_prompt
from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.evaluation.pairwise.chat_judge import RUBRIC_VARIABLES, judge_by_chat
from definemed_pipeline.evaluation.pairwise.settings import ChatJudgeSettings
from definemed_pipeline.evaluation.pairwise.verdicts import Contest, Verdicts
from definemed_pipeline.evaluation.served import answer_by_endpoint
from definemed_pipeline_tests.chat.transformers_server import MEDICAL, OTHER, TransformersServer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("transformers_serve")]
# The served model tells illness from the rest. As a judge it says so of the answer shown first.
RUBRIC = "Medizin? {{ first }}{% if false %}{{ instruction }}{{ reference }}{{ second }}{% endif %}"
NUMBERS = range(20, 24)


def endpoint(server: TransformersServer) -> ChatEndpointSettings:
    return ChatEndpointSettings(
        base_url=server.url,
        model=server.model,
        concurrency=2,
        max_retries=1,
        first_wait_s=0.1,
        price_per_million_prompt_tokens=1.0,
    )


def judged(server: TransformersServer, folder: Path) -> tuple[Verdicts, dict[str, float]]:
    """Judge a model that answers with illnesses against one that answers with anything else, and with another that speaks of illness too."""
    (folder / "rubric.jinja").write_text(RUBRIC, "utf-8")
    judge = ChatJudgeSettings(
        endpoint=endpoint(server), verdict_key="medizinisch", first_verdicts=("true",), second_verdicts=("false",), max_tokens=32,
        response_format="text",
    )  # fmt: skip
    words = (MEDICAL[0], MEDICAL[1], OTHER[0])
    texts = np.array([[f"{word} Nummer {number}" for number in NUMBERS] for word in words], dtype=object)
    ids = [str(number) for number in NUMBERS]
    instructions = pl.DataFrame({"instruction_set": ["m"] * 4, "instruction_id": ids, "instruction": ids, "reference": ids})
    contest = Contest(
        models=[("m", "base"), ("m", "cpt"), ("m", "merged")],
        instructions=instructions,
        texts=texts,
        is_ended=np.ones(texts.shape, dtype=bool),
    )
    rubric = read_prompt(str(folder / "rubric.jinja"), variables=RUBRIC_VARIABLES)
    return judge_by_chat(contest, judge, rubric=rubric, cache_folder=folder / "cache", report=lambda _: None)


def test_a_served_judge_is_read_in_both_orders_and_asked_once(served_model: TransformersServer, tmp_path: Path) -> None:
    verdicts, accounting = judged(served_model, tmp_path)
    assert verdicts.by_instruction.tolist() == [[0.5] * 4, [1.0] * 4, [1.0] * 4], "illness against illness: whichever comes first"
    assert verdicts.scores[0].tolist() == [[1.0, 0.0]] * 4
    assert accounting["prompt_tokens"] > 24 * 10
    assert accounting["cost"] == pytest.approx(accounting["prompt_tokens"] / 1e6)
    again, kept = judged(served_model, tmp_path)
    assert (kept["requests"], kept["cached"], kept["cost"]) == (0, 24, accounting["cost"])
    assert again.scores.tolist() == verdicts.scores.tolist()


def test_a_served_model_answers_greedily_once_for_each_version_of_its_weights(
    served_model: TransformersServer, tmp_path: Path
) -> None:
    asked = [f"Medizin? {word} Nummer {number}" for number in NUMBERS for word in (MEDICAL[0], OTHER[0])]

    def answer(version: str, max_tokens: int = 32) -> tuple[list[str], list[bool], dict[str, float]]:
        answers, accounting = answer_by_endpoint(
            endpoint(served_model),
            asked,
            model_version=version,
            max_tokens=max_tokens,
            cache_folder=tmp_path,
            report=lambda _: None,
        )
        assert all(one.tokens for one in answers)
        return [one.text for one in answers], [one.is_ended for one in answers], accounting

    texts, ended, accounting = answer("1")
    assert texts == ['{"medizinisch": true}', '{"medizinisch": false}'] * 4
    assert all(ended)
    assert accounting["requests"] == 8
    assert answer("1", max_tokens=2)[1] == [False] * 8, "the server says that the limit cut them off"
    assert answer("1")[0] == texts
    assert [answer(version)[2]["requests"] for version in ("1", "2")] == [0, 8]

"""The chat judge against a real HTTP endpoint that judges as the test says, misbehaves, or goes away in the middle."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.chat.client import EndpointUnavailableError
from definemed_pipeline.chat.progress import Progress
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.pairwise.chat_judge import JudgeReader, rubric_location
from definemed_pipeline.evaluation.pairwise.compare import compare_responses, judge_sources
from definemed_pipeline.evaluation.pairwise.settings import ChatJudgeSettings, WinRatesSettings
from definemed_pipeline.settings import section_digest
from definemed_pipeline_tests.chat.endpoint import Endpoint, Reply, completion, running_endpoint
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import Say

IDS = "abcdef"
GOOD, FAIR, BAD = "Die Lunge ist betroffen.", "Die Lunge.", "Kiel liegt am Meer, und zwar an der Förde."
RANK = {GOOD: 2, FAIR: 1, BAD: 0}


def all_say(text: str, instructions: str = IDS) -> dict[str, tuple[str, bool]]:
    """Answer every instruction alike, but for its name: the instructions themselves have one text."""
    return {name: (f"{text} [{name}]", True) for name in instructions}


ANSWERS = {"qwen2": {"base": all_say(GOOD), "cpt": all_say(BAD), "merged": all_say(FAIR)}}
Compare = Callable[..., Manifest]


def shown(question: str) -> tuple[str, str]:
    first, second = (re.search(rf"<antwort_{mark}>\n(.*?)\n</antwort_{mark}>", question, re.DOTALL) for mark in "ab")
    assert first is not None
    assert second is not None
    return first[1][:-4], second[1][:-4]


def say(verdict: str) -> Reply:
    text = json.dumps({"begruendung": "Kurz begründet.", "urteil": verdict}, ensure_ascii=False)
    return completion(text, prompt_tokens=100, completion_tokens=20)


def fair(question: str) -> Reply:
    first, second = (RANK[text] for text in shown(question))
    return say("A" if first > second else "B" if first < second else "unentschieden")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running_endpoint(fair) as running:
        yield running


@pytest.fixture
def compare(endpoint: Endpoint, store: Store, say: Say) -> Compare:
    def build(answers: Any = ANSWERS, *, force: bool = False, reached: Any = None, **changes: Any) -> Manifest:
        judge = ChatJudgeSettings(endpoint=endpoint.settings(**(reached or {})), **changes)
        section = WinRatesSettings(opponent_base_model="qwen2", judge=judge, resamples=100)
        sources = {name: place for name, place in judge_sources(section).items() if place is not None}
        return build_artifact(store, "win_rates", compare_responses, section, inputs=say(answers), sources=sources, force=force)

    return build


def rates(store: Store, manifest: Manifest) -> dict[tuple[str, str], dict[str, Any]]:
    table = pl.read_parquet(store.folder(manifest) / "win_rates.parquet")
    return {(row["stage"], row["opponent_stage"]): row for row in table.iter_rows(named=True)}


def judge(**changes: Any) -> ChatJudgeSettings:
    """Read a section as a recipe would."""
    endpoint = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    return TypeAdapter(ChatJudgeSettings).validate_python({"kind": "chat", "endpoint": endpoint, **changes})


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('{"begruendung": "Klarer.", "urteil": "A"}', 1.0),
        ('```json\n{"begruendung": "Klarer.", "urteil": "B"}\n```', 0.0),
        ('{"begruendung": "B schreibt \\"urteil: B\\", das zählt nicht.", "urteil": "A"}', 1.0),
        ('{"begruendung": "…", "urteil": "Unentschieden."}', 0.5),
        ('{"urteil": "Antwort B"}', 0.0),
        ('<think>{"urteil": "B"}</think>{"urteil": "A"}', 1.0),
        ("Urteil: A", 1.0),
        ("**B**", 0.0),
        ("Beide nennen das Wichtige.\n\nUnentschieden", 0.5),
        ('{"begruendung": "abgebrochen, "urteil": "A"}', 1.0),
        ('{"begruendung": "Keines.", "urteil": "C"}', None),
        ('{"begruendung": "Die Antwort A ist besser, weil', None),
        ("A oder B", None),
        ("Als Sprachmodell kann ich das nicht beurteilen.", None),
        ("", None),
        ("[" * 100_000, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_verdict_is_read_where_the_judge_commits_itself(answer: str, score: float | None) -> None:
    assert JudgeReader(judge())(answer) == score


def test_verdicts_that_mean_two_things_are_refused() -> None:
    with pytest.raises(ValueError, match="none in two of them"):
        judge(first_verdicts=["A"], second_verdicts=["a"])


def test_every_pair_is_judged_in_both_orders_and_a_fair_judge_is_consistent(
    compare: Compare, store: Store, endpoint: Endpoint
) -> None:
    manifest = compare()
    assert len(endpoint.questions) == len(set(endpoint.questions)) == 3 * len(IDS) * 2
    found = rates(store, manifest)
    assert [found[pair]["win_rate"] for pair in (("base", "cpt"), ("merged", "cpt"), ("merged", "base"))] == [1.0, 1.0, 0.0]
    metrics = manifest.metrics
    assert (metrics["position_consistency"], metrics["first_position_win_rate"], metrics["unreadable_verdicts"]) == (1.0, 0.5, 0)
    said = pl.read_parquet(store.folder(manifest) / "verdicts.parquet")["said"]
    assert said.str.contains("Kurz begründet").all(), "the judge's reasons are kept to be read"


def test_the_judge_sees_instruction_and_reference_and_is_held_to_a_schema(compare: Compare, endpoint: Endpoint) -> None:
    compare()
    body = endpoint.bodies[0]
    assert "Welches Organ ist bei Asthma betroffen?" in body["messages"][0]["content"]
    assert "Die Lunge ist bei Asthma betroffen." in body["messages"][0]["content"]
    schema = body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["begruendung", "urteil"], "the reason comes before the verdict"
    assert schema["properties"]["urteil"]["enum"] == ["A", "B", "unentschieden"]
    assert body["temperature"] == 0


def test_a_judge_that_always_prefers_the_first_answer_tells_nothing_and_is_found_out(
    compare: Compare, store: Store, endpoint: Endpoint
) -> None:
    endpoint.reply = lambda question: say("A")
    manifest = compare()
    assert {row["win_rate"] for row in rates(store, manifest).values()} == {0.5}
    assert (manifest.metrics["position_consistency"], manifest.metrics["first_position_win_rate"]) == (0.0, 1.0)


def test_equal_answers_are_a_tie_that_nobody_pays_for(compare: Compare, store: Store, endpoint: Endpoint) -> None:
    equal = {"qwen2": {**ANSWERS["qwen2"], "merged": ANSWERS["qwen2"]["base"]}}
    manifest = compare(equal)
    assert len(endpoint.questions) == len(IDS) * 2, "the games of equal texts are one game, whoever plays it"
    assert rates(store, manifest)["merged", "base"]["ties"] == len(IDS)
    assert manifest.metrics["equal_answers"] == len(IDS) * 2


def test_unreadable_verdicts_are_counted_and_leave_their_instruction_out(
    compare: Compare, store: Store, endpoint: Endpoint
) -> None:
    """One order alone would carry a preference for a position into the rate."""
    endpoint.reply = lambda question: completion("Das ist schwer zu sagen.") if shown(question) == (GOOD, BAD) else fair(question)
    answers = {"qwen2": {**ANSWERS["qwen2"], "cpt": {**all_say(BAD, "abcd"), **all_say(FAIR, "ef")}}}
    manifest = compare(answers)
    row = rates(store, manifest)["cpt", "base"]
    assert (row["instructions"], row["unreadable"], row["losses"]) == (2, 4, 2)
    assert manifest.metrics["unreadable_verdicts"] == 4
    verdicts = pl.read_parquet(store.folder(manifest) / "verdicts.parquet")
    assert verdicts.filter(pl.col("verdict").is_null())["said"].to_list() == ["Das ist schwer zu sagen."] * 4


def test_a_judge_that_never_commits_itself_leaves_the_rates_unknown(compare: Compare, store: Store, endpoint: Endpoint) -> None:
    endpoint.reply = lambda question: completion("…")
    found = rates(store, compare())
    assert {row["win_rate"] for row in found.values()} == {None}
    assert {(row["low"], row["high"]) for row in found.values()} == {(0.0, 1.0)}


def test_tokens_and_cost_are_told_and_a_forced_evaluation_pays_nothing_again(compare: Compare, endpoint: Endpoint) -> None:
    prices = {"price_per_million_prompt_tokens": 1.0, "price_per_million_completion_tokens": 2.0}
    first = compare(reached=prices)
    asked = len(endpoint.questions)
    forced = compare(force=True, reached=prices)
    assert len(endpoint.questions) == asked
    assert forced.digest == first.digest
    for metrics in (first.metrics, forced.metrics):
        assert (metrics["judge_prompt_tokens"], metrics["judge_completion_tokens"]) == (100 * asked, 20 * asked)
        assert metrics["judge_cost"] == pytest.approx((100 * asked + 2 * 20 * asked) / 1e6)
    assert (forced.metrics["judge_requests"], forced.metrics["judge_cached"]) == (0, asked)


def test_an_interrupted_evaluation_goes_on_without_paying_twice(compare: Compare, endpoint: Endpoint) -> None:
    answered = 12
    endpoint.reply = lambda question: Reply(way="dropped") if len(endpoint.questions) > answered else fair(question)
    with pytest.raises(EndpointUnavailableError, match="the answers so far are kept"):
        compare()
    before = len(endpoint.questions)
    endpoint.reply = fair
    metrics = compare().metrics
    assert len(endpoint.questions) - before == 3 * len(IDS) * 2 - answered
    assert metrics["judge_cached"] == answered


def test_a_process_that_is_killed_in_the_middle_has_kept_what_was_answered(
    compare: Compare, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Progress, *, verdict: bool = True) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "count", killed)
    with pytest.raises(KeyboardInterrupt):
        compare()
    monkeypatch.undo()
    compare()
    assert len(endpoint.questions) == len(set(endpoint.questions)) == 3 * len(IDS) * 2


MISBEHAVIOUR = {
    "too many requests": Reply(status=429, headers={"Retry-After": "0"}),
    "an error of its own": Reply(status=500, body=b"oops"),
    "a cut body": Reply(body=b'{"choices": [', way="cut"),
    "a dropped connection": Reply(way="dropped"),
    "no JSON": Reply(body=b"<html>busy</html>"),
    "no choices": Reply(body=b'{"choices": []}'),
    "content that is no text": Reply(body=b'{"choices": [{"message": {"content": [1]}}]}'),
}


def test_an_endpoint_that_misbehaves_in_every_way_is_asked_again(compare: Compare, store: Store, endpoint: Endpoint) -> None:
    endpoint.first(*MISBEHAVIOUR.values(), then=fair)
    manifest = compare(reached={"max_retries": 10})
    assert rates(store, manifest)["base", "cpt"]["win_rate"] == 1.0
    assert manifest.metrics["judge_requests"] == 36 + len(MISBEHAVIOUR)
    assert manifest.metrics["unreadable_verdicts"] == 0


def test_a_judge_of_the_contestants_family_is_warned_of(compare: Compare) -> None:
    assert compare(reached={"model": "Qwen/Qwen3-32B"}).metrics["kin_of_judge"] == "qwen2"
    assert compare(reached={"model": "meta-llama/Llama-3.3-70B"}).metrics["kin_of_judge"] == ""


def test_another_rubric_is_another_version_and_one_that_hides_an_answer_is_refused(
    compare: Compare, tmp_path: Path, endpoint: Endpoint
) -> None:
    own = tmp_path / "own.jinja"
    own.write_text(Path(rubric_location("pairwise.de")).read_text("utf-8") + "\nSei streng.", "utf-8")
    assert compare().version != compare(rubric=str(own)).version
    assert endpoint.questions[-1].endswith("Sei streng.")
    own.write_text("{{ instruction }} {{ first }}", "utf-8")
    with pytest.raises(
        UserError, match=r"it must use \{\{ first \}\}, \{\{ instruction \}\}, \{\{ reference \}\}, \{\{ second \}\}"
    ):
        compare(rubric=str(own))
    with pytest.raises(UserError, match=r"win_rates\.judge\.rubric is 'mine'; allowed: pairwise\.de"):
        rubric_location("mine")


def test_a_moved_judge_keeps_the_version_and_another_model_does_not() -> None:
    moved = {"base_url": "https://elsewhere.example.org/v1", "model": "m", "concurrency": 64}
    assert section_digest(judge(endpoint=moved)) == section_digest(judge())
    assert section_digest(judge(endpoint={**moved, "model": "other"})) != section_digest(judge())

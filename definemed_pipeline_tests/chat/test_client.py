import email.utils
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.chat.cache import Answer
from definemed_pipeline.chat.client import AHEAD, ChatClient, Conversation, EndpointUnavailableError, Usage
from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import as_json
from definemed_pipeline_tests.chat.endpoint import Endpoint, Reply, completion, echo

KEY = "sk-test-0123456789"


def conversations(questions: Iterable[str]) -> list[Conversation]:
    return [[{"role": "user", "content": question}] for question in questions]


def ask(
    settings: ChatEndpointSettings, cache: Path, questions: Iterable[str], temperature: float = 0.0
) -> tuple[list[Answer], Usage]:
    with ChatClient(settings, cache) as client:
        return list(client.answers(conversations(questions), temperature=temperature, max_tokens=8)), client.usage


def texts(answers: Iterable[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def test_answers_come_in_the_order_of_the_questions_with_their_tokens_counted(endpoint: Endpoint, tmp_path: Path) -> None:
    questions = [f"q{i}" for i in range(3 * AHEAD)]
    answers, usage = ask(endpoint.settings(), tmp_path, questions)
    assert texts(answers) == [f"answer to {question}" for question in questions]
    count = len(questions)
    assert usage == Usage(requests=count, cached=0, prompt_tokens=7 * count, completion_tokens=3 * count)
    assert endpoint.bodies[0] == {
        "model": "m",
        "temperature": 0.0,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": endpoint.questions[0]}],
    }


def test_as_many_requests_as_the_recipe_says_are_under_way_and_no_more(endpoint: Endpoint, tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def reply(question: str) -> Reply:
        together.wait(timeout=30)
        return echo(question)

    endpoint.reply = reply
    answers, _ = ask(endpoint.settings(concurrency=3), tmp_path, map(str, range(12)))
    assert len(answers) == 12
    assert endpoint.most_at_a_time == 3


def test_a_second_run_pays_nothing_and_counts_the_same_tokens(endpoint: Endpoint, tmp_path: Path) -> None:
    first, paid = ask(endpoint.settings(), tmp_path, "abc")
    second, kept = ask(endpoint.settings(), tmp_path, "abc")
    assert second == first
    assert len(endpoint.questions) == 3
    assert kept == Usage(requests=0, cached=3, prompt_tokens=paid.prompt_tokens, completion_tokens=paid.completion_tokens)


def test_another_model_question_or_temperature_is_asked_anew_and_another_address_is_not(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    ask(endpoint.settings(), tmp_path, "a")
    ask(endpoint.settings(base_url=endpoint.url.replace("127.0.0.1", "localhost"), concurrency=1), tmp_path, "a")
    assert endpoint.questions == ["a"]
    ask(endpoint.settings(model="other"), tmp_path, "a")
    ask(endpoint.settings(), tmp_path, "b")
    ask(endpoint.settings(), tmp_path, "a", temperature=1.0)
    assert endpoint.questions == ["a", "a", "b", "a"]


def test_a_killed_process_loses_no_answer_that_was_paid_for(endpoint: Endpoint, tmp_path: Path) -> None:
    questions = [f"q{i}" for i in range(8)]
    held, release = threading.Event(), threading.Event()

    def reply(question: str) -> Reply:
        if question == "q5" and not release.is_set():
            held.set()
            release.wait(60)
        return echo(question)

    endpoint.reply = reply
    script = (
        "import json, pathlib, sys\n"
        "from definemed_pipeline.chat.client import ChatClient\n"
        "from definemed_pipeline.chat.settings import ChatEndpointSettings\n"
        "settings, cache, conversations = json.loads(sys.argv[1])\n"
        "with ChatClient(ChatEndpointSettings(**settings), pathlib.Path(cache)) as client:\n"
        "    list(client.answers(conversations, temperature=0.0, max_tokens=8))\n"
    )
    settings = endpoint.settings(concurrency=1)
    arguments = json.dumps([as_json(settings), str(tmp_path), conversations(questions)])
    with subprocess.Popen([sys.executable, "-c", script, arguments]) as process:
        assert held.wait(60)
        process.kill()
    release.set()
    answers, usage = ask(settings, tmp_path, questions)
    assert texts(answers) == [f"answer to {question}" for question in questions]
    assert usage.cached == 5
    assert endpoint.questions == [*questions[:6], *questions[5:]]


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=500, body=b"out of memory"),
        Reply(status=503),
        Reply(status=429),
        Reply(status=429, headers={"Retry-After": "soon"}),
        Reply(way="dropped"),
        Reply(way="cut"),
        Reply(body=b"<html>Welcome to the proxy</html>"),
        Reply(body=b"\xff\xfe\x00"),
        Reply(body=b"[" * 100_000),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"choices": [{"message": {"content": 7}}]}'),
        Reply(body=b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": Infinity}}'),
        Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda fault: f"{fault.way}-{fault.status}-{fault.body[:10]!r}",
)
def test_a_fault_that_passes_is_asked_again(endpoint: Endpoint, tmp_path: Path, fault: Reply) -> None:
    endpoint.first(fault)
    answers, usage = ask(endpoint.settings(), tmp_path, ["q"])
    assert texts(answers) == ["answer to q"]
    assert usage.requests == len(endpoint.questions) == 2


@pytest.mark.parametrize("way", ["silent", "dripping"])
def test_an_endpoint_that_keeps_us_waiting_is_hung_up_on_and_asked_again(endpoint: Endpoint, tmp_path: Path, way: str) -> None:
    endpoint.first(Reply(way=way))
    answers, usage = ask(endpoint.settings(timeout_s=1.0, max_retries=20), tmp_path, ["q"])
    assert texts(answers) == ["answer to q"]
    assert usage.requests >= 2


def test_an_answer_longer_than_any_real_one_is_not_read_to_its_end(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("definemed_pipeline.chat.client.LARGEST_BODY", 10_000)
    endpoint.reply = lambda _: completion("x" * 20_000)
    with pytest.raises(EndpointUnavailableError, match="longer than 10000 bytes"):
        ask(endpoint.settings(max_retries=0), tmp_path, ["q"])


def test_the_endpoint_is_left_alone_for_as_long_as_it_asks(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.first(Reply(status=429, headers={"Retry-After": "1"}))
    answers, _ = ask(endpoint.settings(), tmp_path, ["q"])
    assert texts(answers) == ["answer to q"]
    assert endpoint.arrivals[1] - endpoint.arrivals[0] >= 1


@pytest.mark.parametrize(
    "wish", ["86400", "9" * 400, email.utils.formatdate(time.time() + 86_400, usegmt=True)], ids=["seconds", "absurd", "date"]
)
def test_an_endpoint_that_asks_for_too_long_a_wait_is_given_up(endpoint: Endpoint, tmp_path: Path, wish: str) -> None:
    endpoint.first(Reply(status=429, headers={"Retry-After": wish}))
    with pytest.raises(EndpointUnavailableError, match="HTTP 429, asking to wait"):
        ask(endpoint.settings(), tmp_path, ["q"])
    assert len(endpoint.questions) == 1


def test_an_endpoint_that_stays_away_is_given_up_and_the_answers_so_far_are_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = lambda question: Reply(status=502) if question == "c" else echo(question)
    settings = endpoint.settings(concurrency=1, max_retries=2)
    with pytest.raises(EndpointUnavailableError, match="chat/completions was given up: HTTP 502") as given_up:
        ask(settings, tmp_path, "abcd")
    assert not isinstance(given_up.value, UserError)  # it may be retried
    assert endpoint.questions[:5] == ["a", "b", "c", "c", "c"]
    endpoint.reply, asked = echo, len(endpoint.questions)
    answers, _ = ask(settings, tmp_path, "abcd")
    assert texts(answers) == [f"answer to {question}" for question in "abcd"]
    assert not {"a", "b"} & set(endpoint.questions[asked:])


def test_a_place_where_nobody_listens_is_told_at_once_in_one_line(endpoint: Endpoint, tmp_path: Path) -> None:
    nobody = endpoint.settings(base_url="http://127.0.0.1:9/v1", max_retries=50, first_wait_s=60.0, longest_wait_s=60.0)
    with pytest.raises(
        EndpointUnavailableError, match=r"nobody listens at http://127.0.0.1:9/v1 \(ConnectError.*; start"
    ) as told:
        ask(nobody, tmp_path, map(str, range(20)))
    assert "\n" not in str(told.value)


def test_what_is_kept_needs_no_endpoint(endpoint: Endpoint, tmp_path: Path) -> None:
    first, _ = ask(endpoint.settings(), tmp_path, "abc")
    assert ask(endpoint.settings(base_url="http://127.0.0.1:9/v1"), tmp_path, "abc")[0] == first


def test_a_model_that_is_not_served_is_told_with_those_that_are(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.models = ["mixtral", "qwen"]
    endpoint.reply = lambda _: Reply(status=404, body=b"The model `m` does not exist.")
    with pytest.raises(UserError, match=r"HTTP 404 .*correct base_url or model; it lists the models mixtral, qwen") as told:
        ask(endpoint.settings(), tmp_path, "ab")
    assert "\n" not in str(told.value)


def test_a_model_that_is_served_but_not_listed_is_asked(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.models = ["another"]
    assert texts(ask(endpoint.settings(), tmp_path, "a")[0]) == ["answer to a"]


@pytest.mark.parametrize("models", [None, {"data": "?"}, [1, 2], {"silent": True}], ids=str)
def test_an_endpoint_that_lists_no_models_is_asked_all_the_same(
    endpoint: Endpoint, tmp_path: Path, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("definemed_pipeline.chat.client.PROBE_SECONDS", 0.2)
    endpoint.models = models
    assert texts(ask(endpoint.settings(), tmp_path, "ab")[0]) == ["answer to a", "answer to b"]


def test_the_answer_s_form_is_part_of_the_request_and_of_what_is_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    for form in (None, {"type": "json_object"}, {"type": "json_object"}):
        with ChatClient(endpoint.settings(), tmp_path) as client:
            list(client.answers(conversations("a"), temperature=0.0, max_tokens=8, response_format=form))
    assert [body.get("response_format") for body in endpoint.bodies] == [None, {"type": "json_object"}]


def test_costs_are_told_where_there_are_prices(endpoint: Endpoint, tmp_path: Path) -> None:
    priced = endpoint.settings(price_per_million_prompt_tokens=3.0, price_per_million_completion_tokens=5.0)
    for settings, expected in ((endpoint.settings(), {}), (priced, {"cost": pytest.approx(2 * (7 * 3 + 3 * 5) / 1e6)})):
        with ChatClient(settings, tmp_path) as client:
            list(client.answers(conversations("ab"), temperature=0.0, max_tokens=8))
            assert client.cost() == expected


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "api_key_env"), (403, "api_key_env"), (404, "base_url or model"), (400, "length"), (302, "base_url")],
)
def test_a_refused_request_names_endpoint_status_and_cure_and_is_not_repeated(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, cure: str
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    endpoint.reply = lambda _: Reply(status=status, body=f"Incorrect API key\nprovided: {KEY}.".encode())
    with pytest.raises(UserError, match=cure) as refusal:
        ask(endpoint.settings(api_key_env="TEST_KEY"), tmp_path, ["q"])
    assert endpoint.url in str(refusal.value)
    assert f"HTTP {status} (Incorrect API key provided: ***.)" in str(refusal.value)
    assert len(endpoint.questions) == 1


def test_a_refusal_ends_the_waits_of_the_others(endpoint: Endpoint, tmp_path: Path) -> None:
    busy = threading.Event()

    def reply(question: str) -> Reply:
        if question == "b":
            busy.set()
            return Reply(status=429, headers={"Retry-After": "40"})
        busy.wait(60)
        return Reply(status=401)

    endpoint.reply = reply
    with pytest.raises(UserError, match="HTTP 401"):
        ask(endpoint.settings(longest_wait_s=60.0), tmp_path, "ab")
    assert sorted(endpoint.questions) == ["a", "b"]


def test_the_key_is_sent_and_is_in_no_file_and_no_log(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")
    caplog.set_level(logging.DEBUG)
    endpoint.first(Reply(status=500, body=f"your key {KEY} met an error".encode()), Reply(way="dropped"))
    settings = endpoint.settings(api_key_env="TEST_KEY")
    with ChatClient(settings, tmp_path / "cache") as client:
        list(client.answers(conversations("abc"), temperature=0.0, max_tokens=8))
        files = [file.read_bytes() for file in (tmp_path / "cache").iterdir()]  # the write-ahead log too
    files += [file.read_bytes() for file in (tmp_path / "cache").iterdir()]
    assert endpoint.keys == {f"Bearer {KEY}"}
    assert any(b"answer to a" in file for file in files)
    assert "your key *** met an error" in caplog.text
    assert not any(KEY.encode() in file for file in files)
    assert KEY not in caplog.text


@pytest.mark.parametrize("value", [None, "", "two words", "schlüssel"])
def test_a_key_that_is_not_there_or_no_key_names_its_variable(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("TEST_KEY", raising=False)
    else:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(UserError, match="TEST_KEY") as refusal:
        ChatClient(endpoint.settings(api_key_env="TEST_KEY"), tmp_path)
    assert not value or value not in str(refusal.value)


@pytest.mark.parametrize("text", ["\ud800 lone surrogate", "NUL \x00", "", "Ä🩺"])
def test_whatever_a_model_says_is_kept_as_it_is(endpoint: Endpoint, tmp_path: Path, text: str) -> None:
    endpoint.reply = lambda _: completion(text)
    first, _ = ask(endpoint.settings(), tmp_path, ["q"])
    second, usage = ask(endpoint.settings(), tmp_path, ["q"])
    assert texts(first) == texts(second) == [text]
    assert (usage.cached, usage.prompt_tokens) == (1, 0)


def test_an_answer_without_content_is_empty(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.reply = lambda _: completion(None)
    assert texts(ask(endpoint.settings(), tmp_path, ["q"])[0]) == [""]

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from definemed_pipeline.artifacts.prompts import read_prompt
from definemed_pipeline.chat.client import AHEAD
from definemed_pipeline.corpus.annotation.chat_annotator import (
    PROMPT_VARIABLES,
    annotate_by_chat,
    prompt_location,
    verdict_reader,
)
from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import section_digest
from definemed_pipeline_tests.chat.endpoint import Endpoint, Reply, completion, running_endpoint
from definemed_pipeline_tests.corpus.streams import drained


def annotator(**changes: Any) -> ChatAnnotator:
    """Read a section as a recipe would."""
    endpoint = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    return TypeAdapter(ChatAnnotator).validate_python({"kind": "chat", "endpoint": endpoint, **changes})


READ = verdict_reader(annotator())


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"medizinisch": true}', True),
        ('{"medizinisch": false}', False),
        ('```json\n{\n  "medizinisch": false\n}\n```', False),
        ("{'medizinisch': True}", True),
        ('Gern! Hier ist meine Antwort: {"medizinisch": "ja"}', True),
        ('{"medizinisch": true, "sicher": false}', True),
        ('{"grund": "Ja, aber nur am Rande", "medizinisch": false}', False),
        ("**Medizinisch:** nein", False),
        ("Ja", True),
        ("nein.", False),
        ("**Nein**, der Text handelt von Fußball.", False),
        ("Antwort: Ja, er handelt von Asthma.", True),
        ("Der Text handelt von Asthma.\n\nJa.", True),
        ('Nein. Später: {"medizinisch": true}', False),
        ('<think>Ja? {"medizinisch": true}? Eher nicht.</think>\nNein', False),
        ('{"medizinisch": true oder false}\n{"medizinisch": false}', False),
    ],
)
def test_the_first_verdict_counts(answer: str, verdict: bool) -> None:
    assert READ(answer) is verdict


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n" * 1_000_000,
        "Das ist ja kein medizinischer Text.",
        "Das kann ich leider nicht beurteilen.",
        "Ja oder nein?",
        "Ja/Nein",
        "Ja, nein, vielleicht",
        "Jahrelang litt er an Asthma.",
        '{"medizinisch": true/false}',
        '{"medizinisch": vielleicht}',
        '{"medizinisch": tr',
        '{"medizinisch_relevant": true}',
        '{"nicht_medizinisch": true}',
        "nicht medizinisch: ja",
        '<think>Ja, vermutlich {"medizinisch": true}',
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_an_answer_without_a_verdict_is_not_guessed_at(answer: str) -> None:
    assert READ(answer) is None


@given(st.text(alphabet=st.sampled_from('janeitruflsmdzch{}":=*,./ \n')) | st.text())
def test_no_verdict_is_read_where_none_of_its_words_stands(answer: str) -> None:
    verdict = READ(answer)
    words = {True: ("ja", "true"), False: ("nein", "false")}.get(verdict, ("",))  # type: ignore[call-overload]
    assert any(word in answer.casefold() for word in words)


def test_verdicts_of_another_language_come_from_the_recipe() -> None:
    french = verdict_reader(
        annotator(verdict_key="juridique", positive_verdicts=["oui", "juridique"], negative_verdicts=["non", "non juridique"])
    )
    assert [french(answer) for answer in ('{"juridique": "oui"}', "Non juridique", "Juridique.", "Ja")] == [
        True,
        False,
        True,
        None,
    ]


def test_verdicts_that_mean_both_are_refused() -> None:
    with pytest.raises(ValueError, match="none in both"):
        annotator(positive_verdicts=["ja"], negative_verdicts=["Ja"])


def opinion(question: str) -> Reply:
    """What a model says about the document in the question: it knows asthma, and loses the thread over nonsense."""
    if "Unfug" in question:
        return completion("Als Sprachmodell finde ich das ja interessant.", prompt_tokens=10, completion_tokens=9)
    verdict = "true" if "Asthma" in question else "false"
    return completion(f'{{"medizinisch": {verdict}}}', prompt_tokens=10, completion_tokens=5)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running_endpoint(opinion) as running:
        yield running


def annotate(
    endpoint: Endpoint,
    cache: Path,
    texts: list[str | None],
    *,
    cut: int = 1000,
    prices: tuple[float, float] = (0, 0),
    **changes: Any,
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Label texts that come in frames of `cut` rows; return all labelled frames together, and the accounting."""
    documents = pl.DataFrame(
        {"id": [str(i) for i in range(len(texts))], "text": texts}, schema={"id": pl.String, "text": pl.String}
    )
    priced = {"price_per_million_prompt_tokens": prices[0], "price_per_million_completion_tokens": prices[1]}
    section = ChatAnnotator(endpoint=endpoint.settings(**priced), **changes)
    prompt = read_prompt(prompt_location(section.prompt), variables=PROMPT_VARIABLES)
    stream = annotate_by_chat(documents.iter_slices(cut), section, prompt=prompt, cache_folder=cache, report=REPORTS.append)
    frames, accounting = drained(stream)
    none = documents.clear().with_columns(annotator_score=pl.lit(None, pl.Float64), is_medical=pl.lit(None, pl.Boolean))
    return pl.concat([none, *frames]), accounting


REPORTS: list[str] = []
TEXTS = ["Asthma bei Kindern", "Das Spiel endete 2:1", "Unfug", None, "  ", "Asthma bei Kindern", "Unfug"]


def test_documents_are_labelled_in_their_order_and_those_without_a_verdict_are_not(endpoint: Endpoint, tmp_path: Path) -> None:
    labelled, metrics = annotate(endpoint, tmp_path, TEXTS)
    assert labelled.columns == ["id", "text", "annotator_score", "is_medical"]
    assert labelled["text"].to_list() == TEXTS
    assert labelled["is_medical"].to_list() == [True, False, None, None, None, True, None]
    assert labelled["annotator_score"].to_list() == [1.0, 0.0, None, None, None, 1.0, None]
    assert metrics == {
        "unparseable": 2,
        "without_text": 2,
        "requests": 3,
        "cached": 0,
        "prompt_tokens": 30,
        "completion_tokens": 19,
    }


def test_a_second_run_asks_nothing_and_labels_the_same(endpoint: Endpoint, tmp_path: Path) -> None:
    first, metrics = annotate(endpoint, tmp_path, TEXTS)
    second, again = annotate(endpoint, tmp_path, TEXTS)
    assert second.equals(first)
    assert len(endpoint.questions) == 3
    assert again == {**metrics, "requests": 0, "cached": 3}


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_how_the_documents_are_cut_into_frames_does_not_matter(endpoint: Endpoint, tmp_path: Path, cut: int) -> None:
    whole, _ = annotate(endpoint, tmp_path / "a", [None, *TEXTS, "Asthma"] * 5)
    parts, metrics = annotate(endpoint, tmp_path / "b", [None, *TEXTS, "Asthma"] * 5, cut=cut)
    assert parts.equals(whole)
    assert (metrics["unparseable"], metrics["without_text"]) == (10, 15)


def test_few_documents_are_taken_before_the_endpoint_has_room_for_them(endpoint: Endpoint, tmp_path: Path) -> None:
    """A million documents are labelled with no more in memory than the requests in hand."""
    section = ChatAnnotator(endpoint=endpoint.settings(concurrency=2))
    taken = finished = most = 0

    def frames() -> Iterator[pl.DataFrame]:
        nonlocal taken, most
        for number in range(300):
            taken += 1
            most = max(most, taken - finished)
            yield pl.DataFrame({"text": [f"Asthma {number}"]})

    prompt = read_prompt(prompt_location(section.prompt), variables=PROMPT_VARIABLES)
    for _ in annotate_by_chat(frames(), section, prompt=prompt, cache_folder=tmp_path, report=REPORTS.append):
        finished += 1
    assert finished == 300
    assert most <= AHEAD * 2 + 1


def test_tokens_are_priced_whether_they_were_paid_now_or_before(endpoint: Endpoint, tmp_path: Path) -> None:
    _, first = annotate(endpoint, tmp_path, TEXTS, prices=(0.5, 1.5))
    assert first["cost"] == pytest.approx((30 * 0.5 + 19 * 1.5) / 1e6)
    _, again = annotate(endpoint, tmp_path, TEXTS, prices=(0.5, 1.5))
    assert (again["cost"], again["requests"]) == (first["cost"], 0)


def test_progress_tells_answers_rate_and_cost(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("definemed_pipeline.chat.progress.SECONDS_BETWEEN_REPORTS", 0)
    REPORTS.clear()
    annotate(endpoint, tmp_path, TEXTS, prices=(1e6, 0))
    assert len(REPORTS) == 3
    assert re.fullmatch(r"3 answers, 1 of them without a verdict, [\d,.]+ documents/s, cost so far 30\.00", REPORTS[-1])


@pytest.mark.parametrize("kind", ["text", "json_object", "json_schema"])
def test_the_endpoint_is_asked_for_json_where_the_recipe_says_that_it_can(endpoint: Endpoint, tmp_path: Path, kind: str) -> None:
    annotate(endpoint, tmp_path, ["Asthma"], response_format=kind)
    asked = endpoint.bodies[0].get("response_format")
    assert (asked or {"type": "text"})["type"] == kind
    if kind == "json_schema":
        assert asked["json_schema"]["schema"]["properties"] == {"medizinisch": {"type": "boolean"}}


def test_another_way_to_answer_is_another_version_and_asked_anew(endpoint: Endpoint, tmp_path: Path) -> None:
    annotate(endpoint, tmp_path, ["Asthma"])
    _, metrics = annotate(endpoint, tmp_path, ["Asthma"], response_format="json_object")
    assert metrics["cached"] == 0
    assert section_digest(annotator(response_format="json_object")) != section_digest(annotator())


def test_no_document_is_no_request(endpoint: Endpoint, tmp_path: Path) -> None:
    labelled, metrics = annotate(endpoint, tmp_path, [])
    assert labelled.schema["is_medical"] == pl.Boolean
    assert (labelled.height, metrics["requests"], len(endpoint.questions)) == (0, 0, 0)


def test_the_model_is_shown_the_beginning_of_the_document_as_it_is(endpoint: Endpoint, tmp_path: Path) -> None:
    annotate(endpoint, tmp_path, [" <b>{{ 7 * 7 }}</b> Ärzte" + "x" * 100], max_characters=25)
    assert "<text>\n<b>{{ 7 * 7 }}</b> Ärztex\n</text>" in endpoint.questions[0]
    assert endpoint.bodies[0]["temperature"] == 0


def test_a_prompt_of_ones_own_is_used(endpoint: Endpoint, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("Asthma? {{ text }}", "utf-8")
    labelled, _ = annotate(endpoint, tmp_path, ["Fußball"], prompt=str(own))
    assert endpoint.questions == ["Asthma? Fußball"]
    assert labelled["is_medical"].to_list() == [True]


def test_a_prompt_that_is_not_packaged_names_those_that_are() -> None:
    with pytest.raises(UserError, match=r"'law'; allowed: .*medical_or_not\.de"):
        prompt_location("law")


@pytest.mark.parametrize("source", [b"Ist das medizinisch?", b"{{ document }}", b"{{ text", b"\xff\xfe", None])
def test_a_prompt_that_is_no_template_over_the_text_is_refused(tmp_path: Path, source: bytes | None) -> None:
    path = tmp_path / "prompt.jinja"
    if source is not None:
        path.write_bytes(source)
    with pytest.raises(UserError, match=r"prompt\.jinja"):
        read_prompt(str(path), variables=PROMPT_VARIABLES)


def test_a_moved_endpoint_keeps_the_version_and_another_model_does_not() -> None:
    moved = {"base_url": "https://elsewhere.example.org/v1", "model": "m", "concurrency": 64}
    assert section_digest(annotator(endpoint=moved)) == section_digest(annotator())
    assert section_digest(annotator(endpoint={**moved, "model": "other"})) != section_digest(annotator())

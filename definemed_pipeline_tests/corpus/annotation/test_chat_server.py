"""The chat annotator against a real server process and a real model, which may be killed under it."""

from collections.abc import Generator
from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline.artifacts.prompts import read_prompt
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.chat.client import EndpointUnavailableError
from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.corpus.annotation.annotations import annotate, annotator_sources
from definemed_pipeline.corpus.annotation.chat_annotator import PROMPT_VARIABLES, annotate_by_chat
from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator
from definemed_pipeline.corpus.settings import AnnotationSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.chat.transformers_server import (
    MEDICAL,
    OTHER,
    PROMPT,
    TransformersServer,
)
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.corpus.shard_files import documents, list_frames, register, write_shard
from definemed_pipeline_tests.corpus.streams import drained

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("transformers_serve")]
TEXTS = [f"{word} Nummer {number}" for number in range(20, 23) for word in (*MEDICAL, *OTHER)]


@pytest.fixture
def server(served_model: TransformersServer) -> TransformersServer:
    return served_model


def annotator(server: TransformersServer, folder: Path, **endpoint: object) -> ChatAnnotator:
    prompt = folder / "prompt.jinja"
    prompt.write_text(PROMPT, "utf-8")
    settings = {"model": server.model, "concurrency": 2, "max_retries": 1, "first_wait_s": 0.1, **endpoint}
    return ChatAnnotator(endpoint=ChatEndpointSettings(**{"base_url": server.url, **settings}), prompt=str(prompt))  # type: ignore[arg-type]


def labelling(section: ChatAnnotator, cache: Path) -> Generator[pl.DataFrame, None, dict[str, float]]:
    """Label TEXTS one by one."""
    frames = pl.DataFrame({"text": TEXTS}).iter_slices(1)
    return annotate_by_chat(
        frames, section, prompt=read_prompt(section.prompt, variables=PROMPT_VARIABLES), cache_folder=cache, report=lambda _: None
    )


def test_a_served_model_annotates_a_sample_with_tokens_and_cost_counted(
    server: TransformersServer, store: Store, tmp_path: Path
) -> None:
    section = annotator(server, tmp_path, price_per_million_prompt_tokens=1.0)
    shards = register(store, write_shard(tmp_path, "s", documents(TEXTS)))
    manifest = build_artifact(
        store,
        "annotations",
        annotate,
        AnnotationSettings(annotator=section, sample_size=100, hold_out_size=4, unlabelled_size=4),
        inputs=[*shards, *list_frames(store, shards)],
        sources=annotator_sources(section),
    )
    found = pl.read_parquet(store.folder(manifest) / "annotations.parquet")
    assert found.height == 20
    assert found["is_medical"].to_list() == [text.startswith(MEDICAL) for text in found["text"]]
    metrics = manifest.metrics
    assert (metrics["requests"], metrics["unparseable"], metrics["cached"]) == (20, 0, 0)
    assert metrics["prompt_tokens"] > 20 * 10
    assert metrics["completion_tokens"] >= 20 * 5
    assert metrics["cost"] == pytest.approx(metrics["prompt_tokens"] / 1e6)


def test_a_server_killed_in_the_middle_is_paid_for_nothing_twice(server: TransformersServer, tmp_path: Path) -> None:
    section = annotator(server, tmp_path)
    stream = labelling(section, tmp_path / "cache")
    before = [next(stream) for _ in range(5)]
    server.kill()
    with pytest.raises(EndpointUnavailableError, match="was given up: ConnectError"):
        drained(stream)
    server.start()
    frames, accounting = drained(labelling(section, tmp_path / "cache"))
    assert pl.concat(frames[:5]).equals(pl.concat(before))
    assert pl.concat(frames)["is_medical"].to_list() == [text.startswith(MEDICAL) for text in TEXTS]
    assert accounting["cached"] >= 5
    assert accounting["cached"] + accounting["requests"] == len(TEXTS)


def test_a_model_the_server_does_not_serve_is_told_in_one_line(server: TransformersServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"HTTP 400 .*requested 'other'.*correct base_url, model") as told:
        drained(labelling(annotator(server, tmp_path, model="other"), tmp_path / "cache"))
    assert "\n" not in str(told.value)


def test_a_server_that_was_not_started_is_told_in_one_line(tmp_path: Path) -> None:
    absent = TransformersServer(model="m", folder=tmp_path)
    with pytest.raises(EndpointUnavailableError, match=r"nobody listens at http://127\.0\.0\.1:\d+/v1 .*start the endpoint"):
        drained(labelling(annotator(absent, tmp_path), tmp_path / "cache"))

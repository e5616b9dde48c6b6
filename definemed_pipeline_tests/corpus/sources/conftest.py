from collections.abc import Iterator
from pathlib import Path

import pytest

from definemed_pipeline.corpus.sources import hub as client
from definemed_pipeline.corpus.sources.settings import ACCESS_VARIABLE, CACHE_VARIABLE, Fineweb2Source
from definemed_pipeline_tests.corpus.sources.hub_server import REPOSITORY, Hub, running_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that the environment names; our own waits are short, the client's are its own."""
    for variable in ("HF_TOKEN", ACCESS_VARIABLE, CACHE_VARIABLE, "DEFINEMED_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(client, "WAITS_SECONDS", (0.01,) * 3)
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def fineweb2(revision: str = "main", **changes: object) -> Fineweb2Source:
    return Fineweb2Source(repository=REPOSITORY, language="deu_Latn", revision=revision, **changes)

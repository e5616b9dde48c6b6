"""What every test may use: a lake in a temporary folder, a bucket, and one call that builds an artifact."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from definemed_pipeline.artifacts.build import Draft, build
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, Identity, Manifest, Source
from definemed_pipeline.artifacts.sources import identify
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.compute.environment import payload_environment
from definemed_pipeline.compute.forking import forked_payloads
from definemed_pipeline.settings import as_json, section_digest

if TYPE_CHECKING:
    from definemed_pipeline_tests.chat.transformers_server import TransformersServer

os.environ.update(payload_environment(1))  # before torch and polars are imported: several workers share the processors
RECIPE = "test"
hypothesis.settings.register_profile("shared machines", deadline=None)
hypothesis.settings.load_profile("shared machines")
REAL_TEXT = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Let all tests and the commands they start fork their payloads from one process, which imports its libraries once."""
    if not hasattr(config, "workerinput"):  # of pytest-xdist, whose workers inherit the environment
        payloads = ExitStack()
        payloads.enter_context(forked_payloads(threads=1))
        config.add_cleanup(payloads.close)


@pytest.fixture(autouse=True)
def environment_restored() -> Iterator[None]:
    """Give the next test the environment of this one: what evaluates a model goes offline for the rest of its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def served_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator["TransformersServer"]:
    """A real model behind a real server, shared by all tests of their xdist group; one that kills it starts it again."""
    from definemed_pipeline_tests.chat.transformers_server import transformers_server

    with transformers_server(tmp_path_factory.mktemp("server")) as server:
        server.start()
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Start moto's server on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(endpoint, timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        yield endpoint
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a fresh bucket, reachable through the environment as in production."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"lake-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket=name)
    return f"s3://{name}/lake"


def identity_of(
    asset: str,
    section: Any,
    *,
    partition: str = UNPARTITIONED,
    inputs: Iterable[Manifest] = (),
    sources: Mapping[str, str] | None = None,
    known_sources: Iterable[Source] = (),
    code_version: str = "1",
) -> Identity:
    """Return the identity of an artifact; `sources` maps names to locations, `known_sources` are identified already."""
    return Identity(
        asset=asset,
        partition=partition,
        code_version=code_version,
        settings=as_json(section),
        settings_digest=section_digest(section),
        inputs=tuple(manifest.as_input() for manifest in inputs),
        sources=(*(identify(name, location) for name, location in (sources or {}).items()), *known_sources),
    )


def build_artifact(
    store: Store,
    asset: str,
    work: Callable[[Draft[Any]], None],
    section: Any,
    *,
    force: bool = False,
    **identity: Any,
) -> Manifest:
    """Build (or reuse) one artifact with the real machinery, in this process."""
    return build(
        store, identity_of(asset, section, **identity), work, settings=section, recipe=RECIPE, run_id="test", force=force
    ).manifest


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "lake"))
    return Store(request.getfixturevalue("bucket"), scratch=tmp_path / "scratch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not REAL_TEXT.exists():
        skip = pytest.mark.skip(reason=f"the sample of real German text is not at {REAL_TEXT}")
        for item in items:
            if "real_text" in item.keywords:
                item.add_marker(skip)

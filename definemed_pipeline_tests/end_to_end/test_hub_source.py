"""A gated dataset of the Hub through the command line: listed, copied, registered, refreshed, and its token seen nowhere."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from definemed_pipeline_tests.corpus.sources.hub_server import REPOSITORY, Hub, running_hub
from definemed_pipeline_tests.end_to_end.conftest import MICRO, Workplace, new_workplace

TOKEN = "hf_thisTokenMustNeverBeSeen"
SELECT = ("--select", "source_files", "--select", "fineweb2_shards", "--select", "sampling_frames")


def web(number: int) -> dict[str, bytes]:
    with fsspec.open(f"demo://web/000_0000{number}.parquet") as file:
        return {f"000_0000{number}.parquet": file.read()}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        running.token = TOKEN
        running.commit(web(0))
        yield running


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    workplace = new_workplace(tmp_path / "work")
    recipe = workplace.folder / "my.yaml"
    source = f"{{kind: fineweb2, repository: {REPOSITORY}, language: deu_Latn, revision: main}}"
    recipe.write_text(f"extends: {MICRO}\nname: mine\nsource: {source}\n", "utf-8")
    return Workplace(folder=workplace.folder, recipe=str(recipe))


def test_a_branch_is_listed_and_read_once_and_a_new_file_becomes_one_more_shard(hub, workplace):
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    run = ("run", "--recipe", workplace.recipe, *SELECT)
    outputs = [workplace.definemed(*run, env=environment).stdout]
    first = workplace.artifacts()
    fetched = len(hub.asked("cdn"))
    outputs.append(workplace.definemed(*run, env=environment).stdout)
    assert (fetched, len(hub.asked("cdn"))) == (1, 1)
    assert workplace.digests() == {key: manifest.digest for key, manifest in first.items()}
    assert len(hub.asked("tree")) == 1

    hub.commit(web(1))
    outputs.append(workplace.definemed(*run, "--select", "annotations", env=environment).stdout)
    after = workplace.artifacts()
    assert {partition for asset, partition in after if asset == "fineweb2_shards"} == {"000_00000", "000_00001"}
    assert after["fineweb2_shards", "000_00000"].version == first["fineweb2_shards", "000_00000"].version
    assert after["source_files", "_"].version != first["source_files", "_"].version
    assert len(hub.asked("cdn")) == 2

    assert {request.token for request in hub.requests} == {TOKEN, None}
    assert TOKEN not in "".join(outputs)
    assert not [path for path in workplace.folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_missing_token_is_told_before_anything_runs(hub, workplace):
    done = workplace.definemed("run", "--recipe", workplace.recipe, check=False, env={"HF_ENDPOINT": hub.url, "HF_TOKEN": ""})
    told = done.stdout + done.stderr
    assert done.returncode == 2
    assert "HTTP 401, needs a token, or does not exist: set HF_TOKEN" in told
    assert len(told.strip().splitlines()) == 1

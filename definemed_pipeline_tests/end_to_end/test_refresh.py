"""The refresh with the real daemon: the schedule lists, the sensor follows, one new file enters the corpus, models grow stale and rest."""

import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

import definemed_pipeline.demo.filesystem  # noqa: F401  registers demo://
from definemed_pipeline.compute.forking import ADDRESS
from definemed_pipeline_tests.end_to_end.conftest import Workplace
from definemed_pipeline_tests.end_to_end.ui import LOCATION, Ask, dagster_dev, wait_until

pytestmark = pytest.mark.xdist_group("daemon")  # one worker starts the UI once; both wait more than they compute

RECIPE = """
extends: {micro}
name: micro
source: {{files: [{web}/*.parquet]}}
refresh: {{cron: "* * * * *"}}
"""


def test_a_new_file_enters_the_corpus_once_and_models_only_grow_stale(
    finished: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS)  # payloads are interpreters of their own, as those of the real daemon
    workplace = with_local_files(finished, tmp_path, ["000_00000", "000_00001"])
    before = workplace.artifacts()
    with dagster_dev(workplace) as ask:
        start(ask, "Schedule", "weekly_refresh")
        start(ask, "Sensor", "corpus_refresh")
        assert "no news: FineMed-de is built from all 2 files" in wait_until(lambda: skip_reason(ask, "no news"))
        copy_shard(workplace, "000_00002")
        wait_until(lambda: "000_00002" in shards_of_the_corpus(workplace))
        assert "from all 3 files" in wait_until(lambda: skip_reason(ask, "from all 3 files"))
        assert stale(ask, "cpt_corpus", "demo-qwen2") == "STALE"
        started = runs(ask)
    after = workplace.artifacts()
    assert {name for name, _ in started} <= {"list_source", "refresh_shards", "assemble_corpus"}
    assert [name for name, _ in started].count("refresh_shards") == [name for name, _ in started].count("assemble_corpus") == 1
    assert {status for name, status in started if name != "list_source"} == {"SUCCESS"}
    new = {("fineweb2_shards", "000_00002"), ("classifier_scores", "000_00002"), ("finemed_de", "_")}
    assert new <= {key for key in after if key not in before or after[key].digest != before[key].digest}
    touched = {
        asset
        for asset, partition in after
        if (asset, partition) not in before or after[asset, partition] != before[asset, partition]
    }
    assert touched == {
        "source_files",
        "fineweb2_shards",
        "classifier_scores",
        "medical_documents",
        "benchmark_leaks",
        "finemed_de",
    }


def with_local_files(finished: Workplace, folder: Path, shards: list[str]) -> Workplace:
    """Return a copy of the finished graph whose recipe reads the same files from a folder: their bytes are the same, so all is reused."""
    shutil.copytree(finished.folder, folder / "copy", symlinks=True)
    recipe = folder / "copy" / "local.yaml"
    recipe.write_text(RECIPE.format(micro=finished.recipe, web=folder / "copy" / "web"), "utf-8")
    workplace = Workplace(folder=folder / "copy", recipe=str(recipe))
    for shard in shards:
        copy_shard(workplace, shard)
    return workplace


def copy_shard(workplace: Workplace, shard: str) -> None:
    web = workplace.folder / "web"
    web.mkdir(exist_ok=True)
    with fsspec.open(f"demo://web/{shard}.parquet", "rb") as file:
        (web / f"{shard}.partial").write_bytes(file.read())
    (web / f"{shard}.partial").rename(web / f"{shard}.parquet")


def start(ask: Ask, kind: str, name: str) -> None:
    """Switch a schedule or a sensor on, as the page Automation does."""
    selector = {**LOCATION, f"{kind.lower()}Name": name}
    argument = "sensorSelector" if kind == "Sensor" else "scheduleSelector"
    answer = ask(
        f"mutation($s: {kind}Selector!) {{ start{kind}({argument}: $s) {{ __typename ... on PythonError {{ message }} }} }}",
        s=selector,
    )[f"start{kind}"]
    assert answer["__typename"] in ("Sensor", "ScheduleStateResult"), answer


def skip_reason(ask: Ask, wanted: str) -> str | None:
    """Return the sensor's latest reason to do nothing that holds some words."""
    sensor = ask(
        """query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor {
             sensorState { ticks(limit: 20) { skipReason } } } } }""",
        s={**LOCATION, "sensorName": "corpus_refresh"},
    )["sensorOrError"]
    reasons = [tick["skipReason"] or "" for tick in sensor["sensorState"]["ticks"]]
    return next((reason for reason in reasons if wanted in reason), None)


def shards_of_the_corpus(workplace: Workplace) -> set[str]:
    return {one.partition for one in workplace.artifacts()["finemed_de", "_"].identity.inputs}


def stale(ask: Ask, asset: str, partition: str) -> str:
    nodes: list[dict[str, Any]] = ask(
        "query($k: [AssetKeyInput!], $p: [String!]) { assetNodes(assetKeys: $k) { staleStatusByPartition(partitions: $p) } }",
        k=[{"path": [asset]}],
        p=[partition],
    )["assetNodes"]
    return str(nodes[0]["staleStatusByPartition"][0])


def runs(ask: Ask) -> list[tuple[str, str]]:
    """Return job and status of every run that the daemon started."""
    found = ask("{ runsOrError { ... on Runs { results { jobName status tags { key } } } } }")["runsOrError"]["results"]
    automatic = ("dagster/schedule_name", "dagster/sensor_name")
    return [(run["jobName"], run["status"]) for run in found if any(tag["key"] in automatic for tag in run["tags"])]

"""The UI: `dagster dev` on the instance a shell run left, driven through the webserver's GraphQL as the pages drive it."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from definemed_pipeline_tests.end_to_end.conftest import Workplace
from definemed_pipeline_tests.end_to_end.ui import (
    LOCATION,
    Ask,
    dagster_dev,
    finished_backfill,
    launch_forced_backfill,
    wait_until,
)

pytestmark = pytest.mark.xdist_group("daemon")  # one worker starts the UI once; both wait more than they compute


@pytest.fixture(scope="module")
def workplace(finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("ui") / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Workplace(folder=folder, recipe=finished.recipe)


@pytest.fixture(scope="module")
def ask(workplace: Workplace) -> Iterator[Ask]:
    with dagster_dev(workplace) as ask:
        yield ask


def key(asset: str) -> dict[str, list[str]]:
    return {"path": [asset]}


def test_everything_the_shell_built_is_there_to_see(ask):
    nodes = ask(
        """{ assetNodes { assetKey { path } groupName description partitionStats { numMaterialized numPartitions }
             assetMaterializations(limit: 1) { metadataEntries { label __typename } } } }"""
    )["assetNodes"]
    assert len(nodes) == 21
    for node in nodes:
        assert node["assetMaterializations"], node["assetKey"]
        labels = {entry["label"] for entry in node["assetMaterializations"][0]["metadataEntries"]}
        assert {"artifact", "version", "bytes"} <= labels
        if stats := node["partitionStats"]:
            assert stats["numMaterialized"] == stats["numPartitions"] == 2


def test_pictures_are_where_people_would_rather_look(ask):
    nodes = ask(
        """{ assetNodes { assetKey { path } assetMaterializations(limit: 1) {
             metadataEntries { label ... on MarkdownMetadataEntry { mdStr } } } } }"""
    )["assetNodes"]
    with_picture = {
        node["assetKey"]["path"][0]
        for node in nodes
        for entry in node["assetMaterializations"][0]["metadataEntries"]
        if "data:image/png;base64," in (entry.get("mdStr") or "")
    }
    assert {
        "classifier_scores",
        "cpt_checkpoints",
        "merged_models",
        "benchmark_scores",
        "win_rates",
        "failure_modes",
    } <= with_picture


def test_an_asset_is_materialized_again_by_hand(ask, workplace):
    before = workplace.artifacts()["win_rates", "_"]
    launched = ask(
        """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
             __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
        p={
            "selector": {
                **LOCATION,
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [key("win_rates")],
            },
            "executionMetadata": {"tags": [{"key": "definemed/force", "value": "true"}]},
            "runConfigData": {},
            "mode": "default",
        },
    )["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    def status() -> str | None:
        found = ask("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)["runOrError"]["status"]
        return found if found in ("SUCCESS", "FAILURE", "CANCELED") else None

    assert wait_until(status) == "SUCCESS"
    after = workplace.artifacts()["win_rates", "_"]
    assert after.digest == before.digest
    assert after.provenance.run_id == run_id


def test_one_base_model_is_backfilled(ask, workplace):
    before = workplace.digests()
    assets = ["cpt_corpus", "cpt_checkpoints", "merge_sweep", "merged_models"]
    backfill = launch_forced_backfill(ask, assets, "demo-qwen2")
    assert wait_until(lambda: finished_backfill(ask, backfill)) == "COMPLETED_SUCCESS"
    after = workplace.artifacts()
    assert workplace.digests() == before
    runs = {after[asset, "demo-qwen2"].provenance.run_id for asset in assets}
    others = {after[asset, "demo-mistral"].provenance.run_id for asset in assets}
    assert not runs & others


def test_the_job_everything_requests_a_backfill_of_the_whole_graph(ask):
    launched = ask(
        """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
             __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
        p={"selector": {**LOCATION, "pipelineName": "everything"}, "runConfigData": {}, "mode": "default"},
    )["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    backfill_id = launched["run"]["runId"][:8]

    def requested() -> dict[str, Any] | None:
        found = ask(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
                 __typename ... on PartitionBackfill { status assetSelection { path } } } }""",
            id=backfill_id,
        )["partitionBackfillOrError"]
        return found if found["__typename"] == "PartitionBackfill" else None

    backfill = wait_until(requested)
    assert len(backfill["assetSelection"]) == 21
    assert backfill["status"] in ("REQUESTED", "COMPLETED_SUCCESS")
    ask("mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }", id=backfill_id)
    assert wait_until(lambda: finished_backfill(ask, backfill_id)) in ("CANCELED", "COMPLETED_SUCCESS")

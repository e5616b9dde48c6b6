"""The UI: `dagster dev` on the instance a shell run left, driven through the webserver's GraphQL as the pages drive it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from definemed_pipeline_tests.end_to_end.conftest import PROJECT, Workplace

LOCATION = {"repositoryLocationName": "definemed_pipeline", "repositoryName": "__repository__"}
PATIENCE_SECONDS = 240
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def workplace(finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    import shutil

    folder = tmp_path_factory.mktemp("ui") / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Workplace(folder=folder, recipe=finished.recipe)


@pytest.fixture(scope="module")
def ask(workplace: Workplace) -> Iterator[Ask]:
    """Start the UI as `make ui` does and return a way to ask its GraphQL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    environment = {**workplace.environment, "DEFINEMED_RECIPE": workplace.recipe}
    log = (workplace.folder / "ui.log").open("wb")
    server = subprocess.Popen(command, cwd=workplace.folder, env=environment, stdout=log, stderr=log, start_new_session=True)

    def query(text: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer["data"]

    try:
        wait_until(lambda: answers(query))
        yield query
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def answers(query: Ask) -> bool:
    try:
        return bool(query("{ assetNodes { assetKey { path } } }")["assetNodes"])
    except OSError:
        return False


def wait_until(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := done():
            return found
        time.sleep(1)
    raise AssertionError("waited in vain")


def key(asset: str) -> dict[str, list[str]]:
    return {"path": [asset]}


def finished_backfill(ask: Ask, backfill_id: str) -> str | None:
    status = ask(
        "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
        id=backfill_id,
    )["partitionBackfillOrError"]["status"]
    return status if status not in ("REQUESTED", "CANCELING", "FAILING") else None


def test_everything_the_shell_built_is_there_to_see(ask):
    nodes = ask(
        """{ assetNodes { assetKey { path } groupName description partitionStats { numMaterialized numPartitions }
             assetMaterializations(limit: 1) { metadataEntries { label __typename } } } }"""
    )["assetNodes"]
    assert len(nodes) == 16
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
    assets = ["cpt_corpus", "cpt_checkpoints", "merged_models"]
    launched = ask(
        """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
             __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        p={
            "assetSelection": [key(asset) for asset in assets],
            "partitionNames": ["demo-qwen2"],
            "tags": [{"key": "definemed/force", "value": "true"}],
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    assert wait_until(lambda: finished_backfill(ask, launched["backfillId"])) == "COMPLETED_SUCCESS"
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
    assert len(backfill["assetSelection"]) == 16
    assert backfill["status"] in ("REQUESTED", "COMPLETED_SUCCESS")
    ask("mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }", id=backfill_id)
    assert wait_until(lambda: finished_backfill(ask, backfill_id)) in ("CANCELED", "COMPLETED_SUCCESS")

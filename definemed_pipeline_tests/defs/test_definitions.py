"""The graph's public surface: it changes on purpose, with the snapshot beside this file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from definemed_pipeline.definitions import build_definitions
from definemed_pipeline.defs.jobs import CORPUS, MODELS

SNAPSHOT = Path(__file__).parent / "definitions.json"


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions()


def surface(definitions: dg.Definitions) -> dict:
    """Return what a user of the graph sees: assets with their dependencies, partitions and checks; jobs; sensors."""
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": {
            key.to_user_string(): {
                "group": graph.get(key).group_name,
                "kinds": sorted(graph.get(key).kinds),
                "owners": sorted(graph.get(key).owners),
                "depends_on": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
                "partitions": getattr(graph.get(key).partitions_def, "name", None)
                or (type(graph.get(key).partitions_def).__name__ if graph.get(key).partitions_def else None),
                "blocking_checks": sorted(
                    check.name for check in graph.get_check_keys_for_assets({key}) if graph.get(check).blocking
                ),
            }
            for key in sorted(graph.get_all_asset_keys())
        },
        "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
    }


def test_the_graph_is_the_one_in_the_snapshot(definitions):
    """Set UPDATE_SNAPSHOTS=1 to write the snapshot anew, and read its difference before you commit it."""
    found = surface(definitions)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    assert found == json.loads(SNAPSHOT.read_text("utf-8"))


def test_every_asset_tells_a_newcomer_what_it_is(definitions):
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert len(node.description or "") > 60, key
        assert node.code_version, key
        assert node.owners, key
        assert node.kinds, key


def test_the_three_jobs_cover_the_graph(definitions):
    graph = definitions.resolve_asset_graph()
    assert (CORPUS | MODELS).resolve(graph) == set(graph.get_all_asset_keys())
    assert not CORPUS.resolve(graph) & MODELS.resolve(graph)


def test_loading_the_graph_says_nothing():
    command = [sys.executable, "-c", "import definemed_pipeline.definitions"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""

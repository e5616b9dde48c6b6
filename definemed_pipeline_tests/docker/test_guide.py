"""docs/kubernetes.md: what it names is there."""

import dataclasses
import re

import pytest

from definemed_pipeline_tests.docker.files import MANIFESTS, REPOSITORY

GUIDE = (REPOSITORY / "docs" / "kubernetes.md").read_text("utf-8")


def test_every_file_it_names_exists():
    linked = {REPOSITORY / "docs" / path for path in re.findall(r"\]\((\.\./[^)#]+)\)", GUIDE)}
    used = {REPOSITORY / path for path in re.findall(r"(?<!\.\./)\bdocker/[\w/.-]+\.(?:yaml|sh)", GUIDE)}
    assert len(linked) >= 4
    assert len(used) >= 10
    assert not [path for path in linked | used if not path.exists()]


def test_every_manifest_is_applied_by_one_of_its_commands():
    for path in MANIFESTS.glob("*.yaml"):
        if path.name not in ("values.yaml", "recipe.yaml"):
            assert f"-f docker/kubernetes/{path.name}" in GUIDE, path.name


def test_every_headline_it_links_to_exists():
    anchors = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in GUIDE.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors


def test_every_key_of_a_payloads_pod_is_explained():
    settings = pytest.importorskip("definemed_pipeline.compute.kubernetes.settings")
    first_cells = [line.split("|")[1] for line in GUIDE.splitlines() if line.startswith("| `")]
    explained = {key for cell in first_cells for key in re.findall(r"`([a-z_]+)`", cell)}
    assert {field.name for field in dataclasses.fields(settings.PodSettings)} <= explained


def test_the_chart_is_installed_in_the_version_of_the_library():
    (version,) = re.findall(r"dagster/dagster --version (\S+)", GUIDE)
    assert f"dagster=={version}\n" in (REPOSITORY / "constraints.txt").read_text("utf-8")

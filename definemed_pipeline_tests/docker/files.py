"""The files of docker/ as the tests read them."""

import re
from pathlib import Path
from typing import Any

import yaml

import definemed_pipeline

REPOSITORY = Path(definemed_pipeline.__file__).resolve().parents[1]
DOCKER = REPOSITORY / "docker"
MANIFESTS = DOCKER / "kubernetes"
NOT_APPLIED = {"values.yaml", "recipe.yaml"}  # for Helm and for definemed
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::?(?P<kind>[-?])(?P<text>[^}]*))?\}")


def objects() -> list[tuple[str, dict[str, Any]]]:
    """Return every object that is applied to a cluster, with the file it stands in."""
    files = [path for path in sorted(MANIFESTS.glob("*.yaml")) if path.name not in NOT_APPLIED]
    return [(path.name, one) for path in files for one in yaml.safe_load_all(path.read_text("utf-8"))]


def objects_of(kind: str) -> list[dict[str, Any]]:
    return [one for _, one in objects() if one["kind"] == kind]


def pod_specs() -> list[tuple[str, dict[str, Any]]]:
    """Return every pod that the manifests start."""
    return [
        (f"{name}/{one['metadata']['name']}", one["spec"]["template"]["spec"])
        for name, one in objects()
        if "template" in one.get("spec", {})
    ]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions with their arguments, comments left out and continued lines joined."""
    lines = [line for line in dockerfile.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]

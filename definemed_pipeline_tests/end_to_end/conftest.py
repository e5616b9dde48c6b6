"""The micro graph, run once for all tests of this folder and all workers through the real command, and ways to run it again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.compute.forking import ADDRESS
from definemed_pipeline.recipe import load_recipe

HERE = Path(__file__).parent
MICRO = HERE / "micro.yaml"
PROJECT = HERE.parents[1]
PATIENCE_SECONDS = 900


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder as slow, and give them time to wait for the micro graph that another worker builds."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1500))


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A working directory as a user has one: `lake/`, `.dagster/` and a recipe."""

    folder: Path
    recipe: str

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key == ADDRESS or not key.startswith(("DAGSTER", "DEFINEMED"))}
        return {**kept, "DAGSTER_HOME": str(self.folder / ".dagster"), "PYTHONUNBUFFERED": "1"}

    def definemed(
        self, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "definemed_pipeline.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command line in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "definemed_pipeline.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def artifacts(self) -> dict[tuple[str, str], Manifest]:
        """Return the latest artifact of each asset and partition."""
        name = load_recipe(self.recipe).name
        found = {}
        for pointer in self.lake.glob(f"*/*/latest-{name}.json"):
            asset, partition = pointer.parts[-3:-1]
            version = json.loads(pointer.read_text())["version"]
            manifest = Store(str(self.lake)).manifest(asset, partition, version)
            assert manifest is not None
            found[asset, partition] = manifest
        return found

    def digests(self) -> dict[tuple[str, str], str]:
        return {key: manifest.digest for key, manifest in self.artifacts().items()}


def new_workplace(folder: Path, recipe: Path = MICRO) -> Workplace:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "dagster.yaml", folder / "dagster.yaml")
    return Workplace(folder=folder, recipe=str(recipe))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The micro graph, complete, built by two commands at once. Tests read it; those that write take a copy.

    The first worker builds it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    workplace = new_workplace(shared / "micro graph")
    with FileLock(shared / "micro graph.lock"):
        if not (complete := shared / "micro graph is complete").exists():
            build_by_two(workplace)
            complete.touch()
    return workplace


def build_by_two(workplace: Workplace) -> None:
    """Run the graph by two commands at once on one lake; what they say is kept beside it."""
    commands = [workplace.start("run", "--recipe", workplace.recipe) for _ in range(2)]
    said = [command.communicate(timeout=PATIENCE_SECONDS)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], "\n\n".join(said)
    for number, output in enumerate(said):
        (workplace.folder / f"said by {number}").write_text(output, "utf-8")


@pytest.fixture
def copy_of_finished(finished: Workplace, tmp_path: Path) -> Workplace:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Workplace(folder=folder, recipe=finished.recipe)

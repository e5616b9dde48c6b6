"""The rules of the house: imports go down only, assets stay thin, training stays light, nothing names one machine."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import definemed_pipeline
from definemed_pipeline.recipe import PAYLOADS

PACKAGE = Path(definemed_pipeline.__file__).parent
REPOSITORY = PACKAGE.parent
# A room may import what stands below its own line, and itself.
LAYERS = [
    {"cli"},
    {"summary", "plan", "runs", "database"},
    {"definitions"},
    {"defs"},
    {"recipe"},
    {"compute"},
    {"corpus", "training", "merging", "evaluation"},
    {"payload", "demo"},
    {"pod", "existing_models"},
    {"chat", "artifacts"},
    {"intervals", "keyed_hash", "ahead", "model_folder"},
    {"settings", "errors"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# Settings are declarations; a recipe and a payload may read them without meeting what stands around them.
WORK = LAYERS[6]
# Work packages that import another one; the module's docstring says why.
SIDEWAYS = {"evaluation/sweep/settings.py": "merging", "evaluation/sweep/merge_sweep.py": "merging"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
STANDARD_LIBRARY = sys.stdlib_module_names


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


LIGHT = [
    path
    for path in MODULES
    if room_of(path) in ("training", "artifacts", "payload", "pod", "settings", "errors", "model_folder", "existing_models")
]


def imports_of(path: Path) -> set[str]:
    """Return every module a file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


def rooms_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("definemed_pipeline.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    room = room_of(path)
    if room == "__init__":
        return
    for other in rooms_imported(path) - {room}:
        if SIDEWAYS.get(str(path.relative_to(PACKAGE))) == other:
            assert f"imports {other}" in (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
            continue
        assert LEVEL[other] > LEVEL[room], f"{room} imports {other}, which stands beside or above it"


def test_only_defs_compute_and_what_stands_above_know_dagster():
    allowed = {"cli", "runs", "definitions", "defs", "compute"}
    knowing = {room_of(path) for path in MODULES if any(name.split(".")[0] == "dagster" for name in imports_of(path))}
    assert knowing <= allowed


def trainer_packages() -> set[str]:
    """Return what the trainer's image installs beside the package itself, by name."""
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    assert groups["trainer-cuda"] == [{"include-group": "trainer"}, "liger-kernel"]
    return {canonicalize_name(Requirement(one).name) for one in [*groups["trainer"], "liger-kernel"]}


def test_training_imports_only_what_the_trainers_image_installs():
    """By name, wherever in a file it is imported: nothing is left to what some package happens to bring along."""
    owners = importlib.metadata.packages_distributions()
    installed = trainer_packages()
    for path in LIGHT:
        for name in {name.split(".")[0] for name in imports_of(path)} - STANDARD_LIBRARY - {"definemed_pipeline"}:
            assert {canonicalize_name(one) for one in owners.get(name, [name])} & installed, f"{path} imports {name}"


@pytest.mark.slow
def test_every_payload_of_training_can_be_imported_where_only_the_trainers_packages_are_installed(tmp_path):
    for distribution in with_all_they_require(trainer_packages() - {"liger-kernel"}):  # a part of the GPU's image alone
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            place = tmp_path / name
            if not place.exists():
                place.symlink_to(str(distribution.locate_file(name)))
    modules = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in LIGHT if path.name != "__init__.py"]
    assert {f"definemed_pipeline.training.{name}" for name in ("cpt", "cpt_corpus", "provide_base_model", "worker")} <= set(
        modules
    )
    (tmp_path / "definemed_pipeline").symlink_to(PACKAGE)
    done = subprocess.run(
        [sys.executable, "-S", "-c", "\n".join(f"import {name}" for name in modules)],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def with_all_they_require(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """Return the distributions that an installation of these brings, as far as they are installed here."""
    found: dict[tuple[str, str], importlib.metadata.Distribution] = {}
    due = [(name, "") for name in names]
    while due:
        name, extra = due.pop()
        if (name, extra) in found:
            continue
        found[name, extra] = distribution = importlib.metadata.distribution(name)
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                due += [(canonicalize_name(requirement.name), one) for one in ("", *requirement.extras)]
    return list({name: distribution for (name, _), distribution in found.items()}.values())


def test_assets_are_thin():
    for path in (PACKAGE / "defs").glob("*/*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any("asset" in ast.unparse(one) for one in node.decorator_list):
                length = (node.end_lineno or 0) - node.body[0].lineno
                assert length <= 40, f"{path.name}: {node.name} has {length} lines"


def test_modules_stay_short_enough_to_read():
    """Word lists and facts of the demo world are data, and as long as they are."""
    code = [path for path in MODULES if path.name != "diseases.py" and path.parent.name != "vocabulary"]
    long = {str(path.relative_to(PACKAGE)): lines for path in code if (lines := path.read_text("utf-8").count("\n")) > 400}
    assert not long


def test_every_module_says_what_belongs_in_it():
    silent = [str(path.relative_to(PACKAGE)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert [name for name in silent if not name.endswith("__init__.py")] == []


def test_no_pickle_and_no_remote_code():
    for path in MODULES:
        text = path.read_text("utf-8")
        assert not re.search(r"^\s*(import|from) pickle\b", text, re.MULTILINE), path
        assert "trust_remote_code=True" not in text, path
        assert "allow_pickle=True" not in text, path


def test_nothing_names_the_machine_it_was_written_on():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for name in tracked:
        content = (REPOSITORY / name).read_bytes() if (REPOSITORY / name).is_file() else b""
        assert f"{REPOSITORY.parent}/".encode() not in content or len(REPOSITORY.parts) < 3, name


def test_the_recipe_names_every_payload_that_defs_launch():
    launching = {
        path.stem
        for path in (PACKAGE / "defs").rglob("*.py")
        if path.stem != "materialization" and re.search(r"build_(partitions_)?in_payload\(", path.read_text("utf-8"))
    }
    assert launching == set(PAYLOADS)

"""The rules of the house: imports go down only, assets stay thin, training stays light, nothing names one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

import definemed_pipeline

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
    {"pod"},
    {"chat", "artifacts"},
    {"intervals", "keyed_hash", "ahead", "model_folder"},
    {"settings", "errors"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# Settings are declarations; a recipe and a payload may read them without meeting what stands around them.
WORK = LAYERS[6]
TRAINING_MAY_IMPORT = {
    "torch", "transformers", "accelerate", "peft", "numpy", "pyarrow", "tokenizers", "safetensors", "dagster_pipes",
    "huggingface_hub", "fsspec", "filelock", "jinja2", "tqdm", "definemed_pipeline",
    "liger_kernel",  # where it is installed
}  # fmt: skip
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
        assert LEVEL[other] > LEVEL[room], f"{room} imports {other}, which stands beside or above it"


def test_only_defs_compute_and_what_stands_above_know_dagster():
    allowed = {"cli", "runs", "definitions", "defs", "compute"}
    knowing = {room_of(path) for path in MODULES if any(name.split(".")[0] == "dagster" for name in imports_of(path))}
    assert knowing <= allowed


def test_training_runs_in_the_gpu_image():
    light = [
        path
        for path in MODULES
        if room_of(path) in ("training", "artifacts", "payload", "pod", "settings", "errors", "model_folder")
    ]
    for path in light:
        outside = {name.split(".")[0] for name in imports_of(path)}
        foreign = {name for name in outside if name not in TRAINING_MAY_IMPORT and name not in STANDARD_LIBRARY}
        assert not foreign, f"{path.relative_to(PACKAGE)} imports {foreign}"


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


STANDARD_LIBRARY = __import__("sys").stdlib_module_names

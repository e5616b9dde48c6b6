import subprocess
import sys

import pytest

from definemed_pipeline.settings import as_json, section_digest
from definemed_pipeline.training.settings import FolderBaseModelSettings, HubBaseModelSettings, PretrainBaseModelSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:-1], COMMIT.upper()])
def test_a_hub_revision_that_may_move_is_refused(revision: str) -> None:
    with pytest.raises(ValueError, match="commit hash of 40 hexadecimal digits"):
        HubBaseModelSettings(kind="hub", repository="a/b", revision=revision)


def test_a_hub_model_is_named_by_its_revision_and_has_no_sources() -> None:
    assert HubBaseModelSettings(kind="hub", repository="a/b", revision=COMMIT).sources() == {}


def test_settings_survive_the_way_through_json(micro) -> None:
    section = micro()
    assert PretrainBaseModelSettings(**as_json(section)) == section


def test_where_the_texts_lie_is_no_part_of_the_version_but_the_shape_of_the_model_is(micro) -> None:
    assert section_digest(micro(texts="/elsewhere.jsonl")) == section_digest(micro())
    assert section_digest(micro(layers=3)) != section_digest(micro())


@pytest.mark.parametrize(("changes", "key"), [({"hidden_size": 18}, "hidden_size"), ({"heads": 4, "kv_heads": 3}, "heads")])
def test_a_shape_that_no_model_can_have_is_refused_by_name(micro, changes: dict[str, int], key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is"):
        micro(**changes)


def test_a_folder_names_each_model_file_as_a_source(tmp_path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "training_args.bin", "modeling_own.py"):
        (tmp_path / name).touch()
    section = FolderBaseModelSettings(kind="folder", path=str(tmp_path))
    assert list(section.sources()) == ["model/config.json", "model/model.safetensors", "model/tokenizer.json"]


def test_what_runs_outside_payloads_imports_neither_torch_nor_transformers() -> None:
    light = ("settings", "encoding", "packing", "checkpoints", "provide_base_model")
    imports = "; ".join(f"import definemed_pipeline.{name}" for name in ("model_folder", *(f"training.{one}" for one in light)))
    heavy = "sorted({'torch', 'transformers', 'polars', 'dagster', 'pydantic'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

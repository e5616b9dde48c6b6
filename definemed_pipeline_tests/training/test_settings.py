import subprocess
import sys

import pytest

from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import as_json, section_digest
from definemed_pipeline.training.settings import (
    CptCorpusSettings,
    GeneralDocumentsSettings,
    PretrainBaseModelSettings,
)


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


def test_what_runs_outside_payloads_imports_neither_torch_nor_transformers() -> None:
    light = ("settings", "encoding", "packing", "blocks", "cpt_corpus", "provide_base_model")
    imports = "; ".join(f"import definemed_pipeline.{name}" for name in ("model_folder", *(f"training.{one}" for one in light)))
    heavy = "sorted({'torch', 'transformers', 'polars', 'dagster', 'pydantic'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def general(*files: object, **changes: float) -> CptCorpusSettings:
    return CptCorpusSettings(general=GeneralDocumentsSettings(files=[str(file) for file in files], **changes))


def test_the_packed_corpus_has_the_files_that_its_patterns_stand_for_as_sources_each_once_in_their_order(tmp_path) -> None:
    for name in ("a.jsonl", "b.parquet", "c.parquet"):
        (tmp_path / name).touch()
    found = general(tmp_path / "*.parquet", tmp_path / "a.jsonl", tmp_path / "c.parquet", "demo://pretraining/held*").sources()
    places = {
        "general/0000/b.parquet": str(tmp_path / "b.parquet"),
        "general/0001/c.parquet": str(tmp_path / "c.parquet"),
        "general/0002/a.jsonl": str(tmp_path / "a.jsonl"),
        "general/0003/held_out.jsonl": "demo://pretraining/held_out.jsonl",
    }
    assert list(found.items()) == list(places.items())
    assert CptCorpusSettings().sources() == {}


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("*.parquet", "cpt_corpus.general.files: .* finds no file; correct the path"),
        ("", "is a folder; write .*/*.parquet"),
        ("*.csv", "a.csv is neither .parquet nor .jsonl"),
        ("nowhere://x", "cannot be listed"),
    ],
)
def test_general_files_that_cannot_be_used_are_refused_in_a_line(tmp_path, pattern: str, told: str) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=told) as caught:
        general(pattern if "://" in pattern else tmp_path / pattern).sources()
    assert len(str(caught.value).splitlines()) == 1


def test_so_many_general_files_that_nobody_means_them_are_refused(tmp_path) -> None:
    for number in range(101):
        (tmp_path / f"{number}.jsonl").touch()
    with pytest.raises(UserError, match=r"cpt_corpus.general.files stand for 101 files; allowed: 100; name fewer"):
        general(tmp_path / "*.jsonl").sources()


def test_the_packed_corpus_survives_the_way_through_json() -> None:
    for section in (CptCorpusSettings(), general("a.jsonl", replay_share=0.1)):
        assert CptCorpusSettings.parse(as_json(section)) == section


def test_where_general_files_lie_is_no_part_of_the_version_but_how_much_is_replayed_is() -> None:
    assert section_digest(general("a.jsonl")) == section_digest(general("b.jsonl", "c.jsonl"))
    assert len({section_digest(one) for one in (CptCorpusSettings(), general("a"), general("a", replay_share=0.1))}) == 3


def test_general_documents_without_a_file_are_refused() -> None:
    with pytest.raises(ValueError, match="files is empty; allowed: at least one path or URL"):
        general()

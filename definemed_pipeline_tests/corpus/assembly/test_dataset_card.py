import json
from importlib import resources
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
import yaml
from huggingface_hub import DatasetCard

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.agreement import proportion
from definemed_pipeline.corpus.assembly.assemble import assemble_corpus
from definemed_pipeline.corpus.assembly.dataset_card import SIZES
from definemed_pipeline.corpus.settings import AnnotationSettings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.corpus.assembly.test_assemble import SECTION, annotated, assembled, gathered
from definemed_pipeline_tests.corpus.shard_files import contents

SENTENCE = "Of 4,400 unseen positives the first stage lost 12: with 95 % confidence it keeps at least 99.5 %."


@pytest.fixture
def artifact(store: Store, tmp_path: Path) -> Path:
    return store.folder(assembled(store, tmp_path, gold={"clean1": True, "clean2": True, "short": True}))


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8")


def test_the_front_matter_is_accepted_by_the_hubs_own_client(artifact: Path) -> None:
    data = DatasetCard(text_of(artifact)).data
    assert (data.license, data.language, data.pretty_name) == ("odc-by", ["de"], "Beispiel")
    assert data.size_categories == ["n<1K"]
    front = yaml.safe_load(text_of(artifact).split("---\n", 2)[1])
    assert front["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}]


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_loads_the_folder_offline(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(str(artifact), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache"))
    corpus = pl.read_parquet(artifact / "data" / "*.parquet")
    assert loaded.column_names == corpus.columns
    assert list(loaded) == corpus.to_dicts()
    assert datasets.get_dataset_config_names(str(artifact)) == ["default"]


def test_counts_reasons_questions_and_gold_are_those_of_the_artifact(artifact: Path) -> None:
    text, statistics = text_of(artifact), json.loads((artifact / "statistics.json").read_text())
    assert "5 web documents with" in text
    assert f"with {statistics['corpus']['words']:,} words on medicine" in text
    for row in ("read | 14", "not medicine | 3", "dropped: too short | 1", "dropped: benchmark leak | 2", "**kept** | 5"):
        assert f"| {row} |" in text
    assert "| benchmark/b | 2 | 1 | 2 |" in text
    assert "Against 3 documents with gold labels: precision 100.0 % (34.2–100.0), recall 66.7 % (20.8–93.9)" in text
    assert f"| example.de | 1 | 5 | {statistics['corpus']['words']:,} |" in text
    assert "hold 8 words in a row" in text
    assert "- Nur ein Test.\n" in text


def test_without_gold_classifier_and_certificate_their_lines_are_left_out(store: Store, tmp_path: Path) -> None:
    text = text_of(store.folder(assembled(store, tmp_path)))
    assert "gold labels" not in text
    assert "at a probability of" not in text
    assert "None |" not in text
    assert "\n\n\n" not in text


def written(store: Store, asset: str, name: str, content: dict[str, Any], metrics: dict[str, Any]) -> Manifest:
    def write(draft: Draft[Any]) -> None:
        draft.write_json(name, content)
        draft.metrics |= metrics

    return build_artifact(store, asset, write, AnnotationSettings())


def test_the_classifiers_threshold_and_the_certificate_are_quoted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {**proportion("precision", 95, 100), **proportion("recall", 80, 100)}
    classifier = written(store, "medical_classifier", "classifier.json", {"rule": {"decision_threshold": 0.87654}}, figures)
    certificate = written(store, "cascade_certificate", "certificate.json", {"in_words": SENTENCE}, {})
    monkeypatch.setattr(
        "definemed_pipeline.corpus.assembly.uniform._check", lambda *_: None
    )  # the documents here have no classifier
    inputs, questions = gathered(store, tmp_path)
    manifest = build_artifact(
        store,
        "finemed_de",
        assemble_corpus,
        SECTION,
        inputs=[*inputs, annotated(store), classifier, certificate],
        sources=questions,
    )
    text = text_of(store.folder(manifest))
    assert "at a probability of 0.877 or more: on annotated documents it had not seen, precision 95.0 %" in text
    assert SENTENCE in text


def test_every_table_is_well_formed(artifact: Path) -> None:
    tables: list[list[str]] = [[]]
    for line in text_of(artifact).splitlines():
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    tables = [table for table in tables if table]
    assert len(tables) == 6
    for table in tables:
        assert len(table) > 2
        assert len({line.count("|") for line in table}) == 1


def test_the_same_corpus_has_the_same_card_wherever_it_was_built(tmp_path: Path) -> None:
    def build(name: str) -> bytes:
        store = Store(str(tmp_path / name / "lake"))
        return contents(store.folder(assembled(store, tmp_path / name / "web")))["README.md"]

    assert build("here") == build("there")


def test_sizes_have_the_names_the_hub_knows() -> None:
    known = json.loads((resources.files(datasets) / "utils" / "resources" / "size_categories.json").read_text())
    assert set(SIZES.values()) < set(known)

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.benchmarks.accuracy import accuracy_of, differences_of
from definemed_pipeline.evaluation.cards import write_card
from definemed_pipeline.evaluation.complete_card import gaps_of
from definemed_pipeline.evaluation.failures.failure_modes import diagnose_responses
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings, LanguageSettings
from definemed_pipeline.evaluation.pairwise.compare import compare_responses
from definemed_pipeline.evaluation.pairwise.settings import WinRatesSettings
from definemed_pipeline.evaluation.settings import (
    ModelCardsSettings,
)
from definemed_pipeline.settings import setting, settings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import REFERENCE, MicroModel, Say

SETTINGS = ModelCardsSettings(
    name="Beispiel-{base_model}",
    languages=("de",),
    field="medicine",
    intended_use="Research on language models in medicine.",
    limits=("This is no medical device.", "Answers may be wrong."),
    tags=("medical",),
    licenses={"qwen2": "apache-2.0"},
)
OUTCOMES = {
    "base": {"organe": [True, False, False, False], "form": [True, True]},
    "cpt": {"organe": [True, True, True, False], "form": [False, False]},
    "merged": {"organe": [True, True, False, False], "form": [True, True]},
}


@settings
class HubModel:
    """Stands for a base model that came from the Hub."""

    repository: str = setting(default="Qwen/Qwen2-Beispiel")


@settings
class Scores:
    """Stands for the section of the benchmarks, of which the card reads which tasks rules check."""

    instruction_following: dict[str, str] = setting(factory=lambda: {"form": ""})


@settings
class Corpus:
    """Stands for the section of the corpus, of which the card reads the name."""

    card: dict[str, str] = setting(factory=lambda: {"name": "Beispiel-Korpus"})


@pytest.fixture
def card(store: Store, say: Say) -> Callable[..., Manifest]:
    """Build a card from artifacts with real tables in them."""

    def scores(draft: Draft[Any]) -> None:
        import numpy as np

        outcomes = {stage: {name: np.array(o) for name, o in names.items()} for stage, names in OUTCOMES.items()}
        options = {"resamples": 200, "seed": 0, "average": ["organe"]}
        accuracy = {stage: accuracy_of(names, **options) for stage, names in outcomes.items()}
        differences = differences_of(outcomes, **options)
        draft.write_json("scores.json", {"metric": "acc_norm", "accuracy": accuracy, "differences": differences})

    def corpus(draft: Draft[Any]) -> None:
        (draft.folder / "data").mkdir()
        for number, words in enumerate(([100, 250], [50])):
            pl.DataFrame({"id": list(map(str, words)), "words": words}).write_parquet(draft.folder / "data" / f"{number}.parquet")

    def merge(draft: Draft[Any]) -> None:
        (draft.folder / "merge.yaml").write_text("merge_method: slerp\n")

    def build(section: ModelCardsSettings = SETTINGS, origin: Any = HubModel()) -> Manifest:  # noqa: B008
        said = {"proper": (REFERENCE, True), "other": ("Kiel liegt am Meer.", True)}
        responses = say({name: {"base": said, "cpt": said, "merged": said} for name in ("mistral", "qwen2")})
        language = LanguageSettings(expected="de", foreign=("en",))
        inputs = [
            build_artifact(store, "merged_models", merge, MicroModel(), partition="qwen2"),
            build_artifact(store, "base_models", lambda draft: None, origin, partition="qwen2"),
            build_artifact(store, "benchmark_scores", scores, Scores(), partition="qwen2"),
            build_artifact(
                store, "win_rates", compare_responses, WinRatesSettings(opponent_base_model="mistral"), inputs=responses
            ),
            build_artifact(store, "failure_modes", diagnose_responses, FailureModesSettings(language=language), inputs=responses),
            build_artifact(store, "finemed_de", corpus, Corpus()),
        ]
        return build_artifact(store, "model_cards", write_card, section, partition="qwen2", inputs=inputs)

    return build


def text_of(store: Store, manifest: Manifest) -> str:
    return (Path(store.uri(manifest)) / "README.md").read_text("utf-8")


def test_the_front_matter_is_what_the_hub_reads(store: Store, card: Callable[..., Manifest]) -> None:
    _, front, _ = text_of(store, card()).split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["language"] == ["de"]
    assert found["license"] == "apache-2.0"
    assert found["base_model"] == "Qwen/Qwen2-Beispiel"
    assert found["tags"] == ["merge", "mergekit", "medical"]
    results = {one["dataset"]["name"]: (one["task"]["type"], one["metrics"]) for one in found["model-index"][0]["results"]}
    assert results == {
        "organe": ("multiple-choice", [{"type": "accuracy", "name": "acc_norm", "value": 0.5}]),
        "form": ("text-generation", [{"type": "accuracy", "name": "all rules kept", "value": 1.0}]),
    }


def test_the_front_matter_is_accepted_by_the_hubs_own_client(store: Store, card: Callable[..., Manifest]) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(text_of(store, card())).data
    assert data.model_name == "Beispiel-qwen2"
    assert [(result.dataset_name, result.metric_value) for result in data.eval_results or []] == [("form", 1.0), ("organe", 0.5)]


def test_an_unknown_licence_and_a_base_that_is_not_on_the_hub_are_said_to_be_so(
    store: Store, card: Callable[..., Manifest]
) -> None:
    from dataclasses import replace

    manifest = card(replace(SETTINGS, licenses={}), MicroModel())
    found = yaml.safe_load(text_of(store, manifest).split("---\n", 2)[1])
    assert (found["license"], found["base_model"]) == ("unknown", "qwen2")
    assert "The licence of qwen2 is not known" in text_of(store, manifest)


def test_tables_hold_the_measured_numbers(store: Store, card: Callable[..., Manifest]) -> None:
    text = text_of(store, card())
    scores = json.loads((Path(store.uri(store.require("test", "benchmark_scores", "qwen2"))) / "scores.json").read_text())
    cells = [
        f"{100 * a['accuracy']:.1f} % ({100 * a['accuracy_low']:.1f}–{100 * a['accuracy_high']:.1f})"
        for a in (scores["accuracy"][stage]["organe"] for stage in ("base", "cpt", "merged"))
    ]
    assert f"| organe | 4 | {cells[0]} | {cells[1]} | {cells[2]} |\n| average | 4 |" in text
    assert "| base | cpt | organe | +50.0 points (+0.0 to +100.0) | 1 |" in text  # of 0.5, corrected for nine rows
    assert "Responses to 2 instructions against those of mistral, base" in text
    assert "| qwen2, merged | 50.0 % (17.1–82.9) | too few decided | 0 | 2 | 0 |" in text
    assert "| not answered properly | 50.0 % (9.5–90.5) | 50.0 % (9.5–90.5) | 50.0 % (9.5–90.5) |" in text
    assert "Not shown: continual pre-training costs instruction-following" in text
    assert "merge_method: slerp" in text


def test_every_table_is_well_formed(store: Store, card: Callable[..., Manifest]) -> None:
    tables: list[list[str]] = [[]]
    for line in text_of(store, card()).splitlines():
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    tables = [table for table in tables if table]
    assert len(tables) == 5
    for table in tables:
        assert len(table) > 2
        assert len({line.count("|") for line in table}) == 1


def test_the_corpus_the_limits_and_every_input_are_named(store: Store, card: Callable[..., Manifest]) -> None:
    manifest = card()
    text = text_of(store, manifest)
    assert "Beispiel-Korpus: 3 documents with 400 words" in text
    assert "- This is no medical device.\n- Answers may be wrong.\n" in text
    for item in manifest.identity.inputs:
        assert f"`{item.version}` | `{item.digest}`" in text


def test_a_card_is_complete(store: Store, card: Callable[..., Manifest]) -> None:
    text = text_of(store, card())
    assert gaps_of(text) == []
    assert "The weights stand under the licence of Qwen/Qwen2-Beispiel: `apache-2.0`." in text


@pytest.mark.parametrize(
    ("pattern", "replacement", "gap"),
    [
        (r"language:\n- de\n", "", "the front matter has no language"),
        (r"license: apache-2.0\n", "", "the front matter has no license"),
        (r"model-index:.*?\n---", "---", "the front matter has no results"),
        (r"value: 0.5", "value: .nan", "the result on organe is no number"),
        (r"\n---\n\n#", "\n- a: [\n---\n\n#", "the front matter cannot be read"),
        (r"(## Limits\n).*?(## Licence)", r"\1\n\2", "the section Limits is empty"),
        (r"## Intended use\n", "", "the section Intended use is empty"),
        (r"corpus version `[0-9a-f]+`", "", "the version of the corpus is not named"),
        (r"50.0 % \(17.1–82.9\)", "nan % (17.1–82.9)", "'nan' stands where a number should"),
    ],
)
def test_a_card_that_lacks_something_says_what(
    store: Store, card: Callable[..., Manifest], pattern: str, replacement: str, gap: str
) -> None:
    lacking, count = re.subn(pattern, replacement, text_of(store, card()), count=1, flags=re.DOTALL)
    assert count == 1
    assert any(gap in one for one in gaps_of(lacking)), gaps_of(lacking)


def test_a_name_without_its_base_model_is_refused() -> None:
    with pytest.raises(ValueError, match="name is 'Beispiel'"):
        ModelCardsSettings(name="Beispiel", languages=("de",), field="medicine", intended_use="", limits=())

"""A lake with everything the report reads, in which the effect shows for one model and in part for the other, and the page of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.benchmarks.accuracy import accuracy_of, differences_of
from definemed_pipeline.evaluation.failures.failure_modes import diagnose_responses
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings, LanguageSettings
from definemed_pipeline.evaluation.generate import SCHEMA
from definemed_pipeline.evaluation.pairwise.compare import compare_responses
from definemed_pipeline.evaluation.pairwise.settings import WinRatesSettings
from definemed_pipeline.evaluation.report.page import PAGE, write_report
from definemed_pipeline.evaluation.report.settings import PublishedAccuracy, ReportSettings
from definemed_pipeline.evaluation.settings import (
    ModelCardsSettings,
)
from definemed_pipeline.evaluation.stages import STAGES, write_table
from definemed_pipeline.settings import setting, settings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import MicroModel

MODELS = ("beispiel-mistral", "beispiel-qwen2.5")
RIGHT = {  # of 40 questions each
    "beispiel-mistral": {"base": (11, 14), "cpt": (30, 26), "merged": (16, 15)},
    "beispiel-qwen2.5": {"base": (10, 15), "cpt": (38, 33), "merged": (33, 29)},
}
PROPER = {  # of 24 instructions
    "beispiel-mistral": {"base": 17, "cpt": 2, "merged": 11},
    "beispiel-qwen2.5": {"base": 18, "cpt": 1, "merged": 14},
}
INSTRUCTION = "Welches Organ ist bei Asthma betroffen, & was heißt <b>das</b>?"
REFERENCE = "Die Lunge ist bei Asthma betroffen."
LONG = "Die Lunge " * 60
WRONG = ("Kiel liegt am Meer.", "The patient should see a doctor today.", LONG, "")
REPORT = ReportSettings(
    title="A report & what it says",
    notes=("This world was made for 1 test.",),
    published=(
        PublishedAccuracy(
            base_model="beispiel-qwen2.5", stage="cpt", accuracy=0.6491, model="Beispiel-Qwen2.5-7B", source="arXiv 2604.19394"
        ),
    ),
)


@settings
class CorpusSettings:
    """Stands for the section of the corpus, of which the page reads the name."""

    card: dict[str, str] = setting(factory=lambda: {"name": "Beispiel-Korpus"})


def proportion(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.03, f"{name}_high": min(1.0, value + 0.02)}


def write_scores(draft: Draft[Any]) -> None:
    def outcomes(right: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(np.arange(40) < right)

    found = {
        stage: {name: outcomes(right, seed) for seed, (name, right) in enumerate(zip(("arznei", "organe"), counts, strict=True))}
        for stage, counts in RIGHT[draft.identity.partition].items()
    }
    accuracy = {stage: accuracy_of(names, resamples=200, seed=0) for stage, names in found.items()}
    draft.write_json(
        "scores.json", {"metric": "acc", "accuracy": accuracy, "differences": differences_of(found, resamples=200, seed=0)}
    )


def write_responses(draft: Draft[Any]) -> None:
    rows = [
        {
            "base_model": draft.identity.partition, "stage": stage, "instruction_set": "fragen", "instruction_id": f"i{number:02}",
            "kind": "Medizin", "instruction": INSTRUCTION, "reference": REFERENCE, "format": None, "tokens": 8, "is_ended": number < proper,
            "response": REFERENCE if number < proper else WRONG[number % len(WRONG)],
        }
        for stage, proper in PROPER[draft.identity.partition].items()
        for number in range(24)
    ]  # fmt: skip
    write_table(pa.Table.from_pylist(rows, schema=SCHEMA), draft.folder / "responses.parquet")


def write_corpus(draft: Draft[Any]) -> None:
    dropped = {"too_short": 6, "duplicate_id": 0, "benchmark_leak": 2, "exact_duplicate": 15, "near_duplicate": 12}
    counts = {f"dropped_{reason}": count for reason, count in dropped.items()}
    kept = 3_266 - 2_844 - sum(dropped.values())
    draft.write_json(
        "statistics.json",
        {
            "counts": {"documents": 3_266, "not_medical": 2_844, **counts, "kept": kept},
            "corpus": {"documents": kept, "words": 51_880, "hosts": 61, "dumps": 5, "words_median": 128},
            "gold": {**proportion("precision", 0.964), **proportion("recall", 0.98)},
        },
    )


def write_merge(draft: Draft[Any]) -> None:
    name = draft.identity.partition
    (draft.folder / "merge.yaml").write_text(
        f"merge_method: slerp\nbase_model: base_models/{name}/model\nparameters:\n  t: 0.68\n"
    )


def write_candidates(draft: Draft[Any]) -> None:
    """Write candidates from t = 0 to 1 between base and CPT checkpoint, of which the best balanced is chosen."""
    steps = [None, None, *(number / 5 for number in range(1, 5))]
    rows = [
        {
            "model": ("base", "cpt")[number] if t is None else f"slerp t={t}",
            **around("accuracy", (0.3, 0.9)[number] if t is None else 0.3 + 0.6 * t**0.5),
            **around("answered_properly", (0.75, 0.05)[number] if t is None else 0.75 - 0.7 * t**2),
            **around("language_mixing", 0.05),
            "questions": 45,
            "instructions": 40,
            "accuracy_kept": None if t is None else t**0.5,
            "instruction_following_recovered": None if t is None else 1 - t**2,
            "is_on_front": None if t is None else t != 0.2,
            "is_chosen": t == 0.6,
        }
        for number, t in enumerate(steps)
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(draft.folder / "candidates.parquet")


def around(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": max(0.0, value - 0.1), f"{name}_high": min(1.0, value + 0.1)}


def diagnose(draft: Draft[Any]) -> None:
    """Diagnose, and put a trade-off table of three rows in the place of the real one."""
    diagnose_responses(draft)
    table = pl.DataFrame([*(tradeoff(name, number) for name in MODELS for number in range(3))])
    table.write_parquet(draft.folder / "tradeoffs.parquet")


def tradeoff(base_model: str, number: int) -> dict[str, Any]:
    measure, unit, better, values, did = (
        ("accuracy", "share", "higher", (0.3, 0.9, 0.75), ("gain", "kept")),
        ("words_to_reference", "ratio", "lower", (1.1, 0.9, 1.9), ("none shown", "brought in")),
        ("answered_properly", "share", "higher", (0.75, 0.05, 0.6), ("cost", "recovered")),
    )[number]
    base, cpt, merged = values
    shares = around("merge_share", 0.78) if did[1] != "brought in" else dict.fromkeys(around("merge_share", 0))
    changes = {"cpt_change": cpt - base, "merge_change": merged - cpt, "total_change": merged - base}
    return {
        **{"base_model": base_model, "measure": measure, "unit": unit, "better": better, "units": 80},
        **{name: value for stage, at in zip(STAGES, values, strict=True) for name, value in proportion(stage, at).items()},
        **{name: value for change, at in changes.items() for name, value in proportion(change, at).items()},
        **{"cpt_effect": did[0], "merge_effect": did[1]},
        **{name: value if value is None else float(value) for name, value in shares.items()},
    }


@dataclass(frozen=True)
class World:
    """The lake and the report in it."""

    store: Store
    report: Manifest

    @property
    def page(self) -> str:
        return (self.store.folder(self.report) / PAGE).read_text("utf-8")


def inputs_of(store: Store) -> list[Manifest]:
    def write(name: str, value: Mapping[str, Any]) -> Any:
        return lambda draft: draft.write_json(name, value)

    def classify(draft: Draft[Any]) -> None:
        draft.metrics |= {**proportion("precision", 0.93), **proportion("recall", 0.88)}

    agreed = {**proportion("precision", 0.97), **proportion("recall", 0.95)}
    words = "The full sweep takes 90 of 900 unseen documents of the web."
    responses = [build_artifact(store, "responses", write_responses, MicroModel(), partition=name) for name in MODELS]
    language = LanguageSettings(expected="de", foreign=("en",))
    card = ModelCardsSettings(
        name="{base_model}",
        languages=("de",),
        field="",
        intended_use="",
        limits=("It is no medical device.",),
        licenses={MODELS[1]: "apache-2.0"},
    )
    return [
        build_artifact(store, "annotations", write("agreement.json", agreed), MicroModel(), sources={"gold": __file__}),
        build_artifact(store, "medical_classifier", classify, MicroModel()),
        build_artifact(store, "cascade_certificate", write("certificate.json", {"in_words": words}), MicroModel()),
        build_artifact(store, "finemed_de", write_corpus, CorpusSettings()),
        *responses,
        build_artifact(
            store,
            "win_rates",
            compare_responses,
            WinRatesSettings(opponent_base_model=MODELS[0], resamples=200),
            inputs=responses,
        ),
        build_artifact(
            store,
            "failure_modes",
            diagnose,
            FailureModesSettings(language=language, resamples=200),
            inputs=responses,
        ),
        *(build_artifact(store, "merged_models", write_merge, MicroModel(), partition=name) for name in MODELS),
        build_artifact(store, "merge_sweep", write_candidates, MicroModel(), partition=MODELS[1]),
        *(build_artifact(store, "benchmark_scores", write_scores, MicroModel(), partition=name) for name in MODELS),
        *(build_artifact(store, "model_cards", lambda draft: None, card, partition=name) for name in MODELS),
    ]


def report_in(folder: Path, section: ReportSettings = REPORT) -> World:
    store = Store(str(folder / "lake"))
    return World(store, build_artifact(store, "report", write_report, section, inputs=inputs_of(store)))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tests read it; one that changes something makes its own."""
    return report_in(tmp_path_factory.mktemp("report"))

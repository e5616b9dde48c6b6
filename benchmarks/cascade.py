"""Measure the certified cascade: which share of documents stage 2 must read where 2 % of the web is medical, and what recall that guarantees.

    OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 RAYON_NUM_THREADS=1 python benchmarks/cascade.py --real-text DIR --json OUT

Two populations, each with its own classifier, trained as the recipes train it on the lexicon's labels of one half, and certified on the other,
which neither stage has seen: recall is relative to the full sweep, 99 % at 95 % confidence.

- `demo_world`: the project's generated German world at 2 % prevalence. Trained on the world of one seed, certified on the larger one of
  another, in which no document was drawn twice: the bound is about documents as this generator writes them.
- `real_text` (only with --real-text, a folder with 000_00000.parquet, 001_00000.parquet and labels.parquet as its README says): trained on
  one shard as it is (its validation part is too small to choose a threshold for 2 %), certified on the other. That holds only some 30
  medical documents, and drawing them again makes no new ones. So the population is *exactly those documents*, the medical ones
  weighted to 2 %: documents are drawn from it with replacement, and the bound is about what the full sweep takes of this population. It
  says nothing about German web text beyond it; what the same documents certify about the web they come from, each counted once, is
  `recall_lower_bound_of_distinct`.

Rates are of one process with the threads that the variables above give it: documents/s of stage 1 (text to log-odds), of stage 2 (text to
log-odds, tokenizing included) and of the whole cascade (parquet to scores).
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from artifacts import make

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.provenance import current_provenance
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.classifier.cascade import Gate, score_documents
from definemed_pipeline.corpus.classifier.certificate import certificate_of, certify_cascade, curve_of, recall_bound
from definemed_pipeline.corpus.classifier.settings import CascadeCertificateSettings, MedicalClassifierSettings
from definemed_pipeline.corpus.classifier.train_classifier import train_classifier
from definemed_pipeline.corpus.classifier.two_stage import TwoStageClassifier
from definemed_pipeline.corpus.parquet import numbered_row_groups, write_parquet
from definemed_pipeline.corpus.settings import LexiconAnnotator
from definemed_pipeline.demo.world import Census, World
from definemed_pipeline.recipe import load_recipe

PREVALENCE = 0.02
CERTIFICATE = CascadeCertificateSettings()
REAL = MedicalClassifierSettings(epochs=6, learning_rate=1e-3, max_tokens=192, validation_share=0.3, target_precision=0.8)
DRAWN = 40_000  # documents drawn with replacement from the real ones
TIMED = 2_000  # documents at most, for the rates of the stages
built = partial(make, report=print)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--real-text", type=Path, help="the folder of the sample of real German text")
    parser.add_argument(
        "--documents", type=int, default=20_000, help="unlabelled documents of the demo world, about (default: 20,000)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {"demo_world": measure_demo_world(Store(f"{folder}/demo"), arguments.documents)}
        if arguments.real_text:
            figures["real_text"] = measure_real_text(Store(f"{folder}/real"), arguments.real_text)
    made_by = current_provenance("benchmark")
    measured = {**figures, "target_recall": CERTIFICATE.target_recall, "confidence": CERTIFICATE.confidence}
    measured |= {
        "commit": made_by.code_commit,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
    }
    measured |= {
        "versions": {name: made_by.environment[name] for name in ("python", "machine", "torch", "transformers", "polars")}
    }
    arguments.json.write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    print(json.dumps(measured, indent=2))


def measure_demo_world(store: Store, documents: int) -> dict[str, Any]:
    """Train on one seed's world, certify on another's, both with 2 % of medical documents."""
    per_disease = round(documents * PREVALENCE / 40)
    labelled = labelled_by_lexicon(demo_texts(seed=101, everyday=300, per_disease=20), at_prevalence=True)
    unlabelled = at_prevalence(demo_texts(seed=202, everyday=documents // 13, per_disease=per_disease))
    annotations = annotate(store, labelled, unlabelled)
    classifier = built(store, "medical_classifier", train_classifier, load_recipe("demo").medical_classifier, [annotations])
    certificate = built(store, "cascade_certificate", certify_cascade, CERTIFICATE, [annotations, classifier])
    chosen = {name: certificate.metrics[name] for name in ("documents", "positives", "misses", "threshold", "in_words")}
    return {
        "transformer_share": certificate.metrics["transformer_share"],
        "recall_lower_bound": certificate.metrics["recall_low"],
        "certified": certificate.metrics["certified"],
        **chosen,
        "training_documents": labelled.height,
        **rates(store, classifier, unlabelled, certificate.metrics["threshold"]),
    }


def measure_real_text(store: Store, folder: Path) -> dict[str, Any]:
    """Train on the first shard, certify on draws with replacement from the second, weighted to 2 %."""
    shards = [pl.read_parquet(folder / f"{name}_00000.parquet", columns=["id", "text"]) for name in ("000", "001")]
    by_people = pl.read_parquet(folder / "labels.parquet").drop_nulls("is_medical").select("id", "is_medical")
    population = shards[1].join(by_people, on="id", maintain_order="left")
    labelled = labelled_by_lexicon(shards[0], at_prevalence=False)
    annotations = annotate(store, labelled, population)
    classifier = built(store, "medical_classifier", train_classifier, REAL, [annotations])
    each_once = built(store, "cascade_certificate", certify_cascade, CERTIFICATE, [annotations, classifier])
    sweep = pl.read_parquet(store.folder(each_once) / "sweep.parquet").join(
        population.select("id", "is_medical"), on="id", suffix="_gold"
    )
    drawn = sweep[draws(sweep["is_medical_gold"].to_numpy())]
    thresholds = pl.read_parquet(store.folder(each_once) / "curve.parquet")["threshold"].to_numpy()
    curve = curve_of(drawn["linear_probability"], drawn["is_medical"], thresholds, CERTIFICATE)
    certificate = certificate_of(curve, drawn.height, int(drawn["is_medical"].sum()), CERTIFICATE)
    distinct = sweep.filter("is_medical")
    missed = int((distinct["linear_probability"] < np.float32(certificate["threshold"])).sum())
    return {
        "transformer_share": certificate["transformer_share"],
        "recall_lower_bound": certificate["recall_low"],
        **{name: certificate[name] for name in ("certified", "documents", "positives", "misses", "threshold")},
        "distinct_documents": sweep.height,
        "distinct_positives": distinct.height,
        "distinct_misses": missed,
        "recall_lower_bound_of_distinct": recall_bound(missed, distinct.height, CERTIFICATE.confidence),
        "precision_by_people": float(distinct["is_medical_gold"].mean() or 0),
        "recall_by_people": float(sweep.filter("is_medical_gold")["is_medical"].mean() or 0),
        "training_documents": labelled.height,
        **rates(store, classifier, population, certificate["threshold"]),
    }


def demo_texts(*, seed: int, everyday: int, per_disease: int) -> pl.DataFrame:
    """Return the documents of a demo world with the truth, without copies, empty ones and the other oddities of the demo's web."""
    plain = dataclasses.replace(
        Census(), exact_copies=0, near_copies=0, benchmark_leaks=0, mojibake=0, replacement_characters=0, empty=0, blank=0, null=0
    )
    census = dataclasses.replace(
        plain, everyday_per_topic=everyday, medical_per_disease=per_disease, hard_negatives_per_topic=everyday // 5
    )
    world = World(seed, census)
    rows = [(document.id, document.text, world.truth[document.id].is_medical) for document in world.documents]
    return pl.DataFrame(rows, schema={"id": pl.String, "text": pl.String, "is_medical": pl.Boolean}, orient="row")


def at_prevalence(documents: pl.DataFrame) -> pl.DataFrame:
    """Leave out documents of one kind, those that stand last, until PREVALENCE of them are medical."""
    medical, other = (documents.filter(pl.col("is_medical") == kind) for kind in (True, False))
    kept = min(medical.height, int(other.height * PREVALENCE / (1 - PREVALENCE)))
    return pl.concat([medical.head(kept), other.head(round(kept * (1 - PREVALENCE) / PREVALENCE))])


def draws(is_medical: np.ndarray) -> np.ndarray:
    """Draw DRAWN positions with replacement, a medical one with a probability of PREVALENCE."""
    shares = np.where(is_medical, PREVALENCE / is_medical.sum(), (1 - PREVALENCE) / (~is_medical).sum())
    return np.random.default_rng(1).choice(len(is_medical), DRAWN, p=shares)


def labelled_by_lexicon(documents: pl.DataFrame, *, at_prevalence: bool) -> pl.DataFrame:
    """Return a sample with the annotator's labels, and with weights by which PREVALENCE of the web is positive, or equal ones."""
    scores = read_lexicon(lexicon_location("de_medical")).score(documents["text"])
    labels = (scores >= LexiconAnnotator().threshold).to_numpy()
    weights = np.where(labels, PREVALENCE / labels.sum(), (1 - PREVALENCE) / (~labels).sum()) * len(labels)
    weights = weights if at_prevalence else np.ones(len(labels))
    return documents.select(
        "id",
        "text",
        role=pl.lit("sample"),
        inclusion_weight=pl.Series(weights),
        is_medical=pl.Series(labels),
        gold_is_medical=None,
    ).cast({"gold_is_medical": pl.Boolean})


def annotate(store: Store, labelled: pl.DataFrame, unlabelled: pl.DataFrame) -> Manifest:
    """Lay both into the lake as the annotations a classifier is trained and certified from."""

    def write(draft: Draft[Any]) -> None:
        write_parquet(labelled, draft.folder / "annotations.parquet")
        write_parquet(unlabelled.select("id", "text"), draft.folder / "unlabelled.parquet")

    return built(store, "annotations", write, LexiconAnnotator(), [])


def rates(store: Store, classifier: Manifest, documents: pl.DataFrame, threshold: float) -> dict[str, float]:
    """Return documents/s of each stage by itself and of the cascade."""
    both = TwoStageClassifier(store.folder(classifier))
    few = documents.sample(min(TIMED, documents.height), seed=1)
    both.linear.logits(few["text"].head(10))
    both.transformer.logits(few["text"].head(10), CERTIFICATE.batch_tokens)
    mean_characters = few["text"].str.len_chars().mean()

    def cascade(draft: Draft[Any]) -> None:
        path = draft.folder / "documents.parquet"
        write_parquet(documents.select("id", "text"), path)
        started = time.perf_counter()
        scored = score_documents(
            lambda start: numbered_row_groups(path, ["id", "text"], start=start),
            both,
            Gate(threshold=threshold),
            draft,
            draft.folder / "scores.parquet",
        )
        draft.metrics["rate"] = scored / (time.perf_counter() - started)

    return {
        "characters_per_document": round(float(mean_characters or 0)),  # type: ignore[arg-type]
        "stage_1_documents_per_second": timed(lambda: both.linear.logits(few["text"]), few.height),
        "stage_2_documents_per_second": timed(lambda: both.transformer.logits(few["text"], CERTIFICATE.batch_tokens), few.height),
        "cascade_documents_per_second": round(built(store, "scores", cascade, CERTIFICATE, [classifier]).metrics["rate"], 1),
    }


def timed(work: Callable[[], Any], documents: int) -> float:
    started = time.perf_counter()
    work()
    return round(documents / (time.perf_counter() - started), 1)


if __name__ == "__main__":
    main()

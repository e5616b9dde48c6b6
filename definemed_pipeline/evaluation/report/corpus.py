"""The corpus in facts: what became of every document, what it is made of, and how well annotator, classifier and corpus agree with labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.report.measures import Range, range_of
from definemed_pipeline.evaluation.report.tracing import Traced, TracedFiles, TracedText


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of some documents."""

    name: str
    documents: Traced
    is_kept: bool


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well something tells documents of the field from others, against some labels."""

    name: str
    labels: str
    precision: Range
    recall: Range


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The facts."""

    name: str
    documents: Traced
    fates: Sequence[Fate]
    totals: Mapping[str, Traced]
    qualities: Sequence[Quality]
    certificate: TracedText


def read_corpus(files: TracedFiles) -> Corpus:
    """Read the facts from the corpus and from what it was made with."""
    statistics = files.document("finemed_de", "statistics.json")
    counts = statistics["counts"]
    fates = [
        Fate(name=_fate(name), documents=counts[name], is_kept=name == "kept")
        for name in ["not_medical", *sorted(one for one in counts if one.startswith("dropped_")), "kept"]
    ]
    return Corpus(
        name=str(files.manifest("finemed_de")["identity"]["settings"]["card"]["name"]),
        documents=counts["documents"],
        fates=fates,
        totals=statistics["corpus"],
        qualities=[
            *_quality("annotator", "gold labels", files.document("annotations", "agreement.json")),
            *_quality("classifier", "hold-out", files.manifest("medical_classifier")["metrics"]),
            *_quality("corpus", "gold labels", statistics["gold"]),
        ],
        certificate=files.document("cascade_certificate", "certificate.json")["in_words"],
    )


def _fate(name: str) -> str:
    return "not of the field" if name == "not_medical" else name.removeprefix("dropped_").replace("_", " ")


def _quality(name: str, labels: str, figures: Mapping[str, Any]) -> list[Quality]:
    """Return one row where precision and recall were measured."""
    if figures.get("precision") is None or figures.get("recall") is None:
        return []
    return [Quality(name=name, labels=labels, precision=range_of(figures, "precision"), recall=range_of(figures, "recall"))]

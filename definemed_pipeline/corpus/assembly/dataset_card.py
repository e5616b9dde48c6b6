"""The dataset card of the corpus: a README.md as the Hugging Face Hub shows it and `datasets` reads it, every number from artifacts."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import polars as pl
import yaml

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.assembly.benchmark_leaks import ASSET as LEAKS
from definemed_pipeline.corpus.assembly.medical_documents import ASSET as DOCUMENTS
from definemed_pipeline.corpus.settings import FinemedDeSettings

TEMPLATE = "dataset_card.md.jinja"
SHOWN = 10  # of the largest dumps and domains
# The Hub's names for sizes: documents below the number.
SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
}


def write_dataset_card(
    draft: Draft[FinemedDeSettings],
    *,
    counts: Mapping[str, int],
    totals: Mapping[str, Any],
    gold: Mapping[str, Any],
    questions: pl.DataFrame,
) -> None:
    """Write `README.md` beside the data, the leaks and the statistics, which it tells about."""
    card = _template().render(
        front_matter=_front_matter(draft.settings, counts["kept"]),
        card=draft.settings.card,
        settings=draft.settings,
        signed=_first(draft, DOCUMENTS).identity.settings,
        leaks=_first(draft, LEAKS).identity.settings,
        counts=counts,
        totals=totals,
        gold=gold,
        benchmarks=_benchmarks(questions),
        dumps=_largest(draft, "by_dump"),
        domains=_largest(draft, "by_domain"),
        shown=SHOWN,
        classifier=_classifier(draft),
        certificate=_certificate(draft),
        origin=_origin(draft),
    )
    (draft.folder / "README.md").write_text(card, "utf-8")


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    environment.filters |= {"number": lambda value: f"{value:,}", "share": _share}
    return environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text("utf-8"))


def _share(figures: Mapping[str, Any], name: str) -> str:
    """Return a proportion in percent with its 95 % interval."""
    low, high = figures[f"{name}_low"], figures[f"{name}_high"]
    return f"{100 * figures[name]:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def _front_matter(settings: FinemedDeSettings, documents: int) -> str:
    card = settings.card
    front = {
        "pretty_name": card.name,
        "language": list(card.languages),
        "license": card.license,
        "size_categories": [next((name for limit, name in SIZES.items() if documents < limit), "n>1B")],
        "task_categories": ["text-generation"],
        "tags": list(card.tags),
        # The artifact's other tables are none of the corpus: without this, `load_dataset` would read them too.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _first(draft: Draft[Any], asset: str) -> Any:
    """Return the manifest of an asset's first partition; all were made in one way."""
    return draft.input_manifest(asset, draft.partitions(asset)[0])


def _benchmarks(questions: pl.DataFrame) -> list[dict[str, Any]]:
    return (
        questions.group_by("benchmark")
        .agg(
            questions=pl.len(),
            leaked=(pl.col("leaked_documents") > 0).sum(),
            documents=pl.col("documents").explode(keep_nulls=False, empty_as_null=False).n_unique(),
        )
        .sort("benchmark")
        .to_dicts()
    )


def _largest(draft: Draft[Any], table: str) -> list[dict[str, Any]]:
    found = pl.read_parquet(draft.folder / "statistics" / f"{table}.parquet")
    return found.sort("documents", found.columns[0], descending=[True, False]).head(SHOWN).to_dicts()


def _classifier(draft: Draft[Any]) -> dict[str, Any] | None:
    """Return what the card says of the classifier: its threshold and its figures on documents it did not learn from."""
    if not draft.partitions("medical_classifier"):
        return None
    record = json.loads((draft.input("medical_classifier") / "classifier.json").read_text("utf-8"))
    figures = {"precision": None, "recall": None} | dict(draft.input_manifest("medical_classifier").metrics)
    return {"threshold": record["rule"]["decision_threshold"], "figures": figures}


def _certificate(draft: Draft[Any]) -> dict[str, Any] | None:
    """Return the certificate of the cascade, where the recipe's lake has one."""
    if not draft.partitions("cascade_certificate"):
        return None
    found: dict[str, Any] = json.loads((draft.input("cascade_certificate") / "certificate.json").read_text("utf-8"))
    return found


def _origin(draft: Draft[Any]) -> list[dict[str, Any]]:
    """Return the kinds of artifacts the corpus was made from, those of shards in one line."""
    assets = sorted({one.asset for one in draft.identity.inputs})
    return [
        {"asset": asset, "artifacts": len(found), "version": found[0].version if len(found) == 1 else None}
        for asset in assets
        if (found := [one for one in draft.identity.inputs if one.asset == asset])
    ]

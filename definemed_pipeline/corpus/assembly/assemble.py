"""FineMed-de: the medical documents less the short, the leaking and the repeated, as sorted parquet with counts that add up.

The rules drop in the order of `REASONS`, and a document is counted under the first that applies. Leaks go before duplicates: were
they dropped after, a clean document could have been left out as a duplicate of one that then leaks. Documents are numbers here (see
`segments`): what is held of each is a few bytes, and the texts only pass through.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.agreement import agreement
from definemed_pipeline.corpus.assembly.benchmark_leaks import ASSET as LEAKS
from definemed_pipeline.corpus.assembly.benchmark_leaks import LEAKS_SCHEMA
from definemed_pipeline.corpus.assembly.dataset_card import write_dataset_card
from definemed_pipeline.corpus.assembly.deduplicate import Duplicates, best_first, equal, exact_duplicates, near_duplicates
from definemed_pipeline.corpus.assembly.medical_documents import ADDED
from definemed_pipeline.corpus.assembly.medical_documents import ASSET as DOCUMENTS
from definemed_pipeline.corpus.assembly.merge import write_merged
from definemed_pipeline.corpus.assembly.segments import Bools, Numbers, Segments
from definemed_pipeline.corpus.assembly.statistics import write_statistics
from definemed_pipeline.corpus.assembly.uniform import check_uniform, read_counts
from definemed_pipeline.corpus.parquet import ParquetStream, write_parquet
from definemed_pipeline.corpus.settings import FinemedDeSettings, MedicalDocumentsSettings
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.errors import UserError

REASONS = ("too_short", "duplicate_id", "benchmark_leak", "exact_duplicate", "near_duplicate")
# Dropping one of these is no miss: the text is still there in its copy, or must not be there. What is too short is missed.
NO_MISS = ("duplicate_id", "benchmark_leak", "exact_duplicate", "near_duplicate")
DROPPED_SCHEMA = pl.Schema({"id": pl.String, "shard": pl.String, "row": pl.Int64, "reason": pl.String, "detail": pl.String})


def assemble_corpus(draft: Draft[FinemedDeSettings]) -> None:
    """Assemble the corpus from the segments of all shards and the leaks found in them.

    Write `data/finemed_de-00000-of-0000N.parquet` (by id: FineWeb2's columns, the shards' further ones, `medical_probability`, `decided_by`,
    `shard`, `words`), `dropped.parquet` (by shard and row), `leaks.parquet` (by question), `statistics.json`, `statistics/` and the dataset
    card `README.md`. Raise UserError where the segments were not all made in one way, or nothing is left.
    """
    check_uniform(draft)
    names = draft.partitions(DOCUMENTS)
    segments = Segments(tuple(names), tuple(draft.input(DOCUMENTS, name) for name in names))
    leaks = pl.concat([pl.DataFrame(schema={**LEAKS_SCHEMA, "number": pl.Int64}), *_leaks(segments, draft)])
    id_ranks = segments.id_ranks()
    fates = _decide(segments, id_ranks, leaks, draft)
    kept = np.flatnonzero(fates.reason == 0)
    counts = _count(fates, draft)
    draft.report(f"writing {len(kept):,} documents")
    write_merged(
        segments,
        kept[np.argsort(id_ranks[kept])],
        draft.folder / "data",
        rows_per_file=draft.settings.rows_per_file,
        columns=_columns,
        report=draft.report,
    )
    del id_ranks
    _write_dropped(segments, fates, leaks, draft)
    questions = _write_leaks(leaks, draft)
    gold = _measure(segments, fates, draft)
    totals = write_statistics(draft.folder, counts, temporary=draft.checkpoints)
    draft.write_json("statistics.json", {"corpus": totals, "counts": counts, "gold": gold})
    write_dataset_card(draft, counts=counts, totals=totals, gold=gold, questions=questions)
    leaked = questions.filter(pl.col("leaked_documents") > 0).height
    draft.metrics |= {**counts, "words": totals["words"], "questions": questions.height, "questions_leaked": leaked, **gold}


@dataclass
class _Fates:
    """What becomes of every document: `reason` 0 kept, else the place in REASONS counted from 1; `stays` the document in whose favour."""

    reason: npt.NDArray[np.uint8]
    stays: npt.NDArray[np.uint32]

    def drop(self, reason: str, numbers: Numbers, stays: Numbers | None = None) -> None:
        self.reason[numbers] = REASONS.index(reason) + 1
        if stays is not None:
            self.stays[numbers] = stays

    def is_dropped(self, reason: str) -> Bools:
        return self.reason == REASONS.index(reason) + 1


def _leaks(segments: Segments, draft: Draft[Any]) -> Iterator[pl.DataFrame]:
    for name, start in zip(segments.names, segments.starts, strict=False):
        found = pl.read_parquet(draft.input(LEAKS, name) / "leaks.parquet")
        yield found.with_columns(number=pl.col("position").cast(pl.Int64) + int(start))


def _decide(segments: Segments, id_ranks: npt.NDArray[np.uint32], leaks: pl.DataFrame, draft: Draft[FinemedDeSettings]) -> _Fates:
    """Apply the rules in their order."""
    fates = _Fates(np.zeros(len(segments), np.uint8), np.zeros(len(segments), np.uint32))
    ranked = best_first(segments, id_ranks)

    def left() -> Numbers:
        return ranked[fates.reason[ranked] == 0]

    def drop(reason: str, found: Duplicates) -> None:
        fates.drop(reason, found.dropped, found.kept)
        draft.report(f"{reason.replace('_', ' ')}: {len(found.dropped):,} documents")

    fates.drop("too_short", np.flatnonzero(segments.column("words") < draft.settings.min_words))
    drop("duplicate_id", equal(left(), id_ranks))
    leaking = leaks["number"].unique().to_numpy()
    fates.drop("benchmark_leak", leaking[fates.reason[leaking] == 0])
    drop("exact_duplicate", exact_duplicates(segments, left()))
    signed = MedicalDocumentsSettings(**draft.input_manifest(DOCUMENTS, segments.names[0]).identity.settings)
    drop("near_duplicate", near_duplicates(segments, left(), signed, draft.settings.min_jaccard, draft.checkpoints))
    return fates


def _count(fates: _Fates, draft: Draft[FinemedDeSettings]) -> dict[str, int]:
    """Count every document of the shards exactly once; raise UserError where none is kept."""
    total = sum(read_counts(draft, name)["documents"] for name in draft.partitions(DOCUMENTS))
    by_reason = {f"dropped_{reason}": int(fates.is_dropped(reason).sum()) for reason in REASONS}
    counts = {
        "documents": total,
        "not_medical": total - len(fates.reason),
        **by_reason,
        "kept": int((fates.reason == 0).sum()),
    }
    assert total == counts["not_medical"] + sum(by_reason.values()) + counts["kept"], counts
    if not counts["kept"]:
        gone = ", ".join(
            f"{name.removeprefix('dropped_')} {count:,}" for name, count in counts.items() if name not in ("documents", "kept")
        )
        raise UserError(
            f"no document is left for finemed_de: of {total:,} documents went {gone}. Check the classifier's threshold and finemed_de.min_words"
        )
    return counts


def _columns(found: Sequence[str]) -> list[str]:
    """Return the corpus's columns: FineWeb2's, the shards' further ones by name, ours."""
    ours = [name for name in ADDED if name != "row"]
    return [*FINEWEB2_SCHEMA, *sorted(set(found) - {*FINEWEB2_SCHEMA, *ADDED}), *ours]


def _write_dropped(segments: Segments, fates: _Fates, leaks: pl.DataFrame, draft: Draft[Any]) -> None:
    """Write every dropped document with its reason and what a reader wants to know about it, a shard at a time."""
    questions = (
        leaks.sort("number", "benchmark", "question_id")
        .group_by("number", maintain_order=True)
        .agg(detail=pl.format("{}:{}", "benchmark", "question_id").str.join(", "))
    )
    details = pl.concat([_words(segments, fates), _places(segments, fates), _kept_ids(segments, fates)])
    leaking = pl.DataFrame({"number": np.flatnonzero(fates.is_dropped("benchmark_leak"))}).join(questions, on="number")
    details = pl.concat([details, leaking]).sort("number")
    reasons = pl.Series(["", *REASONS])
    with ParquetStream(draft.folder / "dropped.parquet", DROPPED_SCHEMA) as file:
        for index, name in enumerate(segments.names):
            numbers = np.arange(len(segments))[segments.of(index)]
            numbers = numbers[fates.reason[numbers] > 0]
            rows = pl.read_parquet(segments.folders[index] / "signatures.parquet", columns=["id", "row"])
            table = rows[numbers - segments.starts[index]].with_columns(
                number=pl.Series(numbers), shard=pl.lit(name), reason=reasons.gather(fates.reason[numbers])
            )
            file.write(table.join(details, on="number", how="left", maintain_order="left").sort("row"))


def _words(segments: Segments, fates: _Fates) -> pl.DataFrame:
    numbers = np.flatnonzero(fates.is_dropped("too_short"))
    return pl.DataFrame({"number": numbers, "words": segments.column("words")[numbers]}).select(
        "number", detail=pl.format("{} words", "words")
    )


def _places(segments: Segments, fates: _Fates) -> pl.DataFrame:
    """Say where the document of the same id stands that was kept instead."""
    numbers = np.flatnonzero(fates.is_dropped("duplicate_id"))
    stays = fates.stays[numbers].astype(np.int64)
    shards = pl.Series(segments.names, dtype=pl.String).gather(segments.owners(stays))
    frame = pl.DataFrame({"number": numbers, "shard": shards, "row": segments.column("row")[stays]})
    return frame.select("number", detail=pl.format("{} row {}", "shard", "row"))


def _kept_ids(segments: Segments, fates: _Fates) -> pl.DataFrame:
    """Name the document that says the same and was kept instead."""
    numbers = np.flatnonzero(fates.is_dropped("exact_duplicate") | fates.is_dropped("near_duplicate"))
    stays, places = np.unique(fates.stays[numbers].astype(np.int64), return_inverse=True)
    return pl.DataFrame({"number": numbers, "detail": segments.ids(stays).gather(places)})


def _write_leaks(leaks: pl.DataFrame, draft: Draft[Any]) -> pl.DataFrame:
    """Write and return a row for every question: how many medical documents leak it, and which, whatever rule dropped them."""
    first = draft.partitions(LEAKS)[0]
    questions = pl.read_parquet(draft.input(LEAKS, first) / "questions.parquet")
    key = ["benchmark", "question_id"]
    found = leaks.unique(["number", *key]).group_by(key).agg(pl.col("id").sort().alias("documents"))
    table = (
        questions.join(found, on=key, how="left")
        .select(*key, pl.col("documents").list.len().fill_null(0).alias("leaked_documents"), "documents")
        .sort(key)
    )
    write_parquet(table, draft.folder / "leaks.parquet")
    return table


def _measure(segments: Segments, fates: _Fates, draft: Draft[Any]) -> Mapping[str, Any]:
    """Compare the corpus with the gold labels that `annotations` found in the shards: a gold document counts as taken where it is kept.

    Left out are gold documents that a person could not decide, and those that were dropped for a reason of `NO_MISS`.
    """
    annotations = draft.input("annotations") / "annotations.parquet"
    gold = pl.scan_parquet(annotations).filter(role="gold").select("id", is_medical="gold_is_medical").collect()
    if gold.is_empty():
        return {}
    found = segments.find(gold["id"])
    reason = pl.Series(["", *REASONS]).gather(fates.reason[found["number"].to_numpy()])
    kept, excused = (found.filter(reason.is_in(reasons))["id"] for reasons in ([""], NO_MISS))
    is_kept = pl.col("id").is_in(kept.implode())
    compared = gold.drop_nulls("is_medical").filter(is_kept | ~pl.col("id").is_in(excused.implode()))
    decided = compared.select(is_kept).to_series()
    counts = {"gold_documents": compared.height, "gold_left_out": gold.height - compared.height}
    return {**counts, **(agreement(compared["is_medical"], decided) if compared.height else {})}

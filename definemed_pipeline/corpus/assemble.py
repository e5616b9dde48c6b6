"""FineMed-de: the documents the classifier took, less the short, the leaking and the repeated, as sorted parquet with counts that add up.

The rules drop in the order of `REASONS`, and a document is counted under the first that applies. Leaks go before duplicates: were
they dropped after, a clean document could have been left out as a duplicate of one that then leaks.
"""

import time
from collections.abc import Iterable
from typing import Any

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.agreement import agreement, read_gold
from definemed_pipeline.corpus.decontaminate import Questions, read_questions
from definemed_pipeline.corpus.deduplicate import find_duplicates, signatures
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.settings import FinemedDeSettings
from definemed_pipeline.corpus.shards import ASSET as SHARDS
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA, open_shard
from definemed_pipeline.corpus.statistics import write_statistics
from definemed_pipeline.corpus.taken import SCORE_COLUMNS, Taken, take
from definemed_pipeline.corpus.text import word_hashes
from definemed_pipeline.errors import UserError

SCORES = "classifier_scores"
REASONS = ("too_short", "duplicate_id", "benchmark_leak", "exact_duplicate", "near_duplicate")
# Dropping one of these is no miss: the text is still there in its copy, or must not be there. What is too short is missed.
NO_MISS = ("duplicate_id", "benchmark_leak", "exact_duplicate", "near_duplicate")
ADDED = (*SCORE_COLUMNS, "shard", "words")
DROPPED_SCHEMA = {"document": pl.UInt32, "reason": pl.String, "detail": pl.String}


def assemble_corpus(draft: Draft[FinemedDeSettings]) -> None:
    """Assemble the corpus from all shards and their scores.

    Write `data/finemed_de-00000-of-0000N.parquet` (by id: FineWeb2's columns, a shard's further ones, `medical_probability`, `decided_by`,
    `shard`, `words`), `dropped.parquet`, `leaks.parquet`, `statistics.json` and `statistics/`. Raise UserError where nothing is left.
    """
    taken = _take(draft)
    questions = read_questions(
        (source for source in draft.identity.sources if source.name.startswith(("benchmark/", "instructions/"))),
        draft.settings.decontamination_ngram,
    )
    documents, leaks = _examine(taken, questions, draft)
    dropped = _drop(documents, leaks, questions, taken, draft.settings)
    kept = documents.join(dropped, on="document", how="anti").sort("id")
    counts = _count(documents, dropped, kept, draft)
    _write_data(kept, taken, draft)
    _write_dropped(documents, dropped, draft)
    _write_leaks(documents, leaks, questions, draft)
    gold = _measure(documents, dropped, kept, draft)
    totals = write_statistics(draft.folder / "data", draft.folder / "statistics")
    draft.write_json("statistics.json", {"corpus": totals, "counts": counts, "gold": gold})
    draft.metrics |= {**counts, "words": totals["words"], "questions_leaked": leaks["question"].n_unique(), **gold}


def _take(draft: Draft[FinemedDeSettings]) -> Taken:
    """Copy what the classifier took out of every shard into the checkpoints."""
    files = []
    for name in draft.partitions(SHARDS):
        shard = open_shard(draft, name)
        files.append(take(shard, draft.input(SCORES, name) / "scores.parquet", draft.checkpoints / "taken"))
        draft.report(f"took the medical documents of shard {name}")
    return Taken(tuple(files))


def _examine(taken: Taken, questions: Questions, draft: Draft[FinemedDeSettings]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the rules need of every taken document, and the pairs of document and question that leak."""
    light = {
        "document": pl.UInt32,
        "id": pl.String,
        "shard": pl.String,
        "row": pl.Int64,
        "language_score": pl.Float64,
        "words": pl.Int64,
    }
    settings = draft.settings.near_duplicates
    empty = pl.DataFrame(schema={**light, "digest": pl.Binary, "bands": pl.Array(pl.UInt64, settings.bands)})
    documents, leaks, done, started = [empty], [questions.leaks(word_hashes(pl.Series([], dtype=pl.String)))], 0, time.monotonic()
    for batch in taken.batches():
        if batch.is_empty():
            continue
        words = word_hashes(batch["text"])
        documents.append(pl.concat([batch.select(*light), signatures(words, settings, draft.settings.seed)], how="horizontal"))
        leaks.append(questions.leaks(words).with_columns(pl.col("document") + done))
        done += batch.height
        draft.report(f"examined {done:,} medical documents")
    if done:
        draft.metrics["examined_documents_per_second"] = round(done / (time.monotonic() - started), 1)
    return pl.concat(documents), pl.concat(leaks).with_columns(pl.col("document").cast(pl.UInt32))


def _drop(
    documents: pl.DataFrame, leaks: pl.DataFrame, questions: Questions, taken: Taken, settings: FinemedDeSettings
) -> pl.DataFrame:
    """Return `document`, `reason`, `detail` of every document that a rule drops, each once."""
    dropped = pl.DataFrame(schema=DROPPED_SCHEMA)

    def left() -> pl.DataFrame:
        return documents.join(dropped, on="document", how="anti")

    short = pl.col("words") < settings.min_words
    dropped = _add(dropped, left().filter(short), "too_short", pl.format("{} words", "words"))
    by_place = left().sort("shard", "row").with_columns(first=pl.format("{} row {}", "shard", "row").first().over("id"))
    dropped = _add(dropped, by_place.filter(~pl.col("id").is_first_distinct()), "duplicate_id", pl.col("first"))
    leaking = left().join(_leaked_questions(leaks, questions), on="document")
    dropped = _add(dropped, leaking, "benchmark_leak", pl.col("leaked"))
    copies = find_duplicates(left(), lambda wanted: taken.rows(wanted, ["text"]), settings.near_duplicates)
    return pl.concat([dropped, copies.rename({"kept_id": "detail"})])


def _add(dropped: pl.DataFrame, documents: pl.DataFrame, reason: str, detail: pl.Expr) -> pl.DataFrame:
    return pl.concat([dropped, documents.select("document", reason=pl.lit(reason), detail=detail)])


def _leaked_questions(leaks: pl.DataFrame, questions: Questions) -> pl.DataFrame:
    """Return `document`, `leaked`: the questions it leaks, in words for a reader."""
    named = leaks.join(questions.questions, on="question").sort("document", "question")
    return named.group_by("document", maintain_order=True).agg(
        leaked=pl.format("{}:{}", "benchmark", "question_id").str.join(", ")
    )


def _count(documents: pl.DataFrame, dropped: pl.DataFrame, kept: pl.DataFrame, draft: Draft[FinemedDeSettings]) -> dict[str, int]:
    """Count every document of the shards exactly once; raise UserError where none is kept."""
    total = sum(open_shard(draft, name).record.documents for name in draft.partitions(SHARDS))
    by_reason = {reason: dropped.filter(reason=reason).height for reason in REASONS}
    counts = {
        "documents": total,
        "not_medical": total - documents.height,
        **{f"dropped_{reason}": count for reason, count in by_reason.items()},
        "kept": kept.height,
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


def _write_data(kept: pl.DataFrame, taken: Taken, draft: Draft[FinemedDeSettings]) -> None:
    """Write the kept documents by id, one file's texts in memory at a time."""
    folder = draft.folder / "data"
    folder.mkdir()
    parts = list(kept.iter_slices(draft.settings.rows_per_file))
    for number, part in enumerate(parts):
        rows = taken.rows(part["document"]).sort("id")
        extra = sorted(set(rows.columns) - {*FINEWEB2_SCHEMA, *ADDED, "document", "row"})
        write_parquet(
            rows.select(*FINEWEB2_SCHEMA, *extra, *ADDED), folder / f"finemed_de-{number:05}-of-{len(parts):05}.parquet"
        )
        draft.report(f"wrote file {number + 1} of {len(parts)}")


def _write_dropped(documents: pl.DataFrame, dropped: pl.DataFrame, draft: Draft[FinemedDeSettings]) -> None:
    table = documents.join(dropped, on="document").select("id", "shard", "row", "reason", "detail")
    write_parquet(table.sort("id", "shard", "row"), draft.folder / "dropped.parquet")


def _write_leaks(documents: pl.DataFrame, leaks: pl.DataFrame, questions: Questions, draft: Draft[FinemedDeSettings]) -> None:
    """Write a row for every question: how many taken documents leak it, and which, whatever rule dropped them."""
    found = (
        leaks.join(documents.select("document", "id"), on="document")
        .group_by("question")
        .agg(pl.col("id").sort().alias("documents"))
    )
    table = (
        questions.questions.join(found, on="question", how="left")
        .select("benchmark", "question_id", pl.col("documents").list.len().fill_null(0).alias("leaked_documents"), "documents")
        .sort("benchmark", "question_id")
    )
    write_parquet(table, draft.folder / "leaks.parquet")


def _measure(
    documents: pl.DataFrame, dropped: pl.DataFrame, kept: pl.DataFrame, draft: Draft[FinemedDeSettings]
) -> dict[str, Any]:
    """Compare the corpus with gold: a gold document counts as taken where the corpus holds it.

    Left out are gold documents that a person could not decide, that are in no shard, and that were dropped for a reason of `NO_MISS`.
    """
    locations = [source.location for source in draft.identity.sources if source.name == "gold"]
    if not locations:
        return {}
    gold = read_gold(locations[0])
    found = gold.filter(pl.col("id").is_in(_ids_in_shards(gold["id"], draft).implode()))
    excused = dropped.filter(pl.col("reason").is_in(NO_MISS)).join(documents.select("document", "id"), on="document")["id"]
    is_kept = pl.col("id").is_in(kept["id"].implode())
    compared = found.drop_nulls("is_medical").filter(is_kept | ~pl.col("id").is_in(excused.implode()))
    decided = compared.select(is_kept).to_series()
    counts = {"gold_documents": compared.height, "gold_left_out": gold.height - compared.height}
    return {**counts, **(agreement(compared["is_medical"], decided) if compared.height else {})}


def _ids_in_shards(ids: pl.Series, draft: Draft[Any]) -> pl.Series:
    found: Iterable[pl.Series] = (
        pl.scan_parquet(draft.input(SCORES, name) / "scores.parquet")
        .select("id")
        .filter(pl.col("id").is_in(ids.implode()))
        .collect()
        .to_series()
        for name in draft.partitions(SHARDS)
    )
    return pl.concat(found)

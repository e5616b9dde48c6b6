"""Payload of the asset `benchmark_leaks`: which of a shard's medical documents quote a question the models will be tested on.

An artifact of its own, so that a new benchmark reads the medical documents again and rewrites none of them.
"""

import time

import polars as pl
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.assembly.decontaminate import read_questions
from definemed_pipeline.corpus.assembly.medical_documents import ASSET as DOCUMENTS
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.settings import BenchmarkLeaksSettings
from definemed_pipeline.corpus.text import word_hashes
from definemed_pipeline.payload import run_payload

ASSET = "benchmark_leaks"
LEAKS_SCHEMA = {"position": pl.UInt32, "id": pl.String, "benchmark": pl.String, "question_id": pl.String}
GROUPS_AT_ONCE = 8  # row groups of a segment: some 2,000 documents
REPORT_SECONDS = 5.0


def find_leaks(draft: Draft[BenchmarkLeaksSettings]) -> None:
    """Look for the questions of all sources in a shard's medical documents.

    Write `leaks.parquet`, a row per pair of document and question (`position` is the document's in its segment), and `questions.parquet`, all
    that was looked for. Raise UserError where a file of questions cannot be read. Nothing is kept of a killed try: a shard takes
    seconds, and so a rerun cannot forget what was found before.
    """
    questions = read_questions(draft.identity.sources, draft.settings.ngram, draft.settings.columns)
    started = reported = time.monotonic()
    done, found = 0, [pl.DataFrame(schema=LEAKS_SCHEMA)]
    with pq.ParquetFile(draft.input(DOCUMENTS, draft.identity.partition) / "documents.parquet") as file:
        for start in range(0, file.num_row_groups, GROUPS_AT_ONCE):  # `iter_batches` would hold more the longer the file is
            groups = range(start, min(start + GROUPS_AT_ONCE, file.num_row_groups))
            documents = pl.DataFrame(pl.from_arrow(file.read_row_groups(list(groups), columns=["id", "text"])))
            pairs = questions.leaks(word_hashes(documents["text"])).join(
                questions.questions, on="question", maintain_order="left"
            )
            found.append(
                pairs.with_columns(id=documents["id"].gather(pairs["document"]), position=pl.col("document") + done)
                .select(*LEAKS_SCHEMA)
                .cast(LEAKS_SCHEMA)  # type: ignore[arg-type]
            )
            done += documents.height
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                draft.report(f"examined {done:,} medical documents of shard {draft.identity.partition}")
    leaks = pl.concat(found)
    write_parquet(leaks, draft.folder / "leaks.parquet")
    write_parquet(questions.questions.select("benchmark", "question_id"), draft.folder / "questions.parquet")
    draft.metrics |= {
        "documents": done,
        "leaking_documents": leaks["position"].n_unique(),
        "questions": questions.questions.height,
        "questions_leaked": leaks.select("benchmark", "question_id").n_unique(),
        "documents_per_second": round(done / (time.monotonic() - started), 1),
    }


if __name__ == "__main__":
    run_payload(BenchmarkLeaksSettings, find_leaks, parse=BenchmarkLeaksSettings.parse)

"""Payload of the asset `medical_documents`: everything that can be known about one shard's medical documents alone.

The documents that the classifier took, one to two percent of the web, are copied out of the shard once, sorted by id and signed: a segment
of the index over all medical documents (see `segments`). What depends on other shards or on the evaluation belongs elsewhere.

Sorted in bounded memory: the scores say every document's place in the order beforehand, so one pass over the shard deals its documents out
to buckets of neighbouring places, and each bucket is then sorted by itself.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.assembly.segments import write_segment
from definemed_pipeline.corpus.settings import MedicalDocumentsSettings
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA, Shard, open_shard
from definemed_pipeline.payload import run_payload

ASSET = "medical_documents"
SCORES = "classifier_scores"
SCORE_COLUMNS: dict[str, type[pl.DataType]] = {"medical_probability": pl.Float32, "decided_by": pl.String}
ADDED: dict[str, type[pl.DataType]] = {**SCORE_COLUMNS, "shard": pl.String, "row": pl.Int64, "words": pl.Int64}
PLACE, SCORED_ID = "definemed:place", "definemed:scored_id"  # so called that no column of a shard has the name
BUCKET = 9_984  # documents: 39 row groups of a segment, some 30 MB of text


def collect_medical_documents(draft: Draft[MedicalDocumentsSettings]) -> None:
    """Write a shard's segment: `documents.parquet` (FineWeb2's columns, a shard's further ones, and `ADDED`) and `signatures.parquet`,
    and `shard.json` with its counts and the digest of the classifier that took the documents.

    Raise ValueError where the scores are not this shard's.
    """
    started = time.monotonic()
    shard = open_shard(draft, draft.identity.partition)
    taken = _taken(draft.input(SCORES, shard.name) / "scores.parquet", shard)
    folder = draft.checkpoints / "buckets"
    shutil.rmtree(folder, ignore_errors=True)  # a killed try's: reading the shard is all the work there is, and it starts over
    folder.mkdir()
    schema = _deal(shard, taken, folder)
    draft.report(f"took {taken.height:,} of {shard.record.documents:,} documents of shard {shard.name}")
    written = write_segment(_sorted_buckets(folder), schema, draft.folder, draft.settings)
    assert written == taken.height, (written, taken.height)
    classifiers = [
        one.digest for one in draft.input_manifest(SCORES, shard.name).identity.inputs if one.asset == "medical_classifier"
    ]
    counts = {"documents": shard.record.documents, "medical_documents": written}
    draft.write_json("shard.json", {**counts, "classifier": next(iter(classifiers), None)})
    rate = round(written / (time.monotonic() - started), 1)
    draft.metrics |= {**counts, "medical_documents_per_second": rate}


def _taken(scores: Path, shard: Shard) -> pl.DataFrame:
    """Return the documents the classifier took: `row`, `SCORED_ID`, the scores, `PLACE` in the order of ids."""
    lazy = pl.scan_parquet(scores)
    if lazy.select(pl.len()).collect().item() != shard.record.documents:
        raise ValueError(f"{scores} does not score shard {shard.name}: it has another number of documents")
    taken = lazy.filter("is_medical").select("row", *SCORE_COLUMNS, pl.col("id").alias(SCORED_ID)).collect()
    return taken.sort(SCORED_ID, "row").with_row_index(PLACE)


def _deal(shard: Shard, taken: pl.DataFrame, folder: Path) -> pl.Schema:
    """Deal a shard's taken documents out to buckets, in one pass over the shard; return their schema without `PLACE`."""
    schema = pl.Schema({**FINEWEB2_SCHEMA, **ADDED})  # of a shard without a row group
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    with contextlib.ExitStack() as files:
        for frame in shard.row_groups([*FINEWEB2_SCHEMA, *shard.extra_columns]):
            found = frame.join(taken, on="row", how="inner", maintain_order="left")
            if not found["id"].equals(found[SCORED_ID]):
                raise ValueError(f"the scores of shard {shard.name} are of other documents")
            documents = found.select(
                PLACE,
                *FINEWEB2_SCHEMA,
                *shard.extra_columns,
                *SCORE_COLUMNS,
                pl.lit(shard.name).alias("shard"),
                "row",
                pl.col("text").fill_null("").str.count_matches(r"\S+").cast(pl.Int64).alias("words"),
            )
            schema = documents.drop(PLACE).schema
            for (bucket,), part in documents.group_by(pl.col(PLACE) // BUCKET, maintain_order=True):
                table = part.to_arrow()
                if bucket not in writers:
                    options = pa.ipc.IpcWriteOptions(compression="lz4")
                    writer = pa.ipc.new_stream(folder / f"{bucket:06}.arrows", table.schema, options=options)
                    writers[bucket] = files.enter_context(writer)
                writers[bucket].write_table(table)
    return schema


def _sorted_buckets(folder: Path) -> Iterator[pl.DataFrame]:
    for path in sorted(folder.iterdir()):
        with pa.ipc.open_stream(path) as stream:
            bucket = pl.DataFrame(pl.from_arrow(stream.read_all()))
        yield bucket.sort(PLACE).drop(PLACE)


if __name__ == "__main__":
    run_payload(MedicalDocumentsSettings, collect_medical_documents)

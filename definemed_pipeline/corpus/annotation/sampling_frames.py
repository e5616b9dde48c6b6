"""Payload of the asset `sampling_frames`: a shard's documents as numbers to draw samples by.

A sampling frame is what survey statistics calls the list of all units with what is known of each before it is asked: here a random
key, the dump, and the range of a cheap score. How samples are drawn from the frames stands in `sampling`.
"""

import time

import numpy as np
import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.annotation.lexicon import Lexicon, read_lexicon
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.settings import SamplingFrameSettings
from definemed_pipeline.corpus.shards import open_shard
from definemed_pipeline.keyed_hash import keyed_hash
from definemed_pipeline.payload import run_payload

ASSET = "sampling_frames"
FRAME_SCHEMA: dict[str, type[pl.DataType]] = {
    "row": pl.Int64,
    "key": pl.UInt64,
    "text_key": pl.UInt64,
    "dump": pl.String,
    "score_bin": pl.UInt8,
}
SLICE = 2_000  # documents of a row group that are scored together, measured to be the quickest
REPORT_SECONDS = 5.0


def build_frame(draft: Draft[SamplingFrameSettings]) -> None:
    """Write `frame.parquet`: one row per document with text, sorted by `key`; of an id that a shard holds twice, the first.

    `row` is the position in the shard, `key` the keyed hash of the id (uniform over u64), `text_key` that of the text (equal texts
    have equal ones), `dump` the crawl ("unknown" where null), `score_bin` the position of the cheap score's bin. A killed try
    starts over: a shard takes a few minutes.
    """
    shard = open_shard(draft, draft.identity.partition)
    lexicon = read_lexicon(draft.source("lexicon").location)
    started, reported, read = time.monotonic(), time.monotonic(), 0
    parts = [pl.DataFrame(schema=FRAME_SCHEMA)]
    for documents in shard.row_groups(["id", "dump", "text"]):
        parts += [_frame(part, lexicon, draft.settings) for part in documents.iter_slices(SLICE)]
        read += documents.height
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            rate = read / (reported - started)
            draft.report(f"{shard.name}: {read:,} of {shard.record.documents:,} documents, {rate:,.0f} documents/s")
    with_text = pl.concat(parts)
    frame = with_text.sort("key", "row").unique("key", keep="first", maintain_order=True)
    write_parquet(frame, draft.folder / "frame.parquet")
    seconds = time.monotonic() - started
    counts = np.bincount(frame["score_bin"].to_numpy(), minlength=len(draft.settings.score_bins))
    draft.metrics |= {
        "documents": frame.height,
        "without_text": read - with_text.height,
        "duplicate_ids": with_text.height - frame.height,
        "documents_by_score_bin": dict(zip(draft.settings.bin_names, counts.tolist(), strict=True)),
        "seconds": round(seconds, 1),
        "documents_per_second": round(read / seconds, 1),
    }


def _frame(documents: pl.DataFrame, lexicon: Lexicon, settings: SamplingFrameSettings) -> pl.DataFrame:
    readable = documents.filter(pl.col("text").str.strip_chars() != "")
    scores = lexicon.score(readable["text"].str.head(settings.max_characters))
    return readable.select(
        "row",
        key=keyed_hash(readable["id"], settings.seed),
        text_key=keyed_hash(readable["text"], settings.seed),
        dump=pl.col("dump").fill_null("unknown"),
        score_bin=pl.Series(np.searchsorted(settings.bin_bounds, scores.to_numpy(), side="right"), dtype=pl.UInt8),
    )


if __name__ == "__main__":
    run_payload(SamplingFrameSettings, build_frame)

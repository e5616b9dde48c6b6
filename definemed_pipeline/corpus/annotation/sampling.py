"""Which documents are annotated: three samples that share no document, drawn from the shards' sampling frames by numbers alone.

In the order of their random keys, the first documents of the whole web are the hold-out and the next the unlabelled sample: two simple
random samples. From the rest a stratified sample is drawn, the smallest keys of each stratum, which is a dump and a score bin.
Rare medicine is seen because the recipe says which share of the sample each score bin gets; within a bin the dumps are
served in proportion to their size (Cochran 1977, chapter 5). Documents with gold labels, and copies of their texts, are in no sample.

The frames are read in ranges of keys, so that no more than `ROWS_AT_ONCE` rows of numbers are in memory however large the web is, and
all copies of an id meet in one range.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from definemed_pipeline.corpus.settings import AnnotationSettings, SamplingFrameSettings
from definemed_pipeline.keyed_hash import keyed_hash

ROWS_AT_ONCE = 2_000_000
KEYS = 1 << 64
ALL_DUMPS = "*"
Frames = Mapping[str, Path]  # shard -> its frame.parquet


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Who was drawn, and for how many each stands.

    `documents`: `shard`, `row`, `key`, `role` (sample, hold_out, unlabelled or gold), `stratum`; sorted by shard and row.
    `strata`: those of the sample, `stratum`, `score_bin` (its name), `population`: the documents the sample was drawn from, which are
    neither gold, nor copies of a gold text, nor in a purely random sample. `eligible`: how many documents the hold-out was drawn from.
    """

    documents: pl.DataFrame
    strata: pl.DataFrame
    eligible: int


def draw(
    frames: Frames,
    gold_ids: pl.Series,
    settings: AnnotationSettings,
    frame_settings: SamplingFrameSettings,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Drawn:
    """Draw the gold documents and the three samples; the same frames give the same samples, in whatever pieces they are read.

    Where the web is too small for all, the hold-out is filled first, then the unlabelled sample, then the stratified one.
    """
    names = frame_settings.bin_names
    gold = _gold(frames, pl.Series(keyed_hash(gold_ids, frame_settings.seed)))
    purely_random, cells, eligible = _purely_random(
        _eligible(frames, gold, rows_at_once), settings.hold_out_size + settings.unlabelled_size
    )
    cells = allocate(cells, [settings.sample_shares[name] for name in names], settings.sample_size)
    rest = _eligible(frames, gold, rows_at_once, first=purely_random["key"][-1] + 1 if purely_random.height else 0)
    parts = {
        "gold": gold,
        "hold_out": purely_random.head(settings.hold_out_size),
        "unlabelled": purely_random.slice(settings.hold_out_size),
        "sample": _smallest_keys(rest, cells),
    }
    readable = pl.format("{}/{}", "stratum_dump", _name_of("score_bin", names)).alias("stratum")
    drawn = pl.concat(
        part.with_columns(**({} if role == "sample" else {"stratum_dump": pl.col("dump")})).select(
            _name_of("shard", sorted(frames)), "row", "key", readable, role=pl.lit(role)
        )
        for role, part in parts.items()
    )
    strata = cells.select(readable, _name_of("score_bin", names), "population").unique(maintain_order=True)
    return Drawn(documents=drawn.sort("shard", "row"), strata=strata, eligible=eligible)


def allocate(cells: pl.DataFrame, shares: Sequence[float], size: int) -> pl.DataFrame:
    """Say how many documents of each stratum are sampled, where score bin number i gets `shares[i]` of them.

    `cells` are `dump`, `score_bin` and `documents`; added are `stratum_dump`, and of its stratum `population` and `sampled`; sorted by
    score bin and dump. A score bin that is smaller than its share is taken whole, and the others get what it leaves in
    proportion to their shares. Every stratum is sampled, so that every document is stood for; where a bin gets fewer documents than
    it has dumps, it is one stratum over all of them.
    """
    cells = cells.sort("score_bin", "dump")
    bins = cells.group_by("score_bin", maintain_order=True).agg(pl.col("documents").sum())
    sizes = apportion(
        min(size, int(bins["documents"].sum())),
        weights=[shares[number] for number in bins["score_bin"]],
        at_least=[1] * bins.height,
        at_most=bins["documents"].to_list(),
    )
    dump, documents = pl.col("dump"), pl.col("documents")
    parts = [cells.clear().with_columns(stratum_dump=dump, population=documents, sampled=documents)]
    for number, sampled in zip(bins["score_bin"], sizes, strict=True):
        of_bin = cells.filter(score_bin=number)
        sizes_of_dumps = of_bin["documents"].to_list()
        if sampled < of_bin.height:
            part = of_bin.with_columns(
                stratum_dump=pl.lit(ALL_DUMPS), population=documents.sum(), sampled=pl.lit(sampled, pl.Int64)
            )
        else:
            per_dump = apportion(sampled, weights=sizes_of_dumps, at_least=[1] * of_bin.height, at_most=sizes_of_dumps)
            part = of_bin.with_columns(stratum_dump=dump, population=documents, sampled=pl.Series(per_dump, dtype=pl.Int64))
        parts.append(part)
    return pl.concat(parts)


def apportion(total: int, *, weights: Sequence[float], at_least: Sequence[int], at_most: Sequence[int]) -> list[int]:
    """Divide a total into whole numbers in proportion to weights, within bounds: the method of largest remainders (Hamilton).

    The quotas are `scale * weight` clipped to the bounds, for the one scale at which they sum to the total; equal remainders are
    settled by position. `total` lies between the sums of the bounds, and the weights are above 0.
    """
    assert sum(at_least) <= total <= sum(at_most)
    weight, lower, upper = (np.asarray(values, dtype=np.float64) for values in (weights, at_least, at_most))
    low, high = 0.0, float(np.max(upper / weight, initial=0.0))
    for _ in range(200):  # halving until the floating point numbers between the two are used up
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(middle * weight, lower, upper).sum() < total else (low, middle)
    quotas = np.clip(low * weight, lower, upper)
    whole = np.floor(quotas)
    remainders = np.where(whole < upper, np.round(quotas - whole, 9), -1.0)
    whole[np.argsort(-remainders, kind="stable")[: total - int(whole.sum())]] += 1
    return [int(number) for number in whole]


def _name_of(column: str, names: Sequence[str]) -> pl.Expr:
    """Put a name in the place of its position."""
    return pl.col(column).replace_strict(range(len(names)), names, return_dtype=pl.String)


def _gold(frames: Frames, gold_keys: pl.Series) -> pl.DataFrame:
    """Return the rows of the gold documents, the first copy of each."""
    return _read(frames, pl.col("key").is_in(gold_keys.implode()))


def _eligible(frames: Frames, gold: pl.DataFrame, rows_at_once: int, *, first: int = 0) -> Iterator[pl.DataFrame]:
    """Yield the frames' rows from key `first` on, in key order and pieces: each id once, without gold documents and copies of their texts."""
    total = sum(pq.read_metadata(path).num_rows for path in frames.values())
    step = -(-KEYS // max(1, -(-total // rows_at_once)))
    for start in range(first, KEYS, step):
        low, high = (pl.lit(key, pl.UInt64) for key in (start, min(start + step, KEYS) - 1))
        yield _read(frames, pl.col("key").is_between(low, high)).filter(
            ~pl.col("key").is_in(gold["key"].implode()), ~pl.col("text_key").is_in(gold["text_key"].implode())
        )


def _read(frames: Frames, wanted: pl.Expr) -> pl.DataFrame:
    """Read the wanted rows of all frames in key order, each id's first, with `shard`, a position in the frames' sorted names."""
    found = pl.concat(
        pl.scan_parquet(frames[name]).filter(wanted).with_columns(shard=pl.lit(number, pl.UInt32))
        for number, name in enumerate(sorted(frames))
    ).collect()
    return found.sort("key", maintain_order=True).filter(pl.col("key").ne_missing(pl.col("key").shift()))


def _purely_random(eligible: Iterator[pl.DataFrame], size: int) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the first `size` rows, and of what is left the documents per dump and score bin; and how many there were in all."""
    drawn, counts, total = [], [], 0
    for part in eligible:
        wanted = max(0, min(size - total, part.height))
        drawn.append(part.head(wanted))
        counts.append(part.slice(wanted).group_by("dump", "score_bin").agg(documents=pl.len().cast(pl.Int64)))
        total += part.height
    return pl.concat(drawn), pl.concat(counts).group_by("dump", "score_bin").agg(pl.col("documents").sum()), total


def _smallest_keys(rest: Iterator[pl.DataFrame], cells: pl.DataFrame) -> pl.DataFrame:
    """Return the first rows of each stratum, as many as it is allotted, with `stratum_dump`."""
    stratum = ("stratum_dump", "score_bin")
    stratum_of = cells.select("dump", *stratum)
    open_strata = cells.select(*stratum, "sampled", seen=pl.lit(0, pl.Int64)).unique()
    drawn = []
    for part in rest:
        placed = part.join(stratum_of, on=["dump", "score_bin"], maintain_order="left")
        numbered = placed.join(open_strata, on=stratum, maintain_order="left").with_columns(
            number=pl.col("seen") + pl.int_range(pl.len()).over(stratum)
        )
        drawn.append(numbered.filter(pl.col("number") < pl.col("sampled")).select(*part.columns, "stratum_dump"))
        counts = numbered.group_by(stratum).agg(more=pl.len())
        open_strata = open_strata.join(counts, on=stratum, how="left").select(
            *stratum, "sampled", seen=pl.col("seen") + pl.col("more").fill_null(0)
        )
        if (open_strata["seen"] >= open_strata["sampled"]).all():
            break
    return pl.concat(drawn)

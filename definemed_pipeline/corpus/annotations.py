"""Annotations: a random sample of documents with the annotator's labels, and the gold documents it is measured on.

The sample trains the classifier; gold documents never enter it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.agreement import agreement, proportion, read_gold
from definemed_pipeline.corpus.chat_settings import ChatAnnotator
from definemed_pipeline.corpus.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.settings import AnnotationSettings, LexiconAnnotator
from definemed_pipeline.corpus.shards import ASSET as SHARDS
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA, Shard, open_shard
from definemed_pipeline.errors import UserError

Annotator: TypeAlias = LexiconAnnotator | ChatAnnotator
NO_GOLD = pl.DataFrame(schema={"id": pl.String, "is_medical": pl.Boolean})
NO_DOCUMENTS = pl.DataFrame(schema={"row": pl.Int64, **FINEWEB2_SCHEMA, "shard": pl.String})
BATCH = 5_000  # documents scored at once


def annotate(draft: Draft[AnnotationSettings]) -> None:
    """Draw the sample, set the gold documents apart, label both, and measure the annotator against gold.

    Write `annotations.parquet` (FineWeb2's columns, `role` "sample" or "gold", `annotator_score`, `is_medical`, `gold_is_medical`;
    by id) and `agreement.json`. Raise UserError where nothing is left to sample.
    """
    gold_locations = [source.location for source in draft.identity.sources if source.name == "gold"]
    gold = read_gold(gold_locations[0]) if gold_locations else NO_GOLD
    shards = [open_shard(draft, name) for name in draft.partitions(SHARDS)]
    drawn = draw(_documents(shards, draft), gold["id"], draft.settings.sample_size, draft.settings.seed)
    if drawn.filter(role="sample").is_empty():
        raise UserError(
            f"no document is left to sample: beside {drawn.height:,} gold documents the {len(shards)} shards hold none with text; "
            "name more files in source.files, or label fewer documents as gold"
        )
    labelled = _label(drawn, draft).join(
        gold.rename({"is_medical": "gold_is_medical"}), on="id", how="left", maintain_order="left"
    )
    write_parquet(labelled, draft.folder / "annotations.parquet")
    _measure(labelled, gold, draft)


def draw(documents: Iterable[pl.DataFrame], gold_ids: pl.Series, size: int, seed: int) -> pl.DataFrame:
    """Return the gold documents and the `size` others with the smallest keyed hash of their id, as `role`, sorted by id.

    `documents` are FineWeb2's columns with `shard` and `row`, in any order: the sample is the same (bottom-k sampling), and no more
    than about two samples are held in memory. Documents without text are not sampled, an id is drawn once, and a drawn copy of a
    gold document's text is taken out again, so that no gold text trains the classifier.
    """
    gold: list[pl.DataFrame] = [NO_DOCUMENTS]
    sample: list[pl.DataFrame] = [NO_DOCUMENTS.with_columns(draw_key=pl.lit(None, pl.UInt64))]
    limit, held = (1 << 64) - 1, 0
    for frame in (part.select(NO_DOCUMENTS.columns) for part in documents):
        is_gold = pl.col("id").is_in(gold_ids.implode())
        gold.append(frame.filter(is_gold))
        others = frame.filter(~is_gold, pl.col("text").str.strip_chars() != "")
        chosen = others.with_columns(draw_key=_keyed_hash(others["id"], seed)).filter(pl.col("draw_key") <= limit)
        sample.append(chosen)
        held += chosen.height
        if held > 2 * size:
            sample = [_smallest(sample, size)]
            held = sample[0].height
            limit = sample[0]["draw_key"][-1] if held == size else limit
    gold_documents = pl.concat(gold).sort("id", "shard", "row").unique("id", keep="first", maintain_order=True)
    copies = pl.col("text").is_in(gold_documents["text"].implode())
    drawn = _smallest(sample, size).filter(~copies)
    return pl.concat(
        documents.select(*FINEWEB2_SCHEMA, role=pl.lit(role)) for role, documents in (("sample", drawn), ("gold", gold_documents))
    ).sort("id")


def _documents(shards: Iterable[Shard], draft: Draft[Any]) -> Iterator[pl.DataFrame]:
    for shard in shards:
        draft.report(f"drawing from shard {shard.name}: {shard.record.documents:,} documents")
        for frame in shard.row_groups(list(FINEWEB2_SCHEMA)):
            yield frame.with_columns(shard=pl.lit(shard.name))


def _keyed_hash(ids: pl.Series, seed: int) -> pl.Series:
    """Return a u64 per id: BLAKE2b keyed with the seed.

    A loop over rows, at about a million a second: unlike polars' hash it never changes, so a sample can be drawn again years later.
    """
    key = seed.to_bytes(8, "little")
    digests = (hashlib.blake2b(value.encode(), digest_size=8, key=key).digest() for value in ids)
    return pl.Series((int.from_bytes(digest, "little") for digest in digests), dtype=pl.UInt64)


def _smallest(frames: list[pl.DataFrame], size: int) -> pl.DataFrame:
    """Keep the documents with the smallest keys, each id once; equal keys are settled by place."""
    return pl.concat(frames).sort("draw_key", "id", "shard", "row").unique("id", keep="first", maintain_order=True).head(size)


def annotator_sources(annotator: Annotator) -> dict[str, str]:
    """Return the files an annotator works from, by name: the lexicon, or the prompt."""
    if isinstance(annotator, LexiconAnnotator):
        return {"lexicon": lexicon_location(annotator.lexicon)}
    from definemed_pipeline.corpus.chat_annotator import prompt_location

    return {"prompt": prompt_location(annotator.prompt)}


def _label(drawn: pl.DataFrame, draft: Draft[AnnotationSettings]) -> pl.DataFrame:
    """Add `annotator_score` and `is_medical`; documents the annotator gave no verdict on are counted and left out."""
    annotator = draft.settings.annotator
    if isinstance(annotator, LexiconAnnotator):
        labelled = _label_by_lexicon(drawn, annotator, draft)
    else:
        labelled = _label_by_chat(drawn, annotator, draft)
    decided = labelled.drop_nulls("is_medical")
    draft.metrics["without_verdict"] = labelled.height - decided.height
    return decided


def _label_by_lexicon(drawn: pl.DataFrame, annotator: LexiconAnnotator, draft: Draft[AnnotationSettings]) -> pl.DataFrame:
    lexicon = read_lexicon(draft.source("lexicon").location)
    draft.metrics["lexicon_entries"] = len(lexicon)
    draft.report(f"labelling {drawn.height:,} documents with a lexicon of {len(lexicon):,} entries")
    scores = [lexicon.score(batch["text"]) for batch in drawn.iter_slices(BATCH)]
    return drawn.with_columns(annotator_score=pl.concat(scores)).with_columns(
        is_medical=pl.col("annotator_score") >= annotator.threshold
    )


def _label_by_chat(drawn: pl.DataFrame, annotator: ChatAnnotator, draft: Draft[AnnotationSettings]) -> pl.DataFrame:
    from definemed_pipeline.corpus.chat_annotator import annotate_by_chat, read_prompt

    draft.report(f"asking {annotator.endpoint.model} about {drawn.height:,} documents")
    labelled, accounting = annotate_by_chat(
        drawn,
        annotator,
        prompt=read_prompt(draft.source("prompt").location),
        cache_folder=draft.checkpoints / "answers",
        report=draft.report,
    )
    draft.metrics |= accounting
    return labelled


def _measure(labelled: pl.DataFrame, gold: pl.DataFrame, draft: Draft[AnnotationSettings]) -> None:
    """Write `agreement.json` and set the metrics."""
    sample, found = labelled.filter(role="sample"), labelled.filter(role="gold")
    decided = found.drop_nulls("gold_is_medical")
    counts = {
        "sample_documents": sample.height,
        "gold_documents": found.height,
        "gold_undecided": found.height - decided.height,
        "gold_not_in_shards": gold.height - found.height,
    }
    if counts["gold_not_in_shards"]:
        draft.report(f"{counts['gold_not_in_shards']:,} of {gold.height:,} gold documents are in none of the shards")
    figures = agreement(decided["gold_is_medical"], decided["is_medical"]) if decided.height else {}
    draft.metrics |= {**counts, **proportion("prevalence", int(sample["is_medical"].sum()), sample.height), **figures}
    draft.write_json("agreement.json", {"annotator": draft.settings.annotator.kind, **counts, **figures})

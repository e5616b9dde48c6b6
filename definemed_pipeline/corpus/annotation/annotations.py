"""Annotations: the samples of documents with the annotator's labels, and the gold documents the annotator is measured on.

Who is drawn is decided in `sampling`, from numbers. Here the drawn documents are fetched from the shards, labelled and written in the
order of shard and row, a row group at a time.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.agreement import agreement, proportion, read_gold
from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.annotation.sampling import Drawn, draw
from definemed_pipeline.corpus.annotation.sampling_frames import ASSET as FRAMES
from definemed_pipeline.corpus.parquet import ParquetStream, batches, row_groups
from definemed_pipeline.corpus.settings import AnnotationSettings, LexiconAnnotator, SamplingFrameSettings
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA, open_shard
from definemed_pipeline.errors import UserError
from definemed_pipeline.keyed_hash import keyed_hash

Annotator: TypeAlias = LexiconAnnotator | ChatAnnotator
NO_GOLD = pl.DataFrame(schema={"id": pl.String, "is_medical": pl.Boolean})
LABELLED_SCHEMA: dict[str, type[pl.DataType]] = {
    **FINEWEB2_SCHEMA,
    "role": pl.String,
    "stratum": pl.String,
    "annotator_score": pl.Float64,
    "is_medical": pl.Boolean,
}
SCHEMA: dict[str, type[pl.DataType]] = {
    **FINEWEB2_SCHEMA,
    "role": pl.String,
    "stratum": pl.String,
    "inclusion_weight": pl.Float64,
    "annotator_score": pl.Float64,
    "is_medical": pl.Boolean,
    "gold_is_medical": pl.Boolean,
}
BATCH = 2_000  # documents labelled together


def annotate(draft: Draft[AnnotationSettings]) -> None:
    """Draw the samples, label the gold documents and all samples but the unlabelled one, and measure the annotator against gold.

    Write, in the order of shard and row: `annotations.parquet` (FineWeb2's columns; `role` sample, hold_out or gold; `stratum`;
    `inclusion_weight`: how many documents of the web a row stands for, null for gold; `annotator_score`; `is_medical`; `gold_is_medical`)
    and `unlabelled.parquet` (FineWeb2's columns). Write `agreement.json`. Documents that the annotator gave no verdict on are left out
    and counted; those of the same stratum stand for them. Raise UserError where nothing is left to sample.
    """
    gold_locations = [source.location for source in draft.identity.sources if source.name == "gold"]
    gold = read_gold(gold_locations[0]) if gold_locations else NO_GOLD
    frame_settings = _frame_settings(draft)
    frames = {name: draft.input(FRAMES, name) / "frame.parquet" for name in draft.partitions(FRAMES)}
    draft.report(f"drawing from {len(frames):,} sampling frames")
    drawn = draw(frames, gold["id"], draft.settings, frame_settings)
    _check_drawn(drawn, draft.settings)
    labelled = draft.checkpoints / "labelled.parquet"
    with (
        ParquetStream(labelled, LABELLED_SCHEMA) as to_label,
        ParquetStream(draft.folder / "unlabelled.parquet", FINEWEB2_SCHEMA) as unlabelled,
    ):
        documents = _documents(drawn.documents, frame_settings.seed, draft)
        for frame in _label(batches(_set_aside(documents, unlabelled), BATCH), draft):
            to_label.write(frame.drop_nulls("is_medical"))
    _weigh(labelled, drawn, gold, draft.folder / "annotations.parquet")
    _measure(drawn, gold, draft)


def _frame_settings(draft: Draft[Any]) -> SamplingFrameSettings:
    """Return the settings all frames were made with; raise UserError where they, or the lexicon, differ."""
    found = {name: draft.input_manifest(FRAMES, name).identity for name in draft.partitions(FRAMES)}
    made_with = {
        name: (identity.settings_digest, [source.digest for source in identity.sources]) for name, identity in found.items()
    }
    first, *others = found
    if odd := [name for name in others if made_with[name] != made_with[first]]:
        raise UserError(
            f"{FRAMES}[{odd[0]}] was made with other settings or another lexicon than {FRAMES}[{first}]: materialize {FRAMES} again"
        )
    return SamplingFrameSettings(**found[first].settings)


def _check_drawn(drawn: Drawn, settings: AnnotationSettings) -> None:
    if drawn.strata.is_empty():
        raise UserError(
            f"no document is left to sample: the shards hold {drawn.eligible:,} documents with text that are not gold, and annotations."
            f"hold_out_size {settings.hold_out_size:,} and unlabelled_size {settings.unlabelled_size:,} are drawn first; "
            "name more files in source.files, or lower these"
        )


def _documents(drawn: pl.DataFrame, seed: int, draft: Draft[Any]) -> Iterator[pl.DataFrame]:
    """Yield the drawn documents with `role` and `stratum` in the order of shard and row, reading only row groups that hold any."""
    for (name,), rows in drawn.group_by("shard", maintain_order=True):
        draft.report(f"reading {rows.height:,} documents of shard {name}")
        read = 0
        for documents in open_shard(draft, str(name)).rows(rows["row"], list(FINEWEB2_SCHEMA)):
            found = documents.join(rows, on="row", maintain_order="left")
            if not np.array_equal(keyed_hash(found["id"], seed), found["key"]):
                break
            read += found.height
            yield found.select(*FINEWEB2_SCHEMA, "role", "stratum")
        if read < rows.height:  # a row has another id than the frame says, or is not there
            raise UserError(f"{FRAMES}[{name}] was made from another version of shard {name}: materialize it again")


def _set_aside(documents: Iterable[pl.DataFrame], unlabelled: ParquetStream) -> Iterator[pl.DataFrame]:
    """Write the unlabelled sample away and pass the rest on."""
    for frame in documents:
        unlabelled.write(frame.filter(role="unlabelled"))
        yield frame.filter(pl.col("role") != "unlabelled")


def annotator_sources(annotator: Annotator) -> dict[str, str]:
    """Return the files an annotator works from, by name: the lexicon, or the prompt."""
    if isinstance(annotator, LexiconAnnotator):
        return {"lexicon": lexicon_location(annotator.lexicon)}
    from definemed_pipeline.corpus.annotation.chat_annotator import prompt_location

    return {"prompt": prompt_location(annotator.prompt)}


def _label(documents: Iterable[pl.DataFrame], draft: Draft[AnnotationSettings]) -> Iterator[pl.DataFrame]:
    """Add `annotator_score` and `is_medical`, null where the annotator gave no verdict."""
    annotator = draft.settings.annotator
    if isinstance(annotator, LexiconAnnotator):
        yield from _label_by_lexicon(documents, annotator, draft)
        return
    from definemed_pipeline.artifacts.prompts import read_prompt
    from definemed_pipeline.corpus.annotation.chat_annotator import PROMPT_VARIABLES, annotate_by_chat

    accounting = yield from annotate_by_chat(
        documents,
        annotator,
        prompt=read_prompt(draft.source("prompt").location, variables=PROMPT_VARIABLES),
        cache_folder=draft.store.scratch / "chat_cache",
        report=draft.report,
    )
    draft.metrics |= accounting


def _label_by_lexicon(
    documents: Iterable[pl.DataFrame], annotator: LexiconAnnotator, draft: Draft[AnnotationSettings]
) -> Iterator[pl.DataFrame]:
    lexicon = read_lexicon(draft.source("lexicon").location)
    draft.metrics["lexicon_entries"] = len(lexicon)
    for batch in documents:
        score = lexicon.score(batch["text"])
        yield batch.with_columns(annotator_score=score, is_medical=score >= annotator.threshold)


def _weigh(labelled: Path, drawn: Drawn, gold: pl.DataFrame, path: Path) -> None:
    """Copy the labelled documents with `inclusion_weight` and `gold_is_medical`.

    A weight is the population of a stratum over its labelled documents (of the hold-out: all over all). So the weights sum to the
    populations also where the annotator gave no verdict: within a stratum, those with one stand for those without
    (weighting-class adjustment, Little and Rubin 2002, section 3.3).
    """
    counts = pl.scan_parquet(labelled).group_by("role", "stratum").len().collect()
    held_out = counts.filter(role="hold_out")["len"].sum()
    weights = counts.join(drawn.strata, on="stratum", how="left").select(
        "role",
        "stratum",
        inclusion_weight=pl.when(role="sample")
        .then(pl.col("population") / pl.col("len"))
        .when(role="hold_out")
        .then(drawn.eligible / held_out if held_out else None),
    )
    with ParquetStream(path, SCHEMA) as annotations:
        for frame in row_groups(labelled):
            weighed = frame.join(weights, on=["role", "stratum"], how="left", maintain_order="left")
            annotations.write(
                weighed.join(gold.rename({"is_medical": "gold_is_medical"}), on="id", how="left", maintain_order="left")
            )


def _measure(drawn: Drawn, gold: pl.DataFrame, draft: Draft[AnnotationSettings]) -> None:
    """Write `agreement.json` and set the metrics."""
    columns = ["role", "stratum", "is_medical", "gold_is_medical"]
    labelled = pl.read_parquet(draft.folder / "annotations.parquet", columns=columns)
    sample, held_out, found = (labelled.filter(role=role) for role in ("sample", "hold_out", "gold"))
    decided = found.drop_nulls("gold_is_medical")
    asked = drawn.documents.filter(pl.col("role") != "unlabelled")
    counts = {
        "sample_documents": sample.height,
        "sample_positives": int(sample["is_medical"].sum()),
        "hold_out_documents": held_out.height,
        "unlabelled_documents": drawn.documents.height - asked.height,
        "without_verdict": asked.height - labelled.height,
        "eligible_documents": drawn.eligible,
        "gold_documents": found.height,
        "gold_undecided": found.height - decided.height,
        "gold_not_in_shards": gold.height - drawn.documents.filter(role="gold").height,
    }
    if counts["gold_not_in_shards"]:
        draft.report(
            f"{counts['gold_not_in_shards']:,} of {gold.height:,} gold documents are in none of the shards, or have no text there"
        )
    figures = agreement(decided["gold_is_medical"], decided["is_medical"]) if decided.height else {}
    # Of the hold-out alone: it is purely random, so its share of positives is that of the web.
    prevalence = proportion("prevalence", int(held_out["is_medical"].sum()), held_out.height)
    draft.metrics |= {**counts, **prevalence, **figures, "score_bins": _by_score_bin(drawn.strata, sample)}
    draft.write_json("agreement.json", {"annotator": draft.settings.annotator.kind, **counts, **figures})


def _by_score_bin(strata: pl.DataFrame, sample: pl.DataFrame) -> list[dict[str, str | int]]:
    """Return per score bin, lowest first, what the sample was drawn from, and how many of its documents were labelled and are positive."""
    labelled = sample.group_by("stratum").agg(documents=pl.len(), positives=pl.col("is_medical").sum())
    bins = (
        strata.join(labelled, on="stratum", how="left", maintain_order="left")
        .group_by("score_bin", maintain_order=True)
        .agg(pl.len().alias("strata"), pl.col("population", "documents", "positives").sum())
    )
    return bins.to_dicts()

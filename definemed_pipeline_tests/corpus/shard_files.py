"""Small FineWeb2-shaped files, and the corpus artifacts made from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location
from definemed_pipeline.corpus.annotation.sampling_frames import ASSET as FRAMES
from definemed_pipeline.corpus.annotation.sampling_frames import build_frame
from definemed_pipeline.corpus.assembly.benchmark_leaks import find_leaks
from definemed_pipeline.corpus.assembly.medical_documents import collect_medical_documents
from definemed_pipeline.corpus.register import register_shard
from definemed_pipeline.corpus.settings import BenchmarkLeaksSettings, MedicalDocumentsSettings, SamplingFrameSettings
from definemed_pipeline.corpus.shards import ASSET, FINEWEB2_SCHEMA, Shard, open_shard
from definemed_pipeline.corpus.sources.listing import list_source
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline_tests.conftest import build_artifact

MEDICAL_DOCUMENTS = MedicalDocumentsSettings()


def documents(texts: Sequence[str | None], ids: Sequence[str] | None = None, **columns: Any) -> pl.DataFrame:
    """Return a FineWeb2-shaped frame; `columns` overwrite or add."""
    number = pl.int_range(pl.len()).cast(pl.String)
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String}).with_columns(
        id=pl.Series(ids, dtype=pl.String) if ids is not None else pl.format("<urn:uuid:{}>", number),
        dump=pl.lit("CC-MAIN-2024-10"),
        url=pl.format("https://www.example.de/{}", number),
        date=pl.lit("2024-03-01T00:00:00Z"),
        file_path=pl.lit("s3://commoncrawl/x.warc.gz"),
        language=pl.lit("deu"),
        language_score=pl.lit(0.99),
        language_script=pl.lit("Latn"),
        minhash_cluster_size=pl.lit(1, pl.Int64),
        top_langs=pl.lit("{}"),
    )
    return frame.select(*FINEWEB2_SCHEMA).with_columns(**columns)


def write_shard(folder: Path, name: str, frame: pl.DataFrame, *, rows_per_group: int = 2) -> str:
    """Write a shard's file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    frame.write_parquet(path, row_group_size=rows_per_group, use_pyarrow=True)
    return str(path)


def register(store: Store, *files: str) -> list[Manifest]:
    """Register files as shards."""
    source = ParquetSource(files=files)
    return [
        build_artifact(store, ASSET, register_shard, source, partition=name, sources={"shard": file.location})
        for name, file in list_source(source).items()
    ]


def list_frames(store: Store, shards: Sequence[Manifest], **section: Any) -> list[Manifest]:
    """Build the sampling frames of registered shards; `section` replaces settings."""
    lexicon = {"lexicon": lexicon_location("de_medical")}
    settings = SamplingFrameSettings(**section)
    return [
        build_artifact(store, FRAMES, build_frame, settings, partition=shard.partition, inputs=[shard], sources=lexicon)
        for shard in shards
    ]


def opened(store: Store, manifest: Manifest) -> Shard:
    """Return the shard as a work function downstream of it would see it."""
    found: list[Shard] = []

    def look(draft: Draft[Any]) -> None:
        found.append(open_shard(draft, manifest.partition))

    build_artifact(store, "look", look, ParquetSource(files=("x",)), inputs=[manifest], force=True)
    return found[0]


def score_by_word(store: Store, shards: Sequence[Manifest], word: str = "medizin") -> list[Manifest]:
    """Score shards as a classifier would that takes every document with a certain word in it."""

    def score(draft: Draft[Any]) -> None:
        groups = open_shard(draft, draft.identity.partition).row_groups(["id", "text"])
        frame = pl.concat([pl.DataFrame(schema={"row": pl.Int64, "id": pl.String, "text": pl.String}), *groups])
        is_medical = pl.col("text").str.to_lowercase().str.contains(word, literal=True).fill_null(False)
        frame.select(
            "id",
            "row",
            medical_probability=pl.when(is_medical).then(0.9).otherwise(0.1).cast(pl.Float32),
            decided_by=pl.lit("linear"),
            is_medical=is_medical,
        ).write_parquet(draft.folder / "scores.parquet")

    section = ParquetSource(files=("x",))
    return [build_artifact(store, "classifier_scores", score, section, partition=m.partition, inputs=[m]) for m in shards]


def collect(
    store: Store, shards: Sequence[Manifest], scores: Sequence[Manifest], section: MedicalDocumentsSettings = MEDICAL_DOCUMENTS
) -> list[Manifest]:
    """Build the segments of scored shards."""
    return [
        build_artifact(
            store, "medical_documents", collect_medical_documents, section, partition=shard.partition, inputs=[shard, one]
        )
        for shard, one in zip(shards, scores, strict=True)
    ]


def search(store: Store, segments: Sequence[Manifest], questions: Mapping[str, str], ngram: int = 8) -> list[Manifest]:
    """Look for questions (name -> file) in segments."""
    section = BenchmarkLeaksSettings(ngram=ngram)
    return [
        build_artifact(
            store, "benchmark_leaks", find_leaks, section, partition=one.partition, inputs=[one], sources=dict(questions)
        )
        for one in segments
    ]


def contents(folder: Path) -> Mapping[str, bytes]:
    """Return the bytes of every file of an artifact but its manifest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }

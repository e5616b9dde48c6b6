"""Measure the peak memory of every corpus stage on one large shard: it may not grow with the shard.

    python benchmarks/memory.py --gigabytes 2 4 --json OUT

For each size a FineWeb2-shaped parquet file of that many gigabytes (10^9 bytes) is written with FineWeb2's row groups of 1,000 documents; 2 % are
medicine. A document is sentences of a place of the demo world and words by Zipf's law (`web_documents.py`), so that it compresses as web text does.
Then `definemed run --select STAGE` builds one stage after the other with the demo's recipe; measured is the peak of the proportional set size of the
command, its Dagster worker and the payload together, sampled twice a second.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pyarrow.parquet as pq
from processes import commit, measure
from web_documents import draws

import definemed_pipeline.demo.filesystem  # noqa: F401  registers demo://
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA

STAGES = (
    "source_files",
    "fineweb2_shards",
    "sampling_frames",
    "annotations",
    "medical_classifier",
    "cascade_certificate",
    "classifier_scores",
    "medical_documents",
    "benchmark_leaks",
    "finemed_de",
)
RECIPE = """
extends: demo
name: memory
source: {{kind: parquet, files: [{file}]}}
annotations: {{gold: null, sample_size: 20000, hold_out_size: 5000, unlabelled_size: 20000}}
"""
ROW_GROUP, MEDICAL = 1_000, 0.02
PASSAGES, SENTENCES, WORDS = 20_000, 18, 150


def passages(chance: np.random.Generator) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return passages to make documents of: medical ones and others from the demo world, and ones of words by Zipf's law."""
    files = fsspec.filesystem("demo").glob("web/*.parquet")
    texts = pl.concat([pl.read_parquet(fsspec.open(f"demo://{file}", "rb").open(), columns=["text"]) for file in files])["text"]
    texts = texts.drop_nulls()
    is_medical = read_lexicon(lexicon_location("de_medical")).score(texts) >= 0.5
    split = [
        chosen.str.replace_all("\n", " ").str.split(". ").list.explode(keep_nulls=False, empty_as_null=False).to_numpy()
        for chosen in (texts.filter(is_medical), texts.filter(~is_medical))
    ]
    words = draws(chance)
    return (
        *(_cut(sentences, ". ", SENTENCES, chance) for sentences in split),
        _cut(words, " ", WORDS, chance),
    )


def _cut(parts: np.ndarray, glue: str, length: int, chance: np.random.Generator) -> pl.Series:
    starts = chance.integers(0, len(parts) - length, PASSAGES)
    return pl.Series([glue.join(parts[start : start + length]) for start in starts])


def row_groups(seed: int) -> Iterator[pl.DataFrame]:
    """Yield row groups without end."""
    chance = np.random.default_rng(seed)
    medical, others, words = passages(chance)
    number = 0
    while True:
        is_medical = pl.Series(chance.random(ROW_GROUP) < MEDICAL)
        first, second, third, fourth = (pl.Series(places) for places in chance.integers(0, PASSAGES, (4, ROW_GROUP)))
        subject = medical.gather(first).zip_with(is_medical, others.gather(second))
        texts = pl.select(pl.concat_str([subject, words.gather(third), words.gather(fourth)], separator="\n")).to_series()
        ids = [f"<urn:uuid:{value:032x}>" for value in chance.integers(0, 2**63, ROW_GROUP)]
        yield (
            pl.DataFrame({"text": texts, "id": ids})
            .with_columns(
                dump=pl.lit(f"CC-MAIN-2024-{10 + number % 40}"),
                url=pl.format("https://www.example-{}.de/", pl.int_range(pl.len()) % 97),
                date=pl.lit("2024-02-21T05:12:09Z"),
                file_path=pl.lit("s3://commoncrawl/x.warc.gz"),
                language=pl.lit("deu"),
                language_score=pl.lit(0.99),
                language_script=pl.lit("Latn"),
                minhash_cluster_size=pl.lit(1, pl.Int64),
                top_langs=pl.lit("{}"),
            )
            .select(*FINEWEB2_SCHEMA)
        )
        number += 1


def write_shard(path: Path, gigabytes: float) -> int:
    """Write row groups until the file has its size; return the number of documents."""
    documents, writer = 0, None
    for frame in row_groups(seed=0):
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        documents += frame.height
        if path.stat().st_size >= gigabytes * 1e9:
            writer.close()
            return documents
    raise AssertionError("row groups never end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[2, 4], help="sizes of the shard's file, in 10^9 bytes")
    parser.add_argument("--folder", type=Path, help="where the shard and the lake go (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    for gigabytes in arguments.gigabytes:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        file, recipe = folder / "000_00000.parquet", folder / "memory.yaml"
        documents = write_shard(file, gigabytes)
        recipe.write_text(RECIPE.format(file=file), "utf-8")
        stages = {}
        for stage in STAGES:
            stages[stage] = asdict(measure(["run", "--recipe", str(recipe), "--select", stage], folder, sample_seconds=0.5))
            print(f"{gigabytes} GB, {documents:,} documents, {stage}: {stages[stage]}", flush=True)
        figures[f"{gigabytes:g} GB"] = {"documents": documents, "stages": stages}
        shutil.rmtree(folder)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

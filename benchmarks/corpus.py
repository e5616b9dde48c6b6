"""Measure the corpus stages against datatrove: read FineWeb2-shaped parquet, drop the short and the repetitive, drop near-duplicates, write.

    python -m venv PEER && PEER/bin/pip install -r benchmarks/peers.txt
    python benchmarks/corpus.py --documents 30000 --peer-python PEER/bin/python --json OUT

Without --peer-python only our side runs. Both sides work on the same file (see web_documents.py; with `--real-text DIR` the shards in DIR instead), each in a
process of its own, one after the other, bound to one and the same core, with all thread pools set to one thread. Imports and the loading of spaCy are
not timed. Limits are FineWeb2's for German, MinHash has 14 bands of 8 rows over 5-grams.

Our side: a row group at a time, `drop_reasons` with the limits on length and repetition only; what is left is written and signed as a segment of the band index, as the asset
`medical_documents` does; then exact and near duplicates, every candidate pair checked by its exact Jaccard similarity; then the segment is read again and
what is kept is written, the way every corpus file is written.
datatrove's side: ParquetReader, GopherQualityFilter with nothing but its word limits, GopherRepetitionFilter, ParquetWriter, MinhashDedupSignature in one
pipeline, as a document's words are then split only once for both filters; MinhashDedupBuckets; MinhashDedupCluster; ParquetReader, MinhashDedupFilter,
ParquetWriter (zstd at its default level).

How the two differ by design: words (spaCy's German tokenizer against a regular expression; digits are made equal before datatrove's MinHash and not before
ours), the check of candidates (datatrove has none), and which member of a group of duplicates stays (ours the one of the highest language score,
datatrove's the root of its union-find). So agreement is told three ways:
- `kept_jaccard`: of families (a document and all copies made of it), each counted as often as the side keeps members of it: sum of the smaller counts over sum of
  the larger. This does not care which member stays.
- `kept_jaccard_ids`: of the ids kept. It counts every group of two of which the sides keep different members as two disagreements.
- `filtered_jaccard`: of the ids that pass length and repetition.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SEED = 1
ONE_THREAD = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LENGTH_AND_REPETITION = (
    "min_words", "max_words", "max_duplicate_line_share", "max_top_ngram_share", "max_duplicate_ngram_share",
)  # fmt: skip


class Stopwatch:
    """Wall and processor seconds of the stages, in the order in which they were first met."""

    def __init__(self) -> None:
        self.stages: Counter[str] = Counter()
        self.started = time.perf_counter(), time.process_time()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stages[name] += time.perf_counter() - start

    def figures(self, documents: int) -> dict[str, Any]:
        wall, cpu = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
        return {
            "docs_per_s": documents / wall,
            "docs_per_cpu_s": documents / cpu,
            "seconds": wall,
            "stage_seconds": dict(self.stages),
            "stage_docs_per_s": {name: documents / seconds for name, seconds in self.stages.items() if seconds},
        }


def run_ours(web: Path, folder: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Clean the web our way; write `passed.json`, `kept.json` (ids) and data; return the figures."""
    import numpy as np
    import polars as pl

    from definemed_pipeline.corpus.assembly.deduplicate import best_first, exact_duplicates, near_duplicates
    from definemed_pipeline.corpus.assembly.segments import DOCUMENTS, Segments, read_rows, write_segment
    from definemed_pipeline.corpus.parquet import ParquetStream, row_groups
    from definemed_pipeline.corpus.quality.filters import drop_reasons
    from definemed_pipeline.corpus.quality.settings import QualityRules
    from definemed_pipeline.corpus.settings import MedicalDocumentsSettings
    from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA

    rules = QualityRules(**{name: dict(limit) if isinstance(limit, list) else limit for name, limit in limits.items()})
    settings = MedicalDocumentsSettings(num_perm=112, bands=14, ngram=5)
    total, reasons, watch, groups = 0, Counter[str](), Stopwatch(), row_groups(web)

    def passing() -> Iterator[pl.DataFrame]:
        nonlocal total
        while True:
            with watch.stage("read"):
                batch = next(groups, None)
            if batch is None:
                return
            total += batch.height
            with watch.stage("length and repetition"):
                dropped = drop_reasons(batch["text"], rules)
                reasons.update(dropped.drop_nulls())
                left = batch.filter(dropped.is_null())
            yield left.with_columns(row=pl.lit(0, pl.Int64), words=pl.col("text").str.count_matches(r"\S+").cast(pl.Int64))

    started = time.perf_counter()
    schema = pl.Schema({**FINEWEB2_SCHEMA, "row": pl.Int64, "words": pl.Int64})
    write_segment(passing(), schema, folder, settings)
    watch.stages["signatures and segment"] = time.perf_counter() - started - sum(watch.stages.values())
    segments = Segments(("web",), (folder,))
    with watch.stage("duplicates"):
        is_kept = np.ones(len(segments), bool)
        ranked = best_first(segments, segments.id_ranks())
        for reason, find in (
            ("exact_duplicate", exact_duplicates),
            ("near_duplicate", lambda all_of, left: near_duplicates(all_of, left, settings, 0.75, folder)),
        ):
            copies = find(segments, ranked[is_kept[ranked]]).dropped
            is_kept[copies] = False
            reasons[reason] = len(copies)
    with watch.stage("write"), ParquetStream(folder / "kept.parquet", FINEWEB2_SCHEMA) as kept:
        for _, frame in read_rows(folder / DOCUMENTS, is_kept):
            kept.write(frame)
    figures = watch.figures(total)
    passed = segments.ids(np.arange(len(segments)))
    (folder / "passed.json").write_text(json.dumps(passed.to_list()))
    (folder / "kept.json").write_text(json.dumps(pl.read_parquet(folder / "kept.parquet", columns=["id"])["id"].to_list()))
    return figures | {"dropped": dict(reasons.most_common())}


def run_peer(web: Path, folder: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Clean the web with datatrove; write and return the same as `run_ours`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import pyarrow.parquet as pq
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.logging import logger
    from datatrove.utils.text import split_into_words

    logger.remove()
    language = "deu_Latn"
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    words = GopherQualityFilter(
        min_doc_words=limits["min_words"], max_doc_words=limits["max_words"], min_avg_word_length=None, max_avg_word_length=None,
        max_symbol_word_ratio=None, max_bullet_lines_ratio=None, max_ellipsis_lines_ratio=None, max_non_alpha_words_ratio=None,
        min_stop_words=None, language=language,
    )  # fmt: skip
    repetition = GopherRepetitionFilter(
        dup_line_frac=limits["max_duplicate_line_share"], dup_para_frac=None, dup_line_char_frac=None, dup_para_char_frac=None,
        top_n_grams=limits["max_top_ngram_share"], dup_n_grams=limits["max_duplicate_ngram_share"], language=language,
    )  # fmt: skip

    def reader(source: Path) -> Any:
        return ParquetReader(str(source.parent), glob_pattern=source.name)

    def writer(name: str) -> Any:
        return ParquetWriter(str(folder / name), output_filename="${rank}.parquet", compression="zstd", expand_metadata=True)

    def path(name: str) -> str:
        return str(folder / name)

    split_into_words("Damit spaCy geladen ist.", language)
    signature = MinhashDedupSignature(output_folder=path("signatures"), config=config, language=language)
    signature.get_shingles("Damit auch dies geladen ist.")
    watch = Stopwatch()
    pipelines = {
        "filter and signatures": ([reader(web), words, repetition, writer("passed"), signature], 1),
        "buckets": ([MinhashDedupBuckets(path("signatures"), path("buckets"), config=config)], config.num_buckets),
        "clusters": ([MinhashDedupCluster(path("buckets"), path("remove"), config=config)], 1),
        "write": ([reader(folder / "passed" / "00000.parquet"), MinhashDedupFilter(path("remove")), writer("data")], 1),
    }
    parts = {}
    for name, (steps, tasks) in pipelines.items():
        with watch.stage(name):
            stats = LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=path(f"logs/{name}")).run()
        parts[name] = {step.name: step.time_stats.total for step in stats.stats}
    figures = watch.figures(pq.read_metadata(web).num_rows)
    for name, data in (("passed", "passed"), ("kept", "data")):
        (folder / f"{name}.json").write_text(json.dumps(pq.read_table(folder / data, columns=["id"])["id"].to_pylist()))
    return figures | {"block_seconds": parts}


PACKAGES = {"ours": ("polars", "numpy", "pyarrow", "rensa"), "peer": ("datatrove", "spacy", "xxhash", "numpy", "pyarrow")}
SIDES = {"ours": run_ours, "peer": run_peer}


def run_side(name: str, python: str, web: Path, folder: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Run a side in a process of its own on one core."""
    folder.mkdir()
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
    command = [python, __file__, "--side", name, "--web", str(web), "--folder", str(folder), "--limits", json.dumps(limits)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return figures


def german_limits() -> dict[str, Any]:
    """Return FineWeb2's German limits on length and repetition as JSON values, those by n as pairs."""
    from definemed_pipeline.corpus.quality.settings import read_rules, rules_location

    rules = read_rules(rules_location("deu_Latn"))
    limits = {name: getattr(rules, name) for name in LENGTH_AND_REPETITION}
    return {name: [*limit.items()] if isinstance(limit, dict) else limit for name, limit in limits.items()}


def agreement(web: Any, folder: Path) -> dict[str, float]:
    """Compare what the sides kept; the module's docstring says how."""
    families = dict(web.select("id", "family").iter_rows())
    passed, kept = (
        {side: json.loads((folder / side / f"{name}.json").read_text()) for side in SIDES} for name in ("passed", "kept")
    )
    ours, peer = (Counter(families[name] for name in kept[side]) for side in SIDES)
    return {
        "kept_jaccard": (ours & peer).total() / (ours | peer).total(),
        "kept_jaccard_ids": _jaccard(*kept.values()),
        "filtered_jaccard": _jaccard(*passed.values()),
        "families": len(set(families.values())),
    }


def _jaccard(left: list[str], right: list[str]) -> float:
    return len({*left} & {*right}) / len({*left} | {*right})


def copy_web(real_text: Path, path: Path) -> Any:
    """Write FineWeb2-shaped shards as one file and return what `write_web` does; each document is a family of its own."""
    import polars as pl
    from web_documents import ROW_GROUP

    web = pl.read_parquet(real_text / "[0-9]*.parquet")
    web.write_parquet(path, row_group_size=ROW_GROUP)
    return web.select("id", family=pl.int_range(pl.len()), words=pl.col("text").str.count_matches(r"\S+"))


def compare(documents: int, peer_python: str | None, real_text: Path | None) -> dict[str, Any]:
    """Make the web, run the sides, and return all figures."""
    from web_documents import write_web

    pythons = {"ours": sys.executable} | ({"peer": peer_python} if peer_python else {})
    with tempfile.TemporaryDirectory() as name:
        folder, limits = Path(name), german_limits()
        file = folder / "web.parquet"
        web = copy_web(real_text, file) if real_text else write_web(file, documents, SEED)
        sides = {side: run_side(side, python, file, folder / side, limits) for side, python in pythons.items()}
        figures: dict[str, Any] = {f"{side}_docs_per_s": sides[side]["docs_per_s"] for side in sides}
        if peer_python:
            figures |= {
                "ratio": sides["ours"]["docs_per_s"] / sides["peer"]["docs_per_s"],
                "ratio_cpu": sides["ours"]["docs_per_cpu_s"] / sides["peer"]["docs_per_cpu_s"],
                **agreement(web, folder),
            }
    from processes import commit  # not at the top: the peer's environment, which runs this file as well, has no psutil

    about = {"documents": web.height, "mean_words": web["words"].mean(), "processor": _processor(), "commit": commit()}
    return figures | about | sides


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=30_000)
    parser.add_argument("--real-text", type=Path, help="a folder of FineWeb2-shaped shards to work on instead of made documents")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--peer-python", help="the Python of an environment with benchmarks/peers.txt")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--web", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limits", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        figures = SIDES[arguments.side](arguments.web, arguments.folder, arguments.limits)
        versions = {name: importlib.metadata.version(name) for name in PACKAGES[arguments.side]}
        for name in ("passed", "kept"):
            figures[name] = len(json.loads((arguments.folder / f"{name}.json").read_text()))
        figures["versions"] = {"python": platform.python_version(), **versions}
        (arguments.folder / "figures.json").write_text(json.dumps(figures))
        return
    figures = compare(arguments.documents, arguments.peer_python, arguments.real_text)
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    if arguments.json:
        arguments.json.write_text(text, "utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()

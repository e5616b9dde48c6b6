"""Measure how long packing a corpus takes beside the bare tokenizers library on the same texts, and how full the blocks are.

    python benchmarks/packing.py --json OUT

Web-like German documents (`web_documents.py`) are written as a corpus, and a byte-level BPE tokenizer with 32,000 entries, as many as Mistral's has, is
trained on a part of them. Then by turns, several times, each time in a fresh process and with all cores:
- ours: `pack_corpus`, the work of the asset `cpt_corpus`: reading the files, drawing what is held out, tokenising, cutting into blocks of 4,096 tokens,
  writing the parts and joining them;
- bare: `Tokenizer.encode_batch_fast` on the same texts in the same order, which are in memory already, 1,024 documents at a time. What it returns is
  thrown away.
Which of them begins changes from turn to turn. `ratio` is ours to bare by the clock, `processor_ratio` by processor time, both of the medians.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import tokenizers
from artifacts import RECIPE, make
from processes import commit
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from web_documents import write_web

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.training.cpt_corpus import pack_corpus, use_all_cores
from definemed_pipeline.training.encoding import DocumentEncoder
from definemed_pipeline.training.settings import CptCorpusSettings

VOCABULARY, LEARNT_FROM = 32_000, 10_000  # documents
END = "<|endoftext|>"
ROWS_PER_FILE, ROWS_PER_GROUP = 200_000, 10_000  # as the corpus has
PARTITION = "bpe"
BARE_AT_ONCE = 1024  # documents
SECTION = CptCorpusSettings()
SIDES = ("ours", "bare")


def prepare(documents: int, folder: Path) -> float:
    """Write the documents, the corpus and the tokenizer; return the mean number of words."""
    words = write_web(folder / "web.parquet", documents, seed=0)["words"]
    web = pl.read_parquet(folder / "web.parquet")

    def write_corpus(draft: Draft[Any]) -> None:
        (draft.folder / "data").mkdir()
        for number, share in enumerate(web.iter_slices(ROWS_PER_FILE)):
            path = draft.folder / "data" / f"finemed_de-{number:05}.parquet"
            share.write_parquet(path, compression_level=3, row_group_size=ROWS_PER_GROUP)

    store = Store(str(folder / "lake"))
    make(store, "finemed_de", write_corpus, SECTION, force=True)
    make(
        store,
        "base_models",
        lambda draft: train_bpe(web["text"].head(LEARNT_FROM).to_list(), draft.folder),
        SECTION,
        partition=PARTITION,
        force=True,
    )
    return float(words.mean())


def train_bpe(texts: list[str], folder: Path) -> None:
    """Train a byte-level BPE tokenizer and save it as a base model, as far as packing needs one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    (folder / "model").mkdir()
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}), "utf-8")


def measure(side: str, folder: Path) -> dict[str, Any]:
    """Do one side's work on what was prepared; return its seconds by the clock and of the processors, and what ours tells of itself."""
    store = Store(str(folder / "lake"))
    base, corpus = store.require(RECIPE, "base_models", PARTITION), store.require(RECIPE, "finemed_de")
    if side == "ours":
        found: dict[str, Any] = {}

        def pack(draft: Draft[Any]) -> None:
            found.update(timed(lambda: pack_corpus(draft)), metrics=draft.metrics)

        make(store, "cpt_corpus", pack, SECTION, [base, corpus], partition=PARTITION, force=True)
        return found
    tokenizer = DocumentEncoder(store.folder(base) / "model").tokenizer
    texts = pl.read_parquet(folder / "web.parquet", columns=["text"])["text"].to_list()

    def encode() -> None:
        for start in range(0, len(texts), BARE_AT_ONCE):
            tokenizer.encode_batch_fast(texts[start : start + BARE_AT_ONCE], add_special_tokens=True)

    return timed(encode)


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Call and return seconds by the clock and of the processors."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}


def take_turns(repetitions: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Measure both sides by turns, each in a process of its own."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for turn in range(repetitions):
        for side in SIDES if turn % 2 else SIDES[::-1]:
            command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            found[side].append(json.loads(done.stdout))
        print(f"turn {turn + 1}: " + ", ".join(f"{side} {runs[-1]['seconds']:.1f} s" for side, runs in found.items()), flush=True)
    return found


def figures(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Put the medians of both sides beside each other."""
    metrics = found["ours"][-1]["metrics"]
    median = {
        (side, what): statistics.median(run[what] for run in runs)
        for side, runs in found.items()
        for what in ("seconds", "processor_seconds")
    }
    return {
        "tokens": metrics["tokens"],
        "ours_tokens_per_s": round(metrics["tokens"] / median["ours", "seconds"]),
        "bare_tokens_per_s": round(metrics["tokens"] / median["bare", "seconds"]),
        "ratio": round(median["ours", "seconds"] / median["bare", "seconds"], 3),
        "processor_ratio": round(median["ours", "processor_seconds"] / median["bare", "processor_seconds"], 3),
        "packing_efficiency": metrics["packing_efficiency"],
        "blocks": metrics["blocks"],
        "sequence_length": metrics["sequence_length"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=30_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the corpus and the lake go (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--side", choices=SIDES, help="measure one side on what lies in the folder, and print it")
    arguments = parser.parse_args()
    if arguments.side:
        use_all_cores()
        print(json.dumps(measure(arguments.side, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        mean_words = prepare(arguments.documents, Path(folder))
        turns = take_turns(arguments.repetitions, Path(folder))
    found = {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "tokenizers": tokenizers.__version__},
        "commit": commit(),
        "documents": arguments.documents,
        "mean_words": round(mean_words, 1),
        **figures(turns),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps({**found, "turns": turns}, indent=2) + "\n", "utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

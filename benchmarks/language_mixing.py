"""Measure the detector of foreign spans on human-written German: how much it flags, how much of that is wrong, and what it finds of planted English.

    python benchmarks/language_mixing.py --data DIR --json OUT [--unread FILE]

DIR holds FineWeb2-shaped parquet files with `id` and `text`, each text written in German by people. A flagged document is not a false alarm where what
was flagged is English: titles, quotations and slogans stand in German news too. So each flagged span was read once by a person or model that knows both
languages, and its verdict lies in `language_mixing_readings.tsv`: digest of the document's id, digest of id and span, verdict; nothing of the
texts. Verdicts: `foreign` is English text and `title` an English title, motto or technical term, both with at most a stray word of German; `name` is a name of
people, firms or places only; `expected` German; `other` anything else, such as names of files and variables. A document is a false alarm where any
of its spans is read as `name`, `expected` or `other`. Spans without a reading are counted as unread and lie, with what is around them, in
the file of `--unread`, to be read and added.

Recall is measured on windows of 4 and more words of `language_mixing_english.txt`, each planted once into another unflagged document as a sentence
of its own and once in the middle of a line; found where spans cover at least half of its words. The lines after `# held out` were not looked at while the
detector was made. Windows overlap, so intervals are bootstrapped over sentences.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from processes import commit

from definemed_pipeline.evaluation.failures.language_mixing import LanguageMixing, Span, words_of
from definemed_pipeline.intervals import Estimate, bootstrap_mean, wilson
from definemed_pipeline.recipe import load_recipe

HERE = Path(__file__).parent
READINGS, ENGLISH = HERE / "language_mixing_readings.tsv", HERE / "language_mixing_english.txt"
RIGHT, WRONG = ("foreign", "title"), ("name", "expected", "other")
LENGTHS = (4, 5, 6, 8, 12)
ANSWER_WORDS = 100  # of the pieces on which the rate in answers is measured
CONTEXT = 60  # characters around an unread span
RESAMPLES, SEED = 10_000, 0


@dataclass(frozen=True, kw_only=True)
class Flagged:
    """A span that was found in a document."""

    document: str
    digest: str
    text: str
    around: str


def digest(*parts: str) -> str:
    """Return a digest under which a document or span is known without its text."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def flag(mixing: LanguageMixing, documents: pl.DataFrame) -> tuple[list[Flagged], list[str]]:
    """Return the spans found in the documents, and the texts in which none was found."""
    flagged, clean = [], []
    for name, text in documents.select("id", "text").iter_rows():
        spans = mixing.spans(text)
        if not spans:
            clean.append(text)
        flagged += [_flagged(name, text, span) for span in spans]
    return flagged, clean


def _flagged(name: str, text: str, span: Span) -> Flagged:
    found, before, after = text[span.start : span.end], text[: span.start][-CONTEXT:], text[span.end :][:CONTEXT]
    return Flagged(
        document=digest(name), digest=digest(name, found), text=found, around=f"{before}⟦{found}⟧{after}".replace("\n", " ⏎ ")
    )


def read_verdicts() -> dict[str, str]:
    """Return the verdict per digest of a span."""
    rows = [line.split("\t") for line in READINGS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {span: verdict for _, span, verdict in rows}


def alarms(flagged: Sequence[Flagged], documents: int) -> dict[str, Any]:
    """Return how many documents are flagged, read, and wrongly flagged, with Wilson's intervals."""
    verdicts = read_verdicts()
    by_document: dict[str, list[str]] = {}
    for one in flagged:
        by_document.setdefault(one.document, []).append(verdicts.get(one.digest, "unread"))
    said = list(by_document.values())
    wrong = sum(any(verdict in WRONG for verdict in found) for found in said)
    wholly = sum(all(verdict in WRONG for verdict in found) for found in said)
    unread = sum("unread" in found for found in said)
    spans = [verdicts.get(one.digest, "unread") for one in flagged]
    return {
        "documents": documents,
        "flagged_documents": len(said),
        **wilson(len(said), documents).as_metrics("flagged_share"),
        "unread_documents": unread,
        "false_alarm_documents": wrong,
        **wilson(wrong, documents).as_metrics("false_alarm_rate"),
        "documents_with_wrong_spans_only": wholly,
        **wilson(wholly, documents).as_metrics("wrong_spans_only_rate"),
        "spans": {verdict: spans.count(verdict) for verdict in (*RIGHT, *WRONG, "unread")},
    }


def windows(sentences: Sequence[str], words: int) -> Iterator[tuple[int, str]]:
    """Yield every window of that many words with the number of its sentence."""
    for number, sentence in enumerate(sentences):
        split = sentence.split()
        for start in range(len(split) - words + 1):
            yield number, " ".join(split[start : start + words])


def recall(mixing: LanguageMixing, sentences: Sequence[str], clean: Sequence[str]) -> dict[str, Any]:
    """Return the recall of planted windows per length and place, and over all of them."""
    generator = np.random.default_rng(SEED)
    hits: dict[tuple[int, str], dict[int, list[bool]]] = {}
    swallowed = planted_words = 0
    for length in LENGTHS:
        for number, window in windows(sentences, length):
            for place in ("sentence", "inside"):
                text, start = _plant(window, clean[generator.integers(len(clean))], place, generator)
                covered, beyond = _covered(mixing.spans(text), text, start, start + len(window))
                hits.setdefault((length, place), {}).setdefault(number, []).append(2 * covered >= len(words_of(window)))
                swallowed, planted_words = swallowed + beyond, planted_words + len(words_of(window))
    everything: dict[int, list[bool]] = {}
    for by_sentence in hits.values():
        for number, found in by_sentence.items():
            everything.setdefault(number, []).extend(found)
    return {
        "sentences": len(sentences),
        "windows": sum(map(len, everything.values())),
        **_mean(everything).as_metrics("recall"),
        "by_length_and_place": {f"{length}_{place}": round(_mean(found).value, 4) for (length, place), found in hits.items()},
        "german_words_swallowed_per_planted_word": swallowed / planted_words,
    }


def _mean(by_sentence: dict[int, list[bool]]) -> Estimate:
    means = [float(np.mean(found)) for found in by_sentence.values()]
    return bootstrap_mean(means, resamples=RESAMPLES, seed=SEED)


def _plant(window: str, text: str, place: str, generator: np.random.Generator) -> tuple[str, int]:
    """Return a line of the text with the window in it, and where it begins."""
    lines = [line for line in text.splitlines() if len(line.split()) > 5]
    words = (lines[generator.integers(len(lines))] if lines else text).split()
    ends = [position for position, word in enumerate(words, start=1) if word.endswith((".", "!", "?"))]
    position = int(generator.choice(ends)) if place == "sentence" and ends else int(generator.integers(1, len(words)))
    before = " ".join(words[:position]) + " "
    return f"{before}{window} {' '.join(words[position:])}", len(before)


def _covered(spans: Sequence[Span], text: str, start: int, end: int) -> tuple[int, int]:
    """Return how many words of the planted window spans cover, and how many words beyond it."""
    inside = sum(
        len(words_of(text[max(start, one.start) : min(end, one.end)])) for one in spans if one.start < end and one.end > start
    )
    return inside, sum(one.words for one in spans) - inside


def rates(mixing: LanguageMixing, documents: pl.DataFrame) -> dict[str, float]:
    """Return answers a second of one thread, by the clock and of processor time, with no distinct word met before and with every one."""
    texts = [text.split() for text in documents["text"]]
    pieces = [" ".join(words[at : at + ANSWER_WORDS]) for words in texts for at in range(0, len(words), ANSWER_WORDS)]
    fresh = LanguageMixing(mixing.settings)
    fresh.spans("Ein Satz lädt die Modelle, and then the clock starts running.")
    measured: dict[str, float] = {"answer_words": ANSWER_WORDS, "answers": len(pieces), "words": sum(map(len, texts))}
    for turn in ("first", "again"):
        clock, processor = time.perf_counter(), time.process_time()
        for piece in pieces:
            fresh.spans(piece)
        measured[f"answers_per_s_{turn}"] = len(pieces) / (time.perf_counter() - clock)
        measured[f"answers_per_processor_s_{turn}"] = len(pieces) / (time.process_time() - processor)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with parquet files of human-written German (id, text)")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--unread", type=Path, help="where flagged spans without a reading go, to be read")
    parser.add_argument("--recipe", default="paper", help="the recipe whose failure_modes.language is measured")
    arguments = parser.parse_args()
    mixing = LanguageMixing(load_recipe(arguments.recipe).failure_modes.language)
    files = [file for file in sorted(arguments.data.glob("*.parquet")) if {"id", "text"} <= set(pl.read_parquet_schema(file))]
    documents = pl.concat([pl.read_parquet(file, columns=["id", "text"]) for file in files]).unique("id").sort("id")
    flagged, clean = flag(mixing, documents)
    seen, _, held_out = ENGLISH.read_text("utf-8").partition("# held out\n")
    sentences = {"seen": seen, "held_out": held_out}
    figures = {
        "recipe": arguments.recipe,
        "false_alarms": alarms(flagged, len(documents)),
        "recall": {
            name: recall(mixing, [line for line in text.splitlines() if not line.startswith("#")], clean)
            for name, text in sentences.items()
        },
        "rates": rates(mixing, documents),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    if arguments.unread:
        verdicts = read_verdicts()
        unread = [f"{one.document}\t{one.digest}\t{one.around}" for one in flagged if one.digest not in verdicts]
        arguments.unread.write_text("\n".join(unread) + "\n", "utf-8")
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

"""Benchmark text in documents: which documents quote a question, a choice or a reference answer that models will be scored on.

A document leaks a passage where it holds n words in a row of it, after folding. A question or an instruction of fewer than n words leaks as a
whole; below `SHORTEST_WHOLE` words even that says nothing ("Was ist Fieber?"), and it is left alone, as are short choices and references.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.corpus.settings import QuestionColumns
from definemed_pipeline.corpus.text import Hashes, Ragged, ngram_hashes, word_hashes
from definemed_pipeline.errors import UserError, one_line

SHORTEST_WHOLE = 5
FILTER_BITS = 22  # 4 MB, of which a million wanted n-grams fill a quarter
# What a line holds: the field that is asked, and the further ones that must not leak either.
SHAPES = (("question", "choices"), ("instruction", "reference"))


@dataclass(frozen=True)
class Questions:
    """The n-grams to look for. `questions`: `question` (its number), `benchmark`, `question_id`; `grams`: `length`, `gram`, `question`."""

    questions: pl.DataFrame
    grams: pl.DataFrame

    def leaks(self, words: Ragged) -> pl.DataFrame:
        """Return the pairs `document` (position in `words`), `question` where the document leaks the question."""
        found = [pl.DataFrame(schema={"document": pl.Int64, "question": pl.UInt32})]
        for (length,), wanted in self.grams.group_by("length"):
            grams = ngram_hashes(words, int(length))
            hit = _members(grams.hashes, wanted["gram"].to_numpy())
            hits = pl.DataFrame(
                {"document": grams.owners[hit], "gram": grams.hashes[hit]}, schema={"document": pl.Int64, "gram": pl.UInt64}
            )
            found.append(hits.join(wanted, on="gram").select("document", "question"))
        return pl.concat(found).unique().sort("document", "question")


def read_questions(sources: Iterable[Source], n: int, columns: Mapping[str, QuestionColumns] | None = None) -> Questions:
    """Read benchmarks and instruction sets (JSON Lines or parquet with `id` and `question`, `choices` or `instruction`, `reference`).

    `columns` says where else the texts of a source stand, by its name. Raise UserError where a row does not fit, naming it.
    """
    asked: list[tuple[str, str]] = []
    passages: list[tuple[int, str, bool]] = []
    for source in sources:
        for question_id, whole, others in _read_rows(source, (columns or {}).get(source.name)):
            passages += [(len(asked), whole, True), *((len(asked), text, False) for text in others)]
            asked.append((source.name, question_id))
    questions = pl.DataFrame(asked, schema={"benchmark": pl.String, "question_id": pl.String}, orient="row").with_row_index(
        "question"
    )
    return Questions(questions, _grams(passages, n))


def _grams(passages: Sequence[tuple[int, str, bool]], n: int) -> pl.DataFrame:
    """Return `length`, `gram`, `question`: all n-grams of long passages, and short ones as a whole where that is asked for."""
    table = pl.DataFrame(passages, schema={"question": pl.UInt32, "text": pl.String, "whole": pl.Boolean}, orient="row")
    words = word_hashes(table["text"])
    grams = ngram_hashes(words, n, whole_if_shorter=True)
    table = table.with_columns(length=pl.Series(np.minimum(words.lengths, n)))
    return (
        table[grams.owners]
        .with_columns(gram=pl.Series(grams.hashes))
        .filter((pl.col("length") == n) | (pl.col("whole") & (pl.col("length") >= SHORTEST_WHOLE)))
        .select("length", "gram", "question")
        .unique()
        .sort("length", "gram", "question")
    )


def _members(hashes: Hashes, wanted: Hashes) -> npt.NDArray[np.bool_]:
    """Say which hashes are among the wanted ones: nearly all are ruled out by their low bits before anything is sorted."""
    mask = np.uint64((1 << FILTER_BITS) - 1)
    possible = np.zeros(1 << FILTER_BITS, bool)
    possible[wanted & mask] = True
    found = possible[hashes & mask]
    found[found] = np.isin(hashes[found], wanted)
    return found


def _read_rows(source: Source, columns: QuestionColumns | None) -> Iterator[tuple[str, str, list[str]]]:
    """Yield id, the text that is asked, and the further texts of every row."""
    rows = _parquet_rows(source) if source.location.endswith(".parquet") else _lines(source)
    for number, read in rows:
        try:
            record = read()
            yield _usual_texts(record) if columns is None else _named_texts(record, columns, number)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            needed = "question, choices or instruction, reference" if columns is None else ", ".join(columns.texts)
            raise UserError(
                f"{source.name}: line {number} of {source.location} does not fit ({error}); needed: a JSON object with id and {needed}"
            ) from error


def _lines(source: Source) -> Iterator[tuple[int, Callable[[], Any]]]:
    try:
        with open_source(source.location) as file:
            content = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source.name}: {source.location} cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(content.split("\n"), start=1):  # not `splitlines`: JSON strings may hold U+2028 and the like
        if line.strip():
            yield number, partial(json.loads, line)


def _parquet_rows(source: Source) -> Iterator[tuple[int, Callable[[], Any]]]:
    try:
        with open_source(source.location) as file:
            rows = pl.read_parquet(file.read()).to_dicts()
    except (OSError, pl.exceptions.ComputeError) as error:
        raise UserError(f"{source.name}: {source.location} cannot be read as parquet: {one_line(error)}") from error
    for number, row in enumerate(rows, start=1):
        yield number, partial(dict, row)


def _usual_texts(record: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    for asked, further in SHAPES:
        if asked in record:
            others = record.get(further, [])
            others = list(others.values()) if isinstance(others, Mapping) else others
            texts = [record[asked], *([others] if isinstance(others, str) else others)]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError(f"{asked} and {further} must be text")
            return str(record["id"]), texts[0], texts[1:]
    raise KeyError("question or instruction")


def _named_texts(record: Mapping[str, Any], columns: QuestionColumns, number: int) -> tuple[str, str, list[str]]:
    asked, *others = columns.texts
    if not isinstance(record[asked], str):
        raise TypeError(f"{asked} must be text")
    question_id = str(number) if columns.id is None else str(record[columns.id])
    return question_id, record[asked], [text for column in others for text in _texts_in(record[column])]


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts of a value: itself, or those of a list or of an object's fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for one in value.values() for text in _texts_in(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in _texts_in(one))

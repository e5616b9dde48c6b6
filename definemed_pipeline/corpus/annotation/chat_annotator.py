"""The chat annotator: ask a chat model whether a document belongs to the field, and read its verdict (see `chat/verdicts.py`).

A document whose answer holds no verdict stays without a label and is counted.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import polars as pl

from definemed_pipeline.artifacts.sources import packaged_location
from definemed_pipeline.chat.client import ChatClient, Conversation
from definemed_pipeline.chat.progress import Progress
from definemed_pipeline.chat.verdicts import VerdictReader, response_format
from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator

PROMPT_VARIABLES = frozenset({"text"})


def annotate_by_chat(
    documents: Iterable[pl.DataFrame],
    annotator: ChatAnnotator,
    *,
    prompt: jinja2.Template,
    cache_folder: Path,
    report: Callable[[str], None],
) -> Generator[pl.DataFrame, None, dict[str, float]]:
    """Label frames of documents (column `text`): yield each with `annotator_score` (f64, 1 or 0) and `is_medical`; return the accounting.

    Both columns are null where the answer held no verdict, or where there was no text to ask about. Documents of one frame with the
    same excerpt are asked about once. A frame is taken when the endpoint has room for its questions: few are in memory, and the
    endpoint never waits for one to be finished. The accounting: documents `unparseable` and `without_text`, the client's `Usage`,
    and the `cost` of all answers where the recipe names prices.
    """
    read = verdict_reader(annotator)
    waiting: deque[_Batch] = deque()
    verdicts: list[bool | None] = []  # of the first waiting batches, in order
    counts = {"unparseable": 0, "without_text": 0}

    def conversations() -> Iterator[Conversation]:
        for frame in documents:
            waiting.append(_batch(frame, annotator.max_characters))
            yield from ([{"role": "user", "content": prompt.render(text=text)}] for text in waiting[-1].asked)

    def finished() -> pl.DataFrame:
        batch = waiting.popleft()
        labels = _labels(batch, verdicts[: len(batch.asked)])
        del verdicts[: len(batch.asked)]
        without_text = int((batch.excerpts == "").sum())
        counts["without_text"] += without_text
        counts["unparseable"] += labels.null_count() - without_text
        return batch.documents.with_columns(annotator_score=labels.cast(pl.Float64), is_medical=labels)

    with ChatClient(annotator.endpoint, cache_folder) as client:
        progress = Progress(client, report, of="documents")
        asking = client.answers(
            conversations(),
            temperature=annotator.temperature,
            max_tokens=annotator.max_tokens,
            response_format=response_format(annotator.response_format, {annotator.verdict_key: {"type": "boolean"}}),
        )
        with contextlib.closing(asking) as answers:
            for answer in answers:
                verdicts.append(read(answer.text))
                progress.count(verdict=verdicts[-1] is not None)
                while waiting and len(verdicts) >= len(waiting[0].asked):
                    yield finished()
        while waiting:  # batches without a text to ask about
            yield finished()
    return {**counts, **asdict(client.usage), **client.cost()}


@dataclass(frozen=True)
class _Batch:
    """Documents with the excerpt of each ("" where it has no text), and the different excerpts that are asked about."""

    documents: pl.DataFrame
    excerpts: pl.Series
    asked: list[str]


def _batch(documents: pl.DataFrame, max_characters: int) -> _Batch:
    excerpts = documents["text"].fill_null("").str.strip_chars().str.slice(0, max_characters)
    return _Batch(documents, excerpts, excerpts.filter(excerpts != "").unique(maintain_order=True).to_list())


def _labels(batch: _Batch, verdicts: list[bool | None]) -> pl.Series:
    """Give every document its excerpt's verdict."""
    asked = pl.DataFrame(
        {"excerpt": batch.asked, "is_medical": verdicts}, schema={"excerpt": pl.String, "is_medical": pl.Boolean}
    )
    return batch.excerpts.to_frame("excerpt").join(asked, on="excerpt", how="left", maintain_order="left")["is_medical"]


def verdict_reader(annotator: ChatAnnotator) -> VerdictReader[bool]:
    """Return what reads the verdicts in the words that the recipe names."""
    return VerdictReader(annotator.verdict_key, {True: annotator.positive_verdicts, False: annotator.negative_verdicts})


def prompt_location(name: str) -> str:
    """Return the location of a prompt: a packaged one by its name, any other by its path or URL; raise UserError for neither."""
    return packaged_location("corpus/annotation/prompts", name, "annotations.annotator.prompt", suffix=".jinja")

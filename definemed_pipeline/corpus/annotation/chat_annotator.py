"""The chat annotator: ask a chat model whether a document belongs to the field, and read its verdict.

A verdict counts where the model commits itself: as the value of the verdict key, as the answer's first word (after a label such as
`Antwort:`), or alone on a line. A verdict's word inside a sentence does not ("das ist ja kein ..."), nor does an offer of both ("ja oder
nein"). The first verdict wins; a document whose answer holds none stays without a label and is counted.
"""

import importlib.resources
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import polars as pl

from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.chat.client import ChatClient, Conversation
from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator
from definemed_pipeline.errors import UserError

SECONDS_BETWEEN_REPORTS = 5.0
PACKAGED = importlib.resources.files("definemed_pipeline") / "corpus" / "annotation" / "prompts"
SUFFIX = ".jinja"


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
    read = VerdictReader(annotator)
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
        progress = _Progress(client, report)
        answers = client.answers(
            conversations(),
            temperature=annotator.temperature,
            max_tokens=annotator.max_tokens,
            response_format=_response_format(annotator),
        )
        for answer in answers:
            verdicts.append(read(answer.text))
            progress.count(verdicts[-1])
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


def _response_format(annotator: ChatAnnotator) -> dict[str, Any] | None:
    """Return what the endpoint is asked to hold the answer to."""
    if annotator.response_format == "text":
        return None
    if annotator.response_format == "json_object":
        return {"type": "json_object"}
    key = annotator.verdict_key
    schema = {"type": "object", "properties": {key: {"type": "boolean"}}, "required": [key], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


class _Progress:
    """Tells now and then how many answers came, how quickly, and what all cost so far."""

    def __init__(self, client: ChatClient, report: Callable[[str], None]) -> None:
        self._client, self._report = client, report
        self._answered = self._open = 0
        self._started = self._reported = time.monotonic()

    def count(self, verdict: bool | None) -> None:
        self._answered += 1
        self._open += verdict is None
        now = time.monotonic()
        if now - self._reported < SECONDS_BETWEEN_REPORTS:
            return
        self._reported = now
        rate = self._answered / (now - self._started)
        cost = "".join(f", cost so far {cost:,.2f}" for cost in self._client.cost().values())
        self._report(f"{self._answered:,} answers, {self._open:,} of them without a verdict, {rate:,.1f} documents/s{cost}")


class VerdictReader:
    """Reads an answer's first verdict in the words that the recipe names; None where it holds none."""

    def __init__(self, annotator: ChatAnnotator) -> None:
        # Compared in folded case on both sides: under IGNORECASE a dotless i would match and then be taken for the other verdict.
        self._positive = {verdict.casefold() for verdict in annotator.positive_verdicts}
        both = self._positive | {verdict.casefold() for verdict in annotator.negative_verdicts}
        words = "|".join(map(re.escape, sorted(both, key=len, reverse=True)))
        word = rf"({words})(?!\w)"
        # "ja/nein", "ja oder nein": an offer, or a contradiction.
        alone = rf"{word}(?!\s*[/|,.]?\s*(?:\w+\s+)?(?:{words})(?!\w))"
        key = re.escape(annotator.verdict_key.casefold())
        # Between lines only \A may skip blanks: an answer of a million empty lines shall be read in linear time.
        self._verdict = re.compile(
            rf"""(?:^|[{{,"'*])[ \t]*{key}["'*]*[ \t]*[:=][ \t]*["'*]*{alone}"""
            rf"""|\A\W*(?:\w+[ \t]*:\W*)?{alone}"""
            rf"""|^[^\w\n]*{word}[^\w\n]*$""",
            re.MULTILINE,
        )

    def __call__(self, answer: str) -> bool | None:
        """Return the verdict of an answer; what a reasoning model thinks aloud before it is passed over."""
        spoken = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer.casefold(), flags=re.DOTALL)
        found = self._verdict.search(spoken)
        return None if found is None else (found[1] or found[2] or found[3]) in self._positive


def prompt_location(name: str) -> str:
    """Return the location of a prompt: a packaged one by its name, any other by its path or URL; raise UserError for neither."""
    if "/" in name or "\\" in name or name.endswith(SUFFIX):
        return name
    packaged = sorted(file.name.removesuffix(SUFFIX) for file in PACKAGED.iterdir() if file.name.endswith(SUFFIX))
    if name not in packaged:
        raise UserError(
            f"annotations.annotator.prompt is {name!r}; allowed: {', '.join(packaged)}, or the path of a {SUFFIX} file"
        )
    return str(PACKAGED / f"{name}{SUFFIX}")


def read_prompt(location: str) -> jinja2.Template:
    """Read a prompt; raise UserError where it is no template over `text`."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    try:
        with open_source(location) as file:
            source = file.read().decode("utf-8")
        variables = jinja2.meta.find_undeclared_variables(environment.parse(source))
    except (OSError, ValueError, jinja2.TemplateError) as error:
        raise UserError(f"the prompt {location} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if variables != {"text"}:
        raise UserError(f"the prompt {location} uses {sorted(variables)}; it must use {{{{ text }}}} and no other variable")
    return environment.from_string(source)

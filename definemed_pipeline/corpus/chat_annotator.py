"""The chat annotator: ask a chat model whether a document belongs to the field, and read its verdict.

A verdict counts where the model commits itself: as the value of the verdict key, as the answer's first word (after a label such as
`Antwort:`), or alone on a line. A verdict's word inside a sentence does not ("das ist ja kein ..."), nor does an offer of both ("ja oder
nein"). The first verdict wins; a document whose answer holds none stays without a label and is counted.
"""

import importlib.resources
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import jinja2
import jinja2.meta
import polars as pl

from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.chat.client import ChatClient
from definemed_pipeline.corpus.chat_settings import ChatAnnotator
from definemed_pipeline.errors import UserError

SECONDS_BETWEEN_REPORTS = 5.0
PACKAGED = importlib.resources.files("definemed_pipeline") / "corpus" / "prompts"
SUFFIX = ".jinja"


def annotate_by_chat(
    documents: pl.DataFrame,
    annotator: ChatAnnotator,
    *,
    prompt: jinja2.Template,
    cache_folder: Path,
    report: Callable[[str], None],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Label documents (column `text`): return them with `annotator_score` (f64, 1 or 0) and `is_medical`, and the accounting.

    Both columns are null where the answer held no verdict, or where there was no text to ask about. Documents with the same excerpt
    are asked about once. The accounting: documents `unparseable` and `without_text`, and the client's `Usage`.
    """
    excerpts = documents.select(excerpt=pl.col("text").fill_null("").str.strip_chars().str.slice(0, annotator.max_characters))
    asked = excerpts.filter(pl.col("excerpt") != "").unique(maintain_order=True)
    read = VerdictReader(annotator)
    verdicts: list[bool | None] = []
    reported = time.monotonic()
    with ChatClient(annotator.endpoint, cache_folder) as client:
        conversations = ([{"role": "user", "content": prompt.render(text=text)}] for text in asked["excerpt"])
        for answer in client.answers(conversations, temperature=annotator.temperature, max_tokens=annotator.max_tokens):
            verdicts.append(read(answer.text))
            if time.monotonic() - reported >= SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                report(f"{len(verdicts):,} of {asked.height:,} documents answered, {verdicts.count(None):,} without a verdict")
    labels = excerpts.join(
        asked.with_columns(pl.Series("is_medical", verdicts, dtype=pl.Boolean)), on="excerpt", how="left", maintain_order="left"
    )
    without_text = int((excerpts["excerpt"] == "").sum())
    unparseable = labels["is_medical"].null_count() - without_text
    return (
        documents.with_columns(labels["is_medical"].cast(pl.Float64).alias("annotator_score"), labels["is_medical"]),
        {"unparseable": unparseable, "without_text": without_text, **asdict(client.usage)},
    )


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

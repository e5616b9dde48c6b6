"""FineWeb2's quality rules: which texts are lists, menus, boilerplate, repetition or no running text at all.

The rules are those of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A) and FineWeb (Penedo et al. 2024, arXiv 2406.17557) with the limits
that FineWeb2 (Penedo et al. 2025, arXiv 2506.20920) set for each language; the limits are data, see `quality_settings.py`. What is measured
is what FineWeb2's own implementation (datatrove 0.10) measures, save for this:
- Tokens are found by one regular expression, where datatrove asks spaCy: a run of letters, marks and digits with single signs inside (`Corona-Test`, `3,5`),
  a run of dots, or any other sign. spaCy also knows abbreviations (`bzw.`) and cuts units off numbers.
- A token without letter or digit is no word, where datatrove has a list of signs. Blank lines count nowhere, where datatrove counts them
  in the shares of bullets and ellipses. N-grams are equal where their tokens are, where datatrove compares them written together.
- Of two rules about the characters of repeated lines it has the one that FineWeb2 uses, which leaves line feeds out of the text's length.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from definemed_pipeline.corpus.quality.repetition import Texts, duplicate_ngrams_above, top_ngram_above
from definemed_pipeline.corpus.quality.settings import QualityRules
from definemed_pipeline.corpus.text import WORD_SEED, Ragged

TOKEN = r"[\p{L}\p{M}\p{N}]+(?:[-.,:'’_&@][\p{L}\p{M}\p{N}]+)*|\.{2,}|\S"
BYTES_AT_ONCE = 2 << 20  # of text: bounds memory whatever the size of the documents, and keeps the work in the processor's caches


def drop_reasons(texts: pl.Series, rules: QualityRules) -> pl.Series:
    """Return for each text the first rule that it breaks, null where it keeps them all; a null text is empty.

    The rules are tried in the order of `_rules`, then come `top_2gram` and so on, then `duplicate_5gram` and so on, for every n in the
    rules. The reason of a text does not depend on the other texts.
    """
    parts = [_drop_reasons(part, rules) for part in _slices(texts.cast(pl.String).fill_null(""))]
    return pl.concat([pl.Series("reason", [], pl.String), *parts])


def _slices(texts: pl.Series) -> Iterator[pl.Series]:
    """Cut the texts into runs of about `BYTES_AT_ONCE`; a text longer than that ends its run."""
    run = texts.str.len_bytes().cast(pl.Int64).cum_sum() // BYTES_AT_ONCE
    starts = np.flatnonzero(np.diff(run.to_numpy(), prepend=-1))
    for start, length in zip(starts.tolist(), np.diff(starts, append=len(texts)).tolist(), strict=True):
        yield texts.slice(start, length)


def _drop_reasons(texts: pl.Series, rules: QualityRules) -> pl.Series:
    frame = pl.DataFrame({"text": texts, "tokens": texts.str.extract_all(TOKEN)}).with_row_index("document")
    first = pl.coalesce(pl.when(broken).then(pl.lit(reason)) for reason, broken in _rules(rules).items())
    reasons = _measured(frame, rules).select("document", reason=first).sort("document").collect()["reason"]
    left = frame.filter(reasons.is_null())
    return reasons.scatter(left["document"], _repetitive(left, rules))


def _rules(rules: QualityRules) -> dict[str, pl.Expr]:
    """Return reason -> whether a text breaks the rule, in the order they are tried; a rule without a limit is left out."""
    text, column = pl.col("text"), pl.col
    tokens, words, lines, paragraphs = (column(name) for name in ("tokens", "words", "lines", "paragraphs"))
    feeds = text.str.count_matches("\n", literal=True)
    tried = {
        "empty": _below(words, 1),
        "too_few_words": _below(words, rules.min_words),
        "too_many_words": _above(words, rules.max_words),
        "short_words": _below(column("word_characters") / words, rules.min_mean_word_length),
        "long_words": _above(column("word_characters") / words, rules.max_mean_word_length),
        "hash_signs": _above(text.str.count_matches("#", literal=True) / tokens, rules.max_signs_per_token),
        "ellipses": _above(text.str.count_matches(r"\.\.\.|…") / tokens, rules.max_signs_per_token),
        "few_letters": _below(column("lettered") / tokens, rules.min_lettered_share),
        "few_stop_words": _below(column("stop_words"), rules.min_stop_words),
        "list": _above(feeds / tokens, rules.max_line_feeds_per_token),
        "unpunctuated_lines": _below(column("punctuated_lines") / lines, rules.min_punctuated_line_share),
        "short_lines": _above(column("short_lines") / lines, rules.max_short_line_share),
        "bullet_lines": _above(column("bullet_lines") / lines, rules.max_bullet_line_share),
        "ellipsis_lines": _above(column("ellipsis_lines") / lines, rules.max_ellipsis_line_share),
        "duplicate_lines": _above(column("duplicate_lines") / lines, rules.max_duplicate_line_share),
        "duplicate_line_characters": _above(
            column("duplicate_line_characters") / (text.str.len_chars() - feeds), rules.max_duplicate_line_characters
        ),
        "duplicate_paragraphs": _above(column("duplicate_paragraphs") / paragraphs, rules.max_duplicate_paragraph_share),
        "duplicate_paragraph_characters": _above(
            column("duplicate_paragraph_characters") / text.str.len_chars(), rules.max_duplicate_paragraph_characters
        ),
    }
    return {reason: broken for reason, broken in tried.items() if broken is not None}


def _above(measure: pl.Expr, limit: float | None) -> pl.Expr | None:
    return None if limit is None else measure > limit


def _below(measure: pl.Expr, limit: float | None) -> pl.Expr | None:
    return None if limit is None else measure < limit


def _measured(frame: pl.DataFrame, rules: QualityRules) -> pl.LazyFrame:
    """Return `document`, `text` and what the rules compare, in any order; lazy, so that only what a rule asks for is computed."""
    token, line, paragraph = pl.col("token"), pl.col("line"), pl.col("paragraph")
    is_word = token.str.contains(r"[\p{L}\p{N}]")
    tokens = (
        frame.lazy()
        .select("document", token="tokens")
        .explode("token", keep_nulls=False, empty_as_null=False)
        .group_by("document")
        .agg(
            tokens=pl.len(),
            words=is_word.sum(),
            word_characters=token.filter(is_word).str.len_chars().sum(),
            lettered=token.str.contains(r"\p{L}").sum(),
            stop_words=token.filter(token.is_in(rules.stop_words)).n_unique(),
        )
    )
    lines = (
        _pieces(frame, "\n", "line")
        .group_by("document")
        .agg(
            lines=pl.len(),
            punctuated_lines=line.str.slice(-1).is_in(rules.line_ends).sum(),
            short_lines=(line.str.len_chars() <= rules.short_line_length).sum(),
            bullet_lines=line.str.contains(r"^\s*[•-]").sum(),
            ellipsis_lines=line.str.contains(r"(?:\.\.\.|…)\s*$").sum(),
            duplicate_lines=pl.len() - line.n_unique(),
            duplicate_line_characters=line.str.len_chars().sum() - line.unique().str.len_chars().sum(),
        )
    )
    paragraphs = (
        _pieces(frame, "\n\n", "paragraph")
        .group_by("document")
        .agg(
            paragraphs=pl.len(),
            duplicate_paragraphs=pl.len() - paragraph.n_unique(),
            duplicate_paragraph_characters=paragraph.str.len_chars().sum() - paragraph.unique().str.len_chars().sum(),
        )
    )
    texts = frame.lazy().select("document", "text")
    for measures in (tokens, lines, paragraphs):
        texts = texts.join(measures, on="document", how="left")
    return texts.with_columns(pl.col(pl.UInt32).fill_null(0))


def _pieces(frame: pl.DataFrame, separator: str, name: str) -> pl.LazyFrame:
    """Return `document` and the pieces between separators that are not blank, without line feeds around them."""
    piece = pl.col("text").str.split(separator).alias(name)
    pieces = frame.lazy().select("document", piece).explode(name, keep_nulls=False, empty_as_null=False)
    return pieces.with_columns(pl.col(name).str.strip_chars("\n")).filter(pl.col(name).str.contains(r"\S"))


def _repetitive(frame: pl.DataFrame, rules: QualityRules) -> pl.Series:
    """Return for each text the first rule on repeated n-grams that it breaks, else null."""
    flat = frame["tokens"].list.explode(keep_nulls=False, empty_as_null=False)
    offsets = np.concatenate(([0], np.cumsum(frame["tokens"].list.len().to_numpy().astype(np.int64))))
    texts = Texts(
        words=Ragged(flat.hash(WORD_SEED).to_numpy(), offsets),
        word_characters=flat.str.len_chars().to_numpy().astype(np.int64),
        text_characters=frame["text"].str.len_chars().to_numpy().astype(np.int64),
    )
    tops = {f"top_{n}gram": top_ngram_above(texts, n, limit) for n, limit in sorted(rules.max_top_ngram_share.items())}
    duplicates = duplicate_ngrams_above(texts, rules.max_duplicate_ngram_share)
    found = tops | {f"duplicate_{n}gram": documents for n, documents in duplicates.items()}
    names = pl.Series("reason", [*found, None], pl.String)
    broken = np.full(frame.height, len(found))
    for number, documents in reversed(list(enumerate(found.values()))):  # the first rule has the last word
        broken[documents] = number
    return names.gather(broken)

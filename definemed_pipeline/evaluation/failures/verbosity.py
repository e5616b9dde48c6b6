"""How long-winded a text is: repeated n-grams, and how much of it is mark-up."""

import re
from collections.abc import Sequence

from definemed_pipeline.evaluation.failures.evidence import WORD, key_of

# Headings, items, quotes, rows of tables, fences, emphasis, code: what Markdown adds to plain text.
MARKED_LINE = re.compile(r"^\s*(?:#{1,6}\s|[-*+•]\s|\d{1,3}[.)]\s|>|\||```|-{3,}\s*$)|\*\*[^*\n]+\*\*|__[^_\n]+__|`[^`\n]+`")


def repetition(words: Sequence[str], size: int) -> float:
    """Return the share of a text's word n-grams that repeat an earlier one, as in the repetition filters of Gopher (Rae et al. 2021)."""
    grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def first_repetition(text: str, size: int) -> tuple[int, int]:
    """Return where the first word n-gram stands that repeats an earlier one (offsets in characters); an empty span at the end if none does."""
    matches = list(WORD.finditer(text))
    words = [key_of(match[0]) for match in matches]
    seen: set[tuple[str, ...]] = set()
    for start in range(len(words) - size + 1):
        gram = tuple(words[start : start + size])
        if gram in seen:
            return matches[start].start(), matches[start + size - 1].end()
        seen.add(gram)
    return len(text), len(text)


def markdown_share(text: str) -> float:
    """Return the share of a text's lines (blank ones aside) that carry Markdown; 0 of an empty text."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(bool(MARKED_LINE.search(line)) for line in lines) / len(lines) if lines else 0.0

"""Whether an answer refuses what was asked, by phrases from a lexicon in its beginning."""

import re
from dataclasses import dataclass

from definemed_pipeline.artifacts.sources import read_yaml
from definemed_pipeline.errors import UserError

GAP, GAP_WORDS = "...", 6
SPACE = r"[\W_]+"


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Phrases that refuse, as one expression, and how many words from the beginning of an answer they must begin within."""

    phrases: re.Pattern[str]
    within_words: int

    def find(self, response: str) -> tuple[int, int] | None:
        """Return where the first refusing phrase stands (offsets in characters), or None. Typographic apostrophes count as plain ones."""
        found = self.phrases.search(response.replace("’", "'"))
        if found is None or len(response[: found.start()].split()) >= self.within_words:
            return None
        return found.span()


def read_refusals(location: str) -> Refusals:
    """Read a lexicon (YAML: `within_words`, `phrases`; `...` stands for up to six words); raise UserError where it does not fit."""
    content = read_yaml(location, what="the lexicon")
    try:
        within, phrases = int(content["within_words"]), [_expression(phrase) for phrase in content["phrases"]]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"the lexicon {location} does not fit ({error}); it needs within_words and a list of phrases") from error
    if within < 1 or not phrases:
        raise UserError(f"the lexicon {location} needs within_words above 0 and at least one phrase")
    return Refusals(phrases=re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE), within_words=within)


def _expression(phrase: str) -> str:
    """Turn a phrase into an expression: between its words anything that is none, at a gap up to six words of the same sentence."""
    parts = [SPACE.join(map(re.escape, re.findall(r"[\w'-]+", part))) for part in phrase.split(GAP)]
    if not all(parts):
        raise ValueError(f"{phrase!r} begins or ends with a gap, or has no word")
    return rf"(?:[^\w.!?]+[\w'-]+){{0,{GAP_WORDS}}}?{SPACE}".join(parts)

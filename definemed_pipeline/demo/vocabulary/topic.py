"""The shape of a topic: its word lists, as text that ``grammar`` reads, and its own sentence patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from definemed_pipeline.demo.grammar import Lexicon, nouns, phrases, verbs
from definemed_pipeline.demo.vocabulary.shared import SHARED_WORDS


@dataclass(frozen=True)
class Topic:
    """One topic: persons, things and tools are nouns; places and reasons are phrases; patterns are used beside the shared ones."""

    name: str
    person: str
    thing: str
    tool: str
    adjective: str
    place: str
    verb: str
    reason: str
    patterns: tuple[str, ...]

    def lexicon(self, further: Mapping[str, tuple[str, ...]]) -> Lexicon:
        """Return the lexicon of this topic's words, the shared ones and further ones."""
        return Lexicon(
            {
                **SHARED_WORDS,
                **further,
                "person": nouns(self.person),
                "thing": nouns(self.thing),
                "tool": nouns(self.tool),
                "place": phrases(self.place),
                "verb": verbs(self.verb),
                "reason": phrases(self.reason),
            },
            phrases(self.adjective),
        )

"""Documents that are not medicine: everyday topics, the hard negatives beside medicine, and English pages."""

from __future__ import annotations

from definemed_pipeline.demo.diseases import DISEASES
from definemed_pipeline.demo.grammar import Lexicon, capitalised, templates
from definemed_pipeline.demo.randomness import Dice
from definemed_pipeline.demo.vocabulary.english import ENGLISH_MEDICINE_PATTERNS, ENGLISH_PATTERNS, ENGLISH_WORDS
from definemed_pipeline.demo.vocabulary.shared import BOILERPLATE, SHARED_PATTERNS, TITLE_PATTERNS
from definemed_pipeline.demo.vocabulary.topic import Topic


class TopicWriter:
    """Write documents of one topic."""

    def __init__(self, topic: Topic, *, own_share: float) -> None:
        lexicon = topic.lexicon({"disease": tuple(disease.name for disease in DISEASES)})
        self._shared = templates(SHARED_PATTERNS, lexicon)
        self._own = templates(topic.patterns, lexicon)
        self._titles = templates(TITLE_PATTERNS, lexicon)
        self._own_share = own_share

    def write(self, dice: Dice, *, sentences: int | None = None) -> str:
        """Write one document of 7 to 17 sentences, or of as many as asked for."""
        count = sentences or dice.number(7, 17)
        own = min(len(self._own), max(1, round(count * self._own_share)))
        chosen = dice.sample(self._own, own) + dice.sample(self._shared, count - own)
        written = [template.write(dice) for template in dice.shuffled(chosen)]
        blocks = []
        while written:
            length = dice.number(2, 6)
            blocks.append(" ".join(written[:length]))
            written = written[length:]
        if dice.chance(0.6):
            blocks.insert(0, dice.choose(self._titles).write(dice))
        if dice.chance(0.25):
            blocks.append(dice.choose(BOILERPLATE))
        return "\n\n".join(blocks)


class EnglishWriter:
    """Write English pages, of everyday life or of medicine."""

    def __init__(self) -> None:
        lexicon = Lexicon(ENGLISH_WORDS)
        self._everyday = templates(ENGLISH_PATTERNS, lexicon)
        self._medicine = templates(ENGLISH_MEDICINE_PATTERNS, lexicon)

    def write(self, dice: Dice, *, medical: bool) -> str:
        """Write one page of twelve sentences."""
        chosen = (
            dice.sample(self._medicine, 8) + dice.sample(self._everyday, 4) if medical else dice.sample(self._everyday, 9) * 2
        )
        written = [capitalised(template.write(dice)) for template in dice.shuffled(chosen)]
        middle = len(written) // 2
        return "\n\n".join((" ".join(written[:middle]), " ".join(written[middle:])))

"""The recipe's sections of the corpus, from the web's files to FineMed-de; the classifier's and the
sources' have modules of their own.

Only declarations belong here. Gold labels, benchmarks and instruction sets reach the work functions as sources.
"""

from typing import Annotated, Literal

from pydantic import Field

from definemed_pipeline.corpus.chat_settings import ChatAnnotator
from definemed_pipeline.settings import setting, settings


@settings
class LexiconAnnotator:
    """Label by counting weighted terms; see `lexicon.py` for the score and its limits."""

    kind: Literal["lexicon"] = "lexicon"
    lexicon: str = setting(default="de_medical", location=True)  # the name of a packaged lexicon, or the path or URL of another
    threshold: float = setting(default=0.5, above=0, at_most=1)  # a document with at least this score is labelled positive


@settings
class AnnotationSettings:
    """Which documents are labelled to train the classifier, by whom, and against which gold labels the annotator is measured."""

    annotator: Annotated[LexiconAnnotator | ChatAnnotator, Field(discriminator="kind")] = setting(factory=LexiconAnnotator)
    sample_size: int = setting(default=260_000, at_least=1)
    seed: int = setting(default=0, at_least=0)
    gold: str | None = setting(default=None, location=True)  # parquet with `id` and a boolean `is_medical`, null where undecided


@settings
class NearDuplicateSettings:
    """MinHash with banding: documents whose Jaccard similarity is s meet in a band with probability 1 - (1 - s^r)^b,
    where b is `bands` and r is `num_perm / bands`; 14 bands of 8 rows put the steepest slope near s = 0.72."""

    num_perm: int = setting(default=112, at_least=8, at_most=1024)
    bands: int = setting(default=14, at_least=1)
    ngram: int = setting(default=5, at_least=1)  # words per shingle
    min_jaccard: float = setting(default=0.75, above=0, at_most=1)  # of the exact shingle sets of two candidates

    def __post_init__(self) -> None:
        if self.num_perm % self.bands:
            raise ValueError(f"bands is {self.bands}; allowed: a divisor of num_perm, which is {self.num_perm}")


@settings
class FinemedDeSettings:
    """Which of the classified documents enter the corpus, and how it is written."""

    near_duplicates: NearDuplicateSettings = setting(factory=NearDuplicateSettings)
    min_words: int = setting(default=50, at_least=1)
    decontamination_ngram: int = setting(default=13, at_least=1)  # words in a row; a shorter question counts as a whole
    rows_per_file: int = setting(default=200_000, at_least=1)
    seed: int = setting(default=0, at_least=0)  # of the MinHash permutations

"""The recipe's sections of the corpus, from the web's files to FineMed-de; the classifier's and the
sources' have modules of their own.

Only declarations belong here. Gold labels, benchmarks and instruction sets reach the work functions as sources.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator
from definemed_pipeline.settings import setting, settings


@settings
class LexiconAnnotator:
    """Label by counting weighted terms; see `lexicon.py` for the score and its limits."""

    kind: Literal["lexicon"] = "lexicon"
    lexicon: str = setting(default="de_medical", location=True)  # the name of a packaged lexicon, or the path or URL of another
    threshold: float = setting(default=0.5, above=0, at_most=1)  # a document with at least this score is labelled positive


@settings
class SamplingFrameSettings:
    """How every document is put in random order and into a range of a cheap score, before anyone is asked about it.

    The cheap score is the lexicon's score of a document's first `max_characters`. It only says which documents are looked at more
    often; what it misses is still drawn, from the range it put it in, and weighs accordingly.
    """

    lexicon: str = setting(default="de_medical", location=True)  # the name of a packaged lexicon, or the path or URL of another
    max_characters: int = setting(default=1_000, at_least=1)
    score_bins: Mapping[str, float] = setting(
        factory=lambda: {"none": 0.0, "low": 0.1, "medium": 0.3, "high": 0.5}
    )  # lowest score
    seed: int = setting(default=0, at_least=0)  # of the random order: another seed draws other documents

    def __post_init__(self) -> None:
        bounds = sorted(self.score_bins.values())
        if not bounds or bounds[0] != 0 or bounds[-1] >= 1 or len(set(bounds)) < len(bounds) or len(bounds) > 256:
            raise ValueError(
                f"score_bins is {dict(self.score_bins)}; allowed: names with different lowest scores in [0, 1), one of them 0"
            )

    @property
    def bin_names(self) -> tuple[str, ...]:
        """Names of the score bins, from the lowest scores to the highest: a frame's `score_bin` is a position in them."""
        return tuple(sorted(self.score_bins, key=lambda name: self.score_bins[name]))

    @property
    def bin_bounds(self) -> tuple[float, ...]:
        """The lowest score of every bin but the first."""
        return tuple(sorted(self.score_bins.values())[1:])


@settings
class AnnotationSettings:
    """Which documents are labelled, by whom, and against which gold labels the annotator is measured; see `sampling.py`."""

    annotator: Annotated[LexiconAnnotator | ChatAnnotator, Field(discriminator="kind")] = setting(factory=LexiconAnnotator)
    sample_size: int = setting(default=260_000, at_least=1)  # stratified, to train on
    hold_out_size: int = setting(default=10_000, at_least=0)  # purely random and labelled: nothing is tuned on it
    unlabelled_size: int = setting(default=60_000, at_least=0)  # purely random and not labelled: for the cascade's certificate
    sample_shares: Mapping[str, float] = setting(  # of the sample, per score bin
        factory=lambda: {"none": 0.4, "low": 0.15, "medium": 0.15, "high": 0.3}
    )
    gold: str | None = setting(default=None, location=True)  # parquet with `id` and a boolean `is_medical`, null where undecided

    def __post_init__(self) -> None:
        shares = dict(self.sample_shares)
        if not all(share > 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1):
            raise ValueError(f"sample_shares is {shares}; allowed: shares above 0 that sum to 1, one for every score bin")
        if self.sample_size < len(shares):
            raise ValueError(
                f"sample_size is {self.sample_size}; allowed: at least one document for each of {len(shares)} score bins"
            )


@settings
class MedicalDocumentsSettings:
    """How documents are made comparable: MinHash with banding.

    Documents whose Jaccard similarity is s meet in a band with probability 1 - (1 - s^r)^b, where b is `bands` and r is
    `num_perm / bands`; 14 bands of 8 rows put the steepest slope near s = 0.72.
    """

    num_perm: int = setting(default=112, at_least=8, at_most=1024)
    bands: int = setting(default=14, at_least=1)
    ngram: int = setting(default=5, at_least=1)  # words per shingle
    seed: int = setting(default=0, at_least=0)  # of the permutations

    def __post_init__(self) -> None:
        if self.num_perm % self.bands:
            raise ValueError(f"bands is {self.bands}; allowed: a divisor of num_perm, which is {self.num_perm}")


@settings
class QuestionColumns:
    """Where the rows of a file hold what must not leak: the text that is asked first, then the further ones. Rows without an id are counted."""

    id: str | None
    texts: tuple[str, ...]


@settings
class BenchmarkLeaksSettings:
    """When a document counts as quoting a question of the evaluation.

    `columns` is for files that are not laid out as usual, by the name of the source; it follows from the benchmarks' own settings and is
    filled in for the recipe's author.
    """

    ngram: int = setting(default=13, at_least=1)  # words in a row; a shorter question counts as a whole
    columns: dict[str, QuestionColumns] = setting(factory=dict)

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "BenchmarkLeaksSettings":
        """Build the settings from a payload's JSON."""
        columns = {
            name: QuestionColumns(id=one["id"], texts=tuple(one["texts"])) for name, one in section.get("columns", {}).items()
        }
        return cls(**{**section, "columns": columns})


@settings
class DatasetCardSettings:
    """What the corpus's dataset card says that was not measured.

    `languages` are ISO 639-1 codes, `license` is the Hub's identifier of the licence under which the source may be passed on, `source` says in a
    sentence of markdown where the documents come from, at which revision.
    """

    name: str
    languages: tuple[str, ...]
    license: str
    source: str
    field: str
    limits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@settings
class FinemedDeSettings:
    """Which of the medical documents enter the corpus, and how it is written and described."""

    card: DatasetCardSettings
    min_words: int = setting(default=50, at_least=1)
    min_jaccard: float = setting(default=0.75, above=0, at_most=1)  # of the exact shingle sets of two near duplicates
    rows_per_file: int = setting(default=200_000, at_least=1)

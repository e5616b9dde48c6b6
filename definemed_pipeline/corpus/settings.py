"""The recipe's sections of the corpus, from the web's files to FineMed-de; the classifier's have a module of their own.

Only declarations belong here. Gold labels, benchmarks and instruction sets reach the work functions as sources.
"""

from typing import Annotated, Literal

from pydantic import Field

from definemed_pipeline.corpus.chat_settings import ChatAnnotator
from definemed_pipeline.settings import setting, settings


@settings
class SourceSettings:
    """Where the web's documents lie: FineWeb2-shaped parquet files, one shard each."""

    kind: Literal["parquet"] = "parquet"
    files: tuple[str, ...] = setting(location=True)  # paths, globs or fsspec URLs

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files is empty; allowed: one or more paths, globs or URLs of parquet files")


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
class BenchmarkLeaksSettings:
    """When a document counts as quoting a question of the evaluation."""

    ngram: int = setting(default=13, at_least=1)  # words in a row; a shorter question counts as a whole


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

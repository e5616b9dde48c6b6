"""The recipe sections `medical_classifier` and `classifier_scores`: what the two-stage classifier is and how it is trained.

Stage 1 is a linear model on hashed subwords that reads every document; stage 2 is a transformer of XLM-R architecture that reads
only what stage 1 does not reject.
"""

from typing import Annotated, Literal

from pydantic import Field

from definemed_pipeline.settings import setting, settings


@settings
class LinearSettings:
    """Stage 1: logistic regression on hashed words and the character n-grams inside them."""

    buckets_power: int = setting(default=18, at_least=8, at_most=26)  # 2 ** buckets_power weights
    shortest_ngram: int = setting(default=3, at_least=2, at_most=8)
    longest_ngram: int = setting(default=5, at_least=2, at_most=8)
    max_characters: int = setting(default=4_000, at_least=100)
    l2: float = setting(default=1e-4, above=0)

    def __post_init__(self) -> None:
        if self.shortest_ngram > self.longest_ngram:
            raise ValueError(f"shortest_ngram is {self.shortest_ngram}; allowed: at most longest_ngram {self.longest_ngram}")


@settings
class FromScratch:
    """Stage 2 starts from random weights and a tokenizer of its own, both made from the annotated sample."""

    kind: Literal["from_scratch"] = setting(default="from_scratch")
    vocabulary_size: int = setting(default=4_000, at_least=300)
    hidden_size: int = setting(default=64, at_least=8)
    layers: int = setting(default=2, at_least=1)
    heads: int = setting(default=2, at_least=1)

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size is {self.hidden_size}; allowed: a multiple of heads {self.heads}")


@settings
class Pretrained:
    """Stage 2 starts from published weights: a Hub repository at a revision, or a local folder."""

    kind: Literal["pretrained"] = setting(default="pretrained")
    model: str = setting()
    revision: str | None = setting(default=None)  # pin a commit for a Hub repository; None for a folder


@settings
class MedicalClassifierSettings:
    """Recipe section `medical_classifier`."""

    linear: LinearSettings = setting(factory=LinearSettings)
    transformer: Annotated[FromScratch | Pretrained, Field(discriminator="kind")] = setting(factory=FromScratch)
    epochs: int = setting(at_least=1)
    learning_rate: float = setting(above=0)
    warm_up_share: float = setting(default=0.1, at_least=0, at_most=1)  # of all steps
    weight_decay: float = setting(default=0.01, at_least=0)
    batch_size: int = setting(default=32, at_least=1)
    max_tokens: int = setting(default=512, at_least=8)
    seed: int = setting(default=0, at_least=0)
    target_precision: float = setting(default=0.95, above=0, at_most=1)
    held_out_share: float = setting(default=0.2, above=0, at_most=0.9)
    prefilter_recall: float = setting(default=0.99, above=0, at_most=1)  # of the documents stage 2 would take


@settings
class ClassifierScoresSettings:
    """Recipe section `classifier_scores`."""

    batch_size: int = setting(default=64, at_least=1)  # documents stage 2 reads at once

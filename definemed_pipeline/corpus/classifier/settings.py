"""The recipe sections `medical_classifier`, `cascade_certificate` and `classifier_scores`: the two-stage classifier and its cascade.

Stage 1 is a linear model on hashed subwords that reads every document; stage 2 is a transformer of XLM-R architecture that reads
only what stage 1 may not reject. What it may reject is what the certificate says.
"""

from typing import Annotated, Literal

from pydantic import Field

from definemed_pipeline.settings import setting, settings

BATCH_TOKENS = 4_096  # 8 documents of 512 tokens: what a CPU's cache likes (benchmarks/README.md); a GPU wants many more


@settings
class LinearSettings:
    """Stage 1: logistic regression on hashed words and the character n-grams inside them."""

    buckets_power: int = setting(default=18, at_least=8, at_most=26)  # 2 ** buckets_power weights
    shortest_ngram: int = setting(default=3, at_least=2, at_most=8)
    longest_ngram: int = setting(default=5, at_least=2, at_most=8)
    max_characters: int = setting(default=4_000, at_least=100)
    l2: float = setting(default=1e-4, above=0)
    # Bounds memory (some 0.5 GB) and time. Its mistakes cost work and not recall, which the certificate guards whatever stage 1 is.
    max_documents: int = setting(default=50_000, at_least=100)

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
    validation_share: float = setting(default=0.2, above=0, at_most=0.9)  # of the sample; calibrates and chooses the threshold


@settings
class CascadeCertificateSettings:
    """Recipe section `cascade_certificate`: what share of the full sweep's documents stage 1 may cost, and how sure one must be."""

    target_recall: float = setting(default=0.99, above=0, at_most=1)  # relative to the full sweep
    confidence: float = setting(default=0.95, above=0.5, at_most=0.9999)
    batch_tokens: int = setting(default=BATCH_TOKENS, at_least=8)

    def __post_init__(self) -> None:
        if self.target_recall == 1:
            raise ValueError("target_recall is 1; allowed: below 1, since no finite sample can show that nothing is missed")


@settings
class ClassifierScoresSettings:
    """Recipe section `classifier_scores`."""

    batch_tokens: int = setting(default=BATCH_TOKENS, at_least=8)  # tokens stage 2 reads at once, padding included
    audit_share: float = setting(default=0.001, at_least=0, at_most=1)  # of stage 1's rejects that stage 2 reads as well

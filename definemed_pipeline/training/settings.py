"""The recipe's sections for base models, packing and continual pre-training. Standard library only, as in all settings."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

from definemed_pipeline.errors import UserError
from definemed_pipeline.existing_models import ExistingModelSettings
from definemed_pipeline.settings import setting, settings

GENERAL_KEY = "cpt_corpus.general.files"
MOST_GENERAL_FILES = 100  # each is looked up, and stands in the manifest
Precision: TypeAlias = Literal["float32", "bfloat16"]


@settings
class PretrainBaseModelSettings:
    """A small instruct model trained from scratch on general texts and chats; what a demo or a test stands on.

    `texts` is JSON Lines of {"text": ...}, `chats` of {"messages": [{"role": ..., "content": ...}, ...]}.
    """

    kind: Literal["pretrain"]
    architecture: Literal["qwen2", "mistral"]
    texts: str = setting(location=True)
    chats: str = setting(location=True)
    vocabulary_size: int = setting(4000, at_least=300)
    hidden_size: int = setting(128, at_least=8)
    intermediate_size: int = setting(384, at_least=8)
    layers: int = setting(2, at_least=1)
    heads: int = setting(4, at_least=1)
    kv_heads: int = setting(2, at_least=1)
    tie_embeddings: bool = True
    sequence_length: int = setting(128, at_least=8)
    steps: int = setting(800, at_least=1)
    batch_size: int = setting(4, at_least=1)
    learning_rate: float = setting(6e-3, above=0, at_most=1)
    warmup_steps: int = setting(40, at_least=0)
    weight_decay: float = setting(0.1, at_least=0)
    checkpoint_every: int = setting(100, at_least=1)
    seed: int = setting(1, at_least=0)

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size is {self.hidden_size}; allowed: a multiple of 2 * heads ({2 * self.heads})")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads is {self.heads}; allowed: a multiple of kv_heads ({self.kv_heads})")

    def sources(self) -> dict[str, str]:
        """Return the files this model is made from, by name."""
        return {"texts": self.texts, "chats": self.chats}


BaseModelSettings: TypeAlias = PretrainBaseModelSettings | ExistingModelSettings


@settings
class GeneralDocumentsSettings:
    """General documents beside the corpus: what the base model must not forget.

    `files` are parquet (columns `id`, `text`) or JSON Lines ({"text": ...}), paths or URLs with wildcards. Their first documents are
    held out, as many tokens as of the corpus; the next are replayed until they make `replay_share` of the tokens that are trained on.
    A document whose id the corpus has is passed over.
    """

    files: list[str] = setting(location=True)
    replay_share: float = setting(default=0.0, at_least=0, at_most=0.9)

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files is empty; allowed: at least one path or URL, or no `general` at all")

    def sources(self) -> dict[str, str]:
        """Return the files that the patterns stand for, by name, in their order.

        Raise UserError where a pattern finds none, where a file has another format, or where there are more than MOST_GENERAL_FILES.
        """
        from definemed_pipeline.artifacts.sources import matches
        from definemed_pipeline.training.documents import refuse_unknown_format

        locations = list(dict.fromkeys(found for pattern in self.files for found in matches(pattern, key=GENERAL_KEY)))
        if len(locations) > MOST_GENERAL_FILES:
            raise UserError(f"{GENERAL_KEY} stand for {len(locations):,} files; allowed: {MOST_GENERAL_FILES}; name fewer")
        for location in locations:
            refuse_unknown_format(location)
        return {f"general/{number:04}/{PurePath(one).name}": one for number, one in enumerate(locations)}


@settings
class CptCorpusSettings:
    """How the corpus is cut into training blocks.

    `held_out_share` of its documents is never trained on and gives the held-out perplexity. `general` adds documents of general language:
    held-out ones, by which forgetting is seen, and replayed ones, against it.
    """

    sequence_length: int = setting(default=4096, at_least=8)
    held_out_share: float = setting(default=0.001, at_least=0, at_most=0.5)
    general: GeneralDocumentsSettings | None = None
    seed: int = setting(default=1, at_least=0)

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "CptCorpusSettings":
        """Build the section from plain JSON values."""
        general = section.get("general")
        return cls(**{**section, "general": GeneralDocumentsSettings(**general) if general else None})

    def sources(self) -> dict[str, str]:
        """Return the files of general documents, by name; raise UserError where they cannot be listed."""
        return self.general.sources() if self.general is not None else {}


@settings
class LoraSettings:
    """Low-rank adapters are trained beside frozen weights (Hu et al. 2021) and merged into them at the end.

    The learning rate wants to be about ten times that of full training.
    """

    rank: int = setting(default=64, at_least=1)
    alpha: float = setting(default=128, above=0)
    dropout: float = setting(default=0.0, at_least=0, at_most=0.9)


@settings
class CptCheckpointsSettings:
    """How a base model is continually pre-trained: next-token loss, AdamW, linear decay after a warm-up.

    One optimiser step takes `global_batch_size` blocks, on however many devices. `precision` is that of the forward and backward pass; master
    weights and moments stay float32. A larger `adam_epsilon` keeps weights with next to no gradient (the turn tokens of a chat template, which
    a corpus never uses) from moving at full speed, so that a merge finds them where the base left them. Held-out perplexity is taken before,
    after and every `evaluate_every` steps, on at most `evaluation_blocks` blocks of each held-out set. `keep` says which weights become the
    checkpoint: the last, or those with the best held-out perplexity of the corpus. Training stops as diverged when the mean loss of 20 steps
    exceeds the lowest such mean by `divergence` nats. Every weight is trained, or with `lora` adapters beside them.
    """

    epochs: int = setting(default=2, at_least=1)
    learning_rate: float = setting(default=2e-5, above=0, at_most=1)
    warmup_steps: int = setting(default=500, at_least=0)
    global_batch_size: int = setting(default=64, at_least=1)
    weight_decay: float = setting(default=0.0, at_least=0)
    adam_beta1: float = setting(default=0.9, at_least=0, at_most=1)
    adam_beta2: float = setting(default=0.999, at_least=0, at_most=1)
    adam_epsilon: float = setting(default=1e-8, above=0)
    max_grad_norm: float = setting(default=1.0, above=0)
    precision: Precision = "bfloat16"
    evaluate_every: int = setting(default=500, at_least=1)
    evaluation_blocks: int = setting(default=256, at_least=1)
    keep: Literal["last", "best"] = "last"
    divergence: float = setting(default=2.0, above=0)
    lora: LoraSettings | None = None
    seed: int = setting(default=1, at_least=0)

    @classmethod
    def parse(cls, section: Mapping[str, Any]) -> "CptCheckpointsSettings":
        """Build the section from plain JSON values."""
        lora = section.get("lora")
        return cls(**{**section, "lora": LoraSettings(**lora) if lora else None})


@settings
class TrainingExecutionSettings:
    """How a training payload uses the machine it runs on: recipe section `compute.training`, never part of an artifact's version.

    `processes` train together on each node, one a GPU (default: as many as there are GPUs, or one). Each takes `micro_batch_size` blocks at a
    time. What is not said here is chosen for the device, logged and recorded with the checkpoint. A checkpoint is saved every `checkpoint_every`
    steps and on SIGTERM; the last `kept_checkpoints` are kept, and the best.
    """

    processes: int | None = setting(default=None, at_least=1)
    micro_batch_size: int = setting(default=1, at_least=1)
    activation_checkpointing: Literal["full", "selective", "none"] = "full"
    attention: Literal["flash_attention_3", "flash_attention_2", "flex_attention", "sdpa", "eager"] | None = None
    compile: bool | None = None
    fused_loss: bool | None = None
    checkpoint_every: int = setting(default=500, at_least=1)
    kept_checkpoints: int = setting(default=2, at_least=1)

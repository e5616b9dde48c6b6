"""The recipe's sections for base models, packing and continual pre-training. Standard library only, as in all settings."""

from typing import Literal, TypeAlias

from definemed_pipeline.settings import setting, settings

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


@settings
class HubBaseModelSettings:
    """An instruct model of the Hugging Face Hub. `revision` is a whole commit hash: a branch or tag may move."""

    kind: Literal["hub"]
    repository: str
    revision: str

    def __post_init__(self) -> None:
        if len(self.revision) != 40 or set(self.revision) - set("0123456789abcdef"):
            raise ValueError(f"revision is {self.revision!r}; allowed: a commit hash of 40 hexadecimal digits")

    def sources(self) -> dict[str, str]:
        """Return nothing: the revision names the bytes."""
        return {}


@settings
class FolderBaseModelSettings:
    """An instruct model in a folder (path or URL) laid out as `save_pretrained` does."""

    kind: Literal["folder"]
    path: str = setting(location=True)

    def sources(self) -> dict[str, str]:
        """Return the files of the model in that folder, by name; raise UserError where there are none."""
        from definemed_pipeline.model_folder import list_model_files

        return list_model_files(self.path)


BaseModelSettings: TypeAlias = PretrainBaseModelSettings | HubBaseModelSettings | FolderBaseModelSettings


@settings
class CptCorpusSettings:
    """How the corpus is cut into training blocks."""

    sequence_length: int = setting(4096, at_least=8)


@settings
class CptCheckpointsSettings:
    """How a base model is continually pre-trained: next-token loss, AdamW, linear decay after a warm-up.

    One optimiser step takes `batch_size * gradient_accumulation` blocks. `precision` is that of the forward and backward pass; master
    weights and moments stay float32. A larger `adam_epsilon` keeps weights with next to no gradient (the turn tokens of a chat template, which
    a corpus never uses) from moving at full speed, so that a merge finds them where the base left them. `held_out_share` of the blocks is never trained on and gives the perplexity before and after.
    """

    epochs: int = setting(2, at_least=1)
    learning_rate: float = setting(2e-5, above=0, at_most=1)
    warmup_steps: int = setting(500, at_least=0)
    batch_size: int = setting(1, at_least=1)
    gradient_accumulation: int = setting(1, at_least=1)
    weight_decay: float = setting(0.0, at_least=0)
    adam_beta1: float = setting(0.9, at_least=0, at_most=1)
    adam_beta2: float = setting(0.999, at_least=0, at_most=1)
    adam_epsilon: float = setting(1e-8, above=0)
    max_grad_norm: float = setting(1.0, above=0)
    precision: Precision = "bfloat16"
    activation_checkpointing: bool = True
    checkpoint_every: int = setting(500, at_least=1)
    held_out_share: float = setting(0.01, at_least=0, at_most=0.5)
    seed: int = setting(1, at_least=0)

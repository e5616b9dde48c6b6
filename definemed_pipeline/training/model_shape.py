"""The shape of a dense decoder, read from its config: what decides parameters, FLOPs and memory. Standard library only.

Known are the architectures that differ in sizes and biases alone: token embedding, layers of grouped-query attention (Ainslie et al. 2023) and a
gated feed-forward (SwiGLU, Shazeer 2020), RMSNorm before each and at the end, and a head with a matrix of its own or the embedding's.
The configs of some published models come with the package (`shapes/`), so that they can be planned for before they are downloaded.
"""

import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from definemed_pipeline.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PACKAGED = importlib.resources.files("definemed_pipeline.training") / "shapes"
ARCHITECTURES = ("llama", "mistral", "qwen2")
SIZES = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "vocabulary_size": "vocab_size",
}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a dense decoder, and the parameters that follow from them.

    The biases are those of query, key and value (`qkv_bias`), of the attention's output and of the feed-forward.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary_size: int
    tied_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False

    @property
    def query_size(self) -> int:
        """Return the width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Return the width of all key heads together, which is that of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Return (inputs, outputs) of the matrices of one layer: query, key, value, attention's output, gate, up, down."""
        hidden, inner = self.hidden_size, self.intermediate_size
        attention = ((hidden, self.query_size), (hidden, self.kv_size), (hidden, self.kv_size), (self.query_size, hidden))
        return (*attention, (hidden, inner), (hidden, inner), (inner, hidden))

    @property
    def layer_matrix_parameters(self) -> int:
        """Return the weights of one layer that are multiplied with every token."""
        return sum(inputs * outputs for inputs, outputs in self.matrices)

    @property
    def layer_parameters(self) -> int:
        """Return the weights of one layer: matrices, biases and its two norms."""
        biases = (
            self.qkv_bias * (self.query_size + 2 * self.kv_size)
            + self.output_bias * self.hidden_size
            + self.feed_forward_bias * (2 * self.intermediate_size + self.hidden_size)
        )
        return self.layer_matrix_parameters + biases + 2 * self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Return the weights of the token embedding, which are looked up and not multiplied."""
        return self.vocabulary_size * self.hidden_size

    @property
    def root_parameters(self) -> int:
        """Return the weights outside the layers: embedding, last norm, and the head's matrix where it is one of its own."""
        return self.embedding_parameters * (1 if self.tied_embeddings else 2) + self.hidden_size

    @property
    def parameters(self) -> int:
        """Return all weights; tied ones count once."""
        return self.layers * self.layer_parameters + self.root_parameters

    @property
    def matrix_parameters(self) -> int:
        """Return the weights that are multiplied with every token: the layers' matrices and the head, tied or not."""
        return self.layers * self.layer_matrix_parameters + self.embedding_parameters

    def adapter_parameters(self, rank: int) -> int:
        """Return the weights of low-rank adapters beside every matrix of the layers (Hu et al. 2021); the head has none."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.matrices)


def read_shape(config: Mapping[str, Any], *, origin: str) -> ModelShape:
    """Read a model's shape from the content of its config.json; raise UserError naming `origin` where it is not of a known architecture."""
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"{origin}: model_type is {architecture!r}; parameters, FLOPs and memory are known for {known} only")
    if missing := sorted(key for key in SIZES.values() if not isinstance(config.get(key), int)):
        raise UserError(f"{origin}: config.json lacks {', '.join(missing)}; complete the copy of the model")
    sizes = {name: int(config[key]) for name, key in SIZES.items()}
    has_attention_bias = architecture == "llama" and bool(config.get("attention_bias"))
    return ModelShape(
        **sizes,
        kv_heads=config.get("num_key_value_heads") or sizes["heads"],
        head_dim=config.get("head_dim") or sizes["hidden_size"] // sizes["heads"],
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=architecture == "qwen2" or has_attention_bias,
        output_bias=has_attention_bias,
        feed_forward_bias=architecture == "llama" and bool(config.get("mlp_bias")),
    )


def shape_named(name: str) -> ModelShape:
    """Return the shape of a packaged model such as "qwen2.5-7b"; raise UserError naming those there are."""
    return read_shape(_packaged(name)["config"], origin=name)


def config_named(name: str) -> "PreTrainedConfig":
    """Return the config of a packaged model for transformers; raise UserError naming those there are."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**_packaged(name)["config"])


def packaged_config(repository: str) -> Mapping[str, Any] | None:
    """Return the content of config.json of a Hub repository whose shape is packaged, or None."""
    return next((model["config"] for model in _all_packaged().values() if repository in model["repositories"]), None)


def packaged_repositories() -> list[str]:
    """Return the Hub repositories whose shapes are packaged."""
    return [repository for model in _all_packaged().values() for repository in model["repositories"]]


def packaged_names() -> list[str]:
    """Return the names of the packaged models."""
    return list(_all_packaged())


def _packaged(name: str) -> Mapping[str, Any]:
    if name not in _all_packaged():
        raise UserError(f"there is no packaged model {name!r}; allowed: {', '.join(packaged_names())}")
    return _all_packaged()[name]


@functools.cache
def _all_packaged() -> dict[str, dict[str, Any]]:
    files = sorted((file for file in PACKAGED.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return {file.name.removesuffix(".json"): json.loads(file.read_text("utf-8")) for file in files}

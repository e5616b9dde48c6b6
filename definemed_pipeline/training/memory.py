"""The memory a training needs on each GPU, from the model's shape and from how it is trained. Standard library only.

Bytes, with P weights on N processes. Everything that is trained is kept in float32, whatever it is computed in:

    weights         4 P / N; frozen ones, beside adapters, in the precision that is computed in
    gradients       4 P / N, of what is trained
    moments         8 P / N, Adam's two, of what is trained. Adapters are whole on every process
    compute copies  one process: autocast casts each matrix to bf16, 2 for each of its weights, and keeps it until the forward pass is over, or,
                    where nothing is computed again, the backward pass. Several (FSDP2): the head and two layers, the one that computes
                    and the next, gathered in the precision that is computed in
    activations     what the forward pass leaves for the backward pass (below)
    working memory  the largest of: the loss, with the gradient of the head as it is computed, reduced and added; with recomputation, the
                    logits beside autocast's copies, or one layer's activations and its largest gradient

Activations of one token in one layer, for e bytes a number (2 in bf16), hidden size h, query size q, key and value size k, intermediate size i,
a heads and sequences of s tokens. It is Korthikanti et al. 2022 (arXiv 2205.05198, section 4) for a gated feed-forward, RMSNorm in float32,
grouped queries and no dropout:

    norms           16 h in bf16, 24 h in float32; 26 h under autocast, whose residual stream is float32 and which casts every matrix' input anew
    attention       e (2 q + 2 k) + 4 a with flash or flex attention; sdpa repeats keys and values and keeps a mask, e (4 q + s) + 4 a;
                    eager keeps its scores, 4 e q + (4 or, in bf16, 6) a s
    feed-forward    4 e i
    norms' scales   8

Activation checkpointing "none" keeps all of it. "full" keeps each layer's input, r h, where r is 4 where the residual stream is float32 and 2 in bf16.
"selective" also keeps the results of the matrix products and of attention, e (2 q + 2 k + 2 h + 2 i) + 4 a.

The loss has float32 log-probabilities, and two gradients of that size at the beginning of the backward pass: 12 bytes for each token and entry of the
vocabulary. The forward pass has the logits, as computed and in float32, and the log-probabilities, e + 8. The fused loss has them for FUSED_ROWS
tokens at a time. An evaluation has the logits of one sequence, fused or not, and no gradients.

Left out are the device's context, communication buffers and what the allocator cannot use, for which `planning` sets a share aside, and what
adapters keep of their inputs. Compiled layers keep less than this.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from definemed_pipeline.training.flops import ActivationCheckpointing
from definemed_pipeline.training.model_shape import ModelShape
from definemed_pipeline.training.settings import Precision

AttentionMemory: TypeAlias = Literal["linear", "sdpa", "eager"]
FLOAT32, BFLOAT16 = 4, 2
LOSS_BYTES = 12  # of a token and an entry of the vocabulary
FUSED_ROWS = 1024  # tokens whose logits the fused loss holds at once: enough for a matrix product to run at full speed


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a training lies on its processes. `attention` says how its memory grows: "linear" is that of flash and flex attention."""

    micro_batch_size: int
    sequence_length: int
    processes: int = 1
    precision: Precision = "bfloat16"
    activation_checkpointing: ActivationCheckpointing = "full"
    attention: AttentionMemory = "linear"
    fused_loss: bool = True
    adapter_rank: int | None = None

    @property
    def tokens(self) -> int:
        """Return the tokens that a process holds at once."""
        return self.micro_batch_size * self.sequence_length

    @property
    def number_bytes(self) -> int:
        """Return the bytes of a number that is computed with."""
        return BFLOAT16 if self.precision == "bfloat16" else FLOAT32

    @property
    def is_autocast(self) -> bool:
        """Say whether float32 weights are cast as they are used, which leaves the residual stream in float32."""
        return self.precision == "bfloat16" and self.processes == 1 and self.adapter_rank is None

    @property
    def residual_bytes(self) -> int:
        """Return the bytes of a number of the residual stream."""
        return FLOAT32 if self.is_autocast else self.number_bytes


@dataclass(frozen=True, kw_only=True)
class MemoryPerGpu:
    """The parts of the memory a process needs, in bytes. `evaluation` takes the place of gradients, activations and working memory."""

    weights: float
    gradients: float
    moments: float
    compute_copies: float
    activations: float
    working_memory: float
    evaluation: float

    @property
    def at_peak(self) -> Mapping[str, float]:
        """Return what is there when most is needed, by name."""
        parts = dataclasses.asdict(self)
        evaluation = parts.pop("evaluation")
        passing = {name: parts[name] for name in ("gradients", "activations", "working_memory")}
        if evaluation <= sum(passing.values()):
            return parts
        return {name: size for name, size in parts.items() if name not in passing} | {"evaluation": evaluation}

    @property
    def total(self) -> float:
        """Return the most that is needed at a time."""
        return sum(self.at_peak.values())


def memory_per_gpu(shape: ModelShape, layout: Layout) -> MemoryPerGpu:
    """Return the memory that each process of a training needs (see the module for the arithmetic)."""
    adapters = shape.adapter_parameters(layout.adapter_rank) if layout.adapter_rank is not None else 0
    frozen = shape.parameters if adapters else 0
    trained = float(adapters) if adapters else shape.parameters / layout.processes
    return MemoryPerGpu(
        weights=FLOAT32 * trained + layout.number_bytes * frozen / layout.processes,
        gradients=FLOAT32 * trained,
        moments=2 * FLOAT32 * trained,
        compute_copies=_compute_copies(shape, layout),
        activations=_kept_activations(shape, layout),
        working_memory=_working_memory(shape, layout),
        evaluation=_passing_copies(shape, layout) + _logits(shape, layout, layout.sequence_length),
    )


def layer_activations(shape: ModelShape, layout: Layout) -> int:
    """Return the bytes that one layer keeps of one token where nothing is computed again."""
    of_norms = 26 if layout.is_autocast else 16 if layout.precision == "bfloat16" else 24
    scales = 2 * FLOAT32
    feed_forward = 4 * layout.number_bytes * shape.intermediate_size
    return of_norms * shape.hidden_size + _attention_activations(shape, layout) + feed_forward + scales


def _attention_activations(shape: ModelShape, layout: Layout) -> int:
    number, length = layout.number_bytes, layout.sequence_length
    match layout.attention:
        case "linear":
            return number * (2 * shape.query_size + 2 * shape.kv_size) + FLOAT32 * shape.heads
        case "sdpa":
            return number * (4 * shape.query_size + length) + FLOAT32 * shape.heads
        case "eager":
            scores = FLOAT32 if layout.precision == "float32" else FLOAT32 + BFLOAT16
            return 4 * number * shape.query_size + scores * shape.heads * length


def _kept_activations(shape: ModelShape, layout: Layout) -> float:
    """Return the bytes that the forward pass of all layers leaves."""
    match layout.activation_checkpointing:
        case "none":
            kept = layer_activations(shape, layout)
        case "full":
            kept = layout.residual_bytes * shape.hidden_size
        case "selective":
            products = 2 * (shape.query_size + shape.kv_size + shape.hidden_size + shape.intermediate_size)
            kept = layout.residual_bytes * shape.hidden_size + layout.number_bytes * products + FLOAT32 * shape.heads
    return kept * shape.layers * layout.tokens


def _compute_copies(shape: ModelShape, layout: Layout) -> float:
    if layout.processes > 1:
        return layout.number_bytes * (shape.embedding_parameters + 2 * shape.layer_parameters)
    if not layout.is_autocast:
        return 0
    return BFLOAT16 * shape.matrix_parameters - _passing_copies(shape, layout)


def _passing_copies(shape: ModelShape, layout: Layout) -> float:
    """Return the bytes of the copies that autocast drops when the forward pass is over: those of layers that are computed again."""
    is_passing = layout.is_autocast and layout.activation_checkpointing != "none"
    return BFLOAT16 * shape.layers * shape.layer_matrix_parameters if is_passing else 0


def _logits(shape: ModelShape, layout: Layout, tokens: int) -> float:
    """Return the bytes that the loss has at the end of the forward pass."""
    return (layout.number_bytes + 2 * FLOAT32) * shape.vocabulary_size * tokens


def _working_memory(shape: ModelShape, layout: Layout) -> float:
    """Return the bytes of what is there for a short time only, at the moment when it is most."""
    head_gradient = _gradient_in_flight(layout) * shape.embedding_parameters
    tokens = min(FUSED_ROWS, layout.tokens) if layout.fused_loss else layout.tokens
    loss = LOSS_BYTES * shape.vocabulary_size * tokens
    if layout.fused_loss:
        loss += head_gradient
    else:
        loss = max(loss, layout.number_bytes * shape.vocabulary_size * tokens + head_gradient)
    if layout.activation_checkpointing == "none":
        return loss
    largest = shape.layer_parameters if layout.processes > 1 else shape.intermediate_size * shape.hidden_size
    layer = layer_activations(shape, layout) * layout.tokens + _gradient_in_flight(layout) * largest
    return max(loss, layer, _passing_copies(shape, layout) + _logits(shape, layout, tokens))


def _gradient_in_flight(layout: Layout) -> int:
    """Return the bytes of a weight's gradient between its computation and its sum: as computed, and in float32 where that is a copy."""
    if layout.adapter_rank is not None:
        return 0
    is_copied = layout.precision == "bfloat16" or layout.processes > 1
    return layout.number_bytes + FLOAT32 * is_copied

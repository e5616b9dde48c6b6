"""The floating-point operations of training, and how much of a GPU's peak they use. Standard library only.

A token costs in the forward pass

    2 FLOPs for every weight it is multiplied with: the layers' matrices and the head (Kaplan et al. 2020, section 2.1), and
    4 * attended * query size in every layer: a product with the keys and one with the values of the tokens it attends to.

The backward pass costs twice that: the gradient of the inputs and that of the weights. So it is 6 N + 12 * layers * query size * attended
for each token, the formula of Chowdhery et al. 2022 (PaLM, appendix B), with these differences:

- N leaves out the embedding, which is looked up, and counts the head also where it shares the embedding's matrix.
- `attended` is the mean number of tokens that a token attends to, itself included, in the documents that are trained on: (n + 1) / 2 in one of
  n tokens. PaLM counts the whole sequence, twice what causal attention needs, and knows no document bounds inside of it.
- Frozen weights have no gradient: beside adapters (Hu et al. 2021) they cost 4 FLOPs and not 6.

Left out, as everywhere: norms, activations, rotary embedding, softmax, loss and optimiser, which are no matrix products. Also left out: with
adapters the first layer's inputs need no gradient, and sliding windows, which matter for documents longer than the window only.

Model FLOPs utilisation (MFU) counts these; what activation checkpointing computes a second time is no progress and counts only in the
hardware's (HFU).
"""

from typing import Literal, TypeAlias

from definemed_pipeline.training.model_shape import ModelShape

ActivationCheckpointing: TypeAlias = Literal["full", "selective", "none"]


def training_flops_per_token(shape: ModelShape, *, attended_length: float, adapter_rank: int | None = None) -> float:
    """Return the model FLOPs of a token's forward and backward pass; with `adapter_rank` only adapters of that rank are trained."""
    attention = 3 * _attention_flops_per_token(shape, attended_length)
    if adapter_rank is None:
        return 6 * shape.matrix_parameters + attention
    return 4 * shape.matrix_parameters + 6 * shape.adapter_parameters(adapter_rank) + attention


def recomputed_flops_per_token(
    shape: ModelShape,
    *,
    attended_length: float,
    activation_checkpointing: ActivationCheckpointing,
) -> float:
    """Return the FLOPs of a token that activation checkpointing computes a second time.

    "full" repeats the forward pass of every layer but for its last product, whose result nothing needs; "selective" keeps the results of all
    matrix products and repeats none. What adapters add to it is left out.
    """
    if activation_checkpointing != "full":
        return 0.0
    needed = shape.layer_matrix_parameters - shape.intermediate_size * shape.hidden_size
    return 2 * shape.layers * needed + _attention_flops_per_token(shape, attended_length)


def model_flops_utilisation(tokens_per_s: float, *, flops_per_token: float, peak_flops_per_s: float) -> float:
    """Return the share of the peak that a rate of training uses; rate and peak are both of one GPU, or both of all GPUs."""
    return tokens_per_s * flops_per_token / peak_flops_per_s


def _attention_flops_per_token(shape: ModelShape, attended_length: float) -> float:
    return 4 * attended_length * shape.query_size * shape.layers

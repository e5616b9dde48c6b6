"""Cross-entropy straight from the last hidden states, without the logits of all tokens in memory at once.

A vocabulary of 150,000 makes the logits of one block, and their gradient, larger than every other activation. Here they exist for some
rows at a time. The loss is transformers' own: the sum over the labels that are not left out, in float32, divided by `num_items_in_batch`
where the Trainer counted them over accumulated batches and devices, else by their number.

PyTorch's `linear_cross_entropy` returns a bfloat16 loss for bfloat16 states (4096 for 4139, in 2.13), so it is not used.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from definemed_pipeline.training.blocks import IGNORED
from definemed_pipeline.training.memory import FUSED_ROWS

Kernel: TypeAlias = Literal["liger_kernel", "chunked"]


def fuse_loss(model: PreTrainedModel, kernel: Kernel) -> None:
    """Let a model compute its training loss without whole logits; in evaluation mode it goes on as before.

    The output layer passes the hidden states on, and the loss multiplies them with its weight. It is still called as a module, so that
    FSDP gathers its weight in time.
    """
    head, summed = model.get_output_embeddings(), KERNELS[kernel]
    assert getattr(head, "bias", None) is None, "no architecture we train has an output layer with a bias"
    project, plain_loss = head.forward, model.loss_function

    def pass_on(hidden_states: Tensor) -> Tensor:
        return hidden_states if head.training else project(hidden_states)

    def loss(logits: Tensor, labels: Tensor, vocab_size: int, num_items_in_batch: Any = None, **kwargs: Any) -> Tensor:
        if not head.training:
            return plain_loss(logits, labels, vocab_size, num_items_in_batch=num_items_in_batch, **kwargs)
        hidden_states, weight = _as_autocast(logits, head.weight)
        following = functional.pad(labels, (0, 1), value=IGNORED)[..., 1:].flatten()
        total = summed(hidden_states.flatten(end_dim=-2), weight, following)
        return total / ((following != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)

    head.forward = pass_on
    model.loss_function = loss


def _as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast as autocast would cast the operands of the matrix product; once, not for every few rows."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def _liger(hidden_states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    summed: Tensor = liger_fused_linear_cross_entropy(
        hidden_states,
        weight,
        labels,
        ignore_index=IGNORED,
        reduction="sum",
        accum_dtype=torch.float32,
        chunk_mem_const=8,  # by default it takes 128 rows at a time where the vocabulary is large, and then waits for memory
    )
    return summed


def _chunked(hidden_states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Return the same from PyTorch alone: the logits of each chunk are computed again in the backward pass."""
    total = torch.zeros((), device=hidden_states.device)
    for rows, wanted in zip(hidden_states.split(FUSED_ROWS), labels.split(FUSED_ROWS), strict=True):
        total = total + checkpoint(_summed, rows, weight, wanted, use_reentrant=False, preserve_rng_state=False)
    return total


def _summed(rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(functional.linear(rows, weight).float(), labels, ignore_index=IGNORED, reduction="sum")


KERNELS: dict[Kernel, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"liger_kernel": _liger, "chunked": _chunked}

"""Flash attention by its definition, to stand in for the kernels of the `flash-attn` package where there is no GPU.

It shows on any machine what transformers gives the kernels, which is where documents leak, and how compiled layers go with them. That the
kernels compute their definition, only a GPU shows. As in the package, the operators are opaque to compilation.
"""

# ruff: noqa: PLR0917 (the package's own signatures)
import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, modeling_flash_attention_utils

Window = tuple[int, int]


def attend_by_definition(model: PreTrainedModel, patch: pytest.MonkeyPatch) -> None:
    """Send a model transformers' way to flash attention, with its definition at the end."""
    process = modeling_flash_attention_utils._lazy_define_process_function(attend_varying_lengths)
    replaced = {
        "_loaded_implementation": "flash_attention_2",
        "_flash_fn": attend_rows,
        "_flash_varlen_fn": attend_varying_lengths,
        "_process_flash_kwargs_fn": process,
    }
    for name, value in replaced.items():
        patch.setattr(modeling_flash_attention_utils, name, value)
    model.config._attn_implementation_internal = "flash_attention_2"  # the public way insists on a GPU


def attend_rows(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), deterministic=False
) -> Tensor:  # fmt: skip
    """Attend within each row, as `flash_attn_func`; q, k, v of (rows, tokens, heads, dimension)."""
    rows, tokens = q.shape[:2]
    bounds = torch.arange(0, rows * tokens + 1, tokens, dtype=torch.int32)
    q, k, v = (values.flatten(end_dim=1) for values in (q, k, v))
    attended = attend_varying_lengths(q, k, v, bounds, bounds, tokens, tokens, dropout_p, softmax_scale, causal, window_size)
    return attended.unflatten(0, (rows, tokens))


def attend_varying_lengths(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), deterministic=False,
) -> Tensor:  # fmt: skip
    """Attend within each segment, as `flash_attn_varlen_func`; q, k, v of (tokens, heads, dimension)."""
    assert causal
    assert dropout_p == 0
    assert max_seqlen_q == max_seqlen_k
    return torch.ops.by_definition.flash_varlen_forward(q, k, v, cu_seqlens_q, max_seqlen_q, softmax_scale, window_size[0])


@torch.library.custom_op("by_definition::flash_varlen_forward", mutates_args=())
def forward(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float, window: int) -> Tensor:
    assert bounds.dtype == torch.int32
    assert (int(bounds[0]), int(bounds[-1])) == (0, len(q))
    assert longest >= int(bounds.diff().max())
    attended = [_merged(p @ _heads(v[segment], len(p))) for segment, p in _weights(q, k, bounds, scale, window)]
    return torch.cat(attended).to(q.dtype)


@torch.library.custom_op("by_definition::flash_varlen_backward", mutates_args=())
def backward(
    upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, scale: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = [torch.empty_like(values) for values in (q, k, v)]
    for segment, p in _weights(q, k, bounds, scale, window):
        d_out, keys, values = (_heads(whole[segment], len(p)) for whole in (upstream, k, v))
        d_p = d_out @ values.mT
        d_scores = p * (d_p - (d_p * p).sum(-1, keepdim=True)) * scale
        of_segment = (d_scores @ keys, d_scores.mT @ _heads(q[segment], len(p)), p.mT @ d_out)
        for gradient, found in zip(gradients, of_segment, strict=True):
            gradient[segment] = _merged(found.unflatten(0, (gradient.shape[1], -1)).sum(1)).to(gradient.dtype)
    return gradients[0], gradients[1], gradients[2]


@forward.register_fake
def _(q, k, v, bounds, longest, scale, window):
    return torch.empty_like(q)


@backward.register_fake
def _(upstream, q, k, v, bounds, scale, window):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _remember(ctx, inputs, output) -> None:
    q, k, v, bounds, _, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(q, k, v, bounds)


def _backward(ctx, upstream):
    found = torch.ops.by_definition.flash_varlen_backward(upstream, *ctx.saved_tensors, ctx.scale, ctx.window)
    return (*found, None, None, None, None)


forward.register_autograd(_backward, setup_context=_remember)


def _weights(q: Tensor, k: Tensor, bounds: Tensor, scale: float, window: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield each segment and its attention weights, (heads, tokens, tokens)."""
    for start, end in pairwise(bounds.tolist()):
        segment = slice(start, end)
        back = torch.arange(end - start)[:, None] - torch.arange(end - start)
        seen = (back >= 0) & (back <= (window if window >= 0 else end))
        queries = _heads(q[segment], q.shape[1])
        scores = queries @ _heads(k[segment], len(queries)).mT * scale
        yield segment, scores.masked_fill(~seen, -math.inf).softmax(-1)


def _heads(values: Tensor, count: int) -> Tensor:
    """Turn (tokens, heads, dimension) to (count, tokens, dimension); keys and values are shared by neighbouring heads."""
    return values.float().transpose(0, 1).repeat_interleave(count // values.shape[1], dim=0)


def _merged(values: Tensor) -> Tensor:
    return values.transpose(0, 1)

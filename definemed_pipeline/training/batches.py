"""How packed blocks become what a model is called with, so that documents never see each other.

Two layouts. As *rows*, (blocks, length): eager, sdpa and flex attention read the documents' bounds from the restarting `position_ids` of
each row. *Flattened*, (1, blocks * length): flash attention knows no mask; transformers 5 lets it see bounds only in a batch of one row
and silently runs over them in several (`_is_packed_sequence`), so the blocks are laid end to end, and the bounds are given as lengths.
Neither holds an attention mask: one of ones only would make transformers take each row for one document.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Batch = dict[str, Any]


def collate(items: Sequence[Batch], *, flattened: bool) -> Batch:
    """Lay blocks of `PackedBlocks` beside or behind each other.

    `input_ids`, `labels` and `position_ids` are int64 in the layout asked for, `blocks` the blocks' numbers. Flattened, there are also the
    bounds of the segments (`cu_seq_lens_q`, `cu_seq_lens_k`: int32, from 0 to the number of tokens) and a bound of their length
    (`max_length_q`, `max_length_k`). The loss predicts nothing across a block's end: each segment's first label is left out.
    """
    arrays = {name: np.stack([item[name] for item in items]) for name in ("input_ids", "labels", "position_ids")}
    if flattened:
        arrays = {name: array.reshape(1, -1) for name, array in arrays.items()}
    batch: Batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if flattened:
        batch |= _bounds(arrays["position_ids"][0], longest=len(items[0]["position_ids"]))
    return {**batch, "blocks": [item["block"] for item in items]}


def _bounds(position_ids: npt.NDArray[np.int64], *, longest: int) -> Batch:
    """Return the bounds as flash attention takes them.

    Without them transformers finds them from the positions, in every layer anew and waiting for the device each time. `longest` only
    bounds the kernel's grid; as a constant it spares compiled layers from being compiled again for each batch.
    """
    bounds = torch.from_numpy(np.append(np.flatnonzero(position_ids == 0), len(position_ids)).astype(np.int32))
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}

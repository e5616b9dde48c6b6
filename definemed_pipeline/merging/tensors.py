"""How far training and merging moved each tensor: angle and relative change, one tensor in memory at a time."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import safe_open

# mergekit's slerp interpolates linearly above this cosine, where the angle is too small to divide by its sine.
LINEAR_ABOVE = 0.9995
SCHEMA = pa.schema(
    [
        ("tensor", pa.string()),
        ("layer", pa.int32()),
        ("module", pa.string()),
        ("parameters", pa.int64()),
        ("cosine", pa.float64()),
        ("relative_change", pa.float64()),
        ("merged_change", pa.float64()),
        ("is_linear_fallback", pa.bool_()),
        ("is_finite", pa.bool_()),
    ]
)
LAYER = re.compile(r"\.layers\.(\d+)\.(\w+)")


class Weights:
    """The stored tensors of a model folder, over all its safetensors files."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            file = safe_open(path, framework="pt")
            self._files.update(dict.fromkeys(file.keys(), file))

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def shape(self, name: str) -> Sequence[int]:
        """Return a tensor's shape without reading it."""
        shape: Sequence[int] = self._files[name].get_slice(name).get_shape()
        return shape

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read one tensor as a flat float32 vector."""
        return self._files[name].get_tensor(name).flatten().float()


def compare_tensors(base: Weights, cpt: Weights, merged: Weights) -> list[dict[str, Any]]:
    """Return a row per tensor of the base, by name.

    `cosine` is that of base and CPT, `relative_change` is |cpt - base| / |base|, `merged_change` the same for the merge.
    """
    return [_compare(name, base[name], cpt[name], merged[name]) for name in base.names]


def _compare(name: str, base: torch.Tensor, cpt: torch.Tensor, merged: torch.Tensor) -> dict[str, Any]:
    layer = LAYER.search(name)
    cosine = _cosine(base, cpt)
    return {
        "tensor": name,
        "layer": int(layer[1]) if layer else None,
        "module": layer[2] if layer else name.split(".")[-2],
        "parameters": base.numel(),
        "cosine": cosine,
        "relative_change": _relative_change(base, cpt),
        "merged_change": _relative_change(base, merged),
        "is_linear_fallback": abs(cosine) > LINEAR_ABOVE,
        "is_finite": bool(torch.isfinite(merged).all()),
    }


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine of two vectors; 0 where one is zero, as mergekit takes it."""
    norms = _norm(one) * _norm(other)
    dot = float((one * other).sum(dtype=torch.float64))
    return max(-1.0, min(1.0, dot / norms)) if norms else 0.0


def _relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return |after - before| / |before|; from a zero tensor every change counts as 1, none as 0."""
    change, norm = _norm(after - before), _norm(before)
    return change / norm if norm else float(change > 0)


def _norm(vector: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))

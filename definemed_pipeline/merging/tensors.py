"""How far training and merging moved each tensor: angles and relative changes, a piece of a tensor in memory at a time.

Angles come from lengths and distances: with unit vectors u and v, |u - v|² = (|a - b|² - (|a| - |b|)²) / (|a| |b|), and the angle is
2 asin(|u - v| / 2). Between a base and its CPT checkpoint it is often below a tenth of a degree, where the cosine has no digits left
to tell it by; a difference of two near numbers is exact (Sterbenz 1974).
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import safe_open

# mergekit's slerp interpolates linearly above this cosine, where the angle is too small to divide by its sine.
LINEAR_ABOVE = 0.9995
PIECE = 1 << 20  # elements
SCHEMA = pa.schema(
    [
        ("tensor", pa.string()),
        ("layer", pa.int32()),
        ("module", pa.string()),
        ("parameters", pa.int64()),
        ("cosine", pa.float64()),
        ("angle_degrees", pa.float64()),
        ("relative_change", pa.float64()),
        ("merged_cosine_to_base", pa.float64()),
        ("merged_cosine_to_cpt", pa.float64()),
        ("merged_change", pa.float64()),
        ("is_nearly_parallel", pa.bool_()),
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

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor row by row as float32 vectors of some PIECE elements, or of one row where a row is longer."""
        shape = self.shape(name)
        if not shape:
            yield self._files[name].get_tensor(name).flatten().float()
            return
        rows = max(1, PIECE // max(1, math.prod(shape[1:])))
        stored = self._files[name].get_slice(name)
        for start in range(0, shape[0], rows):
            yield stored[start : start + rows].flatten().float()


def compare_tensors(base: Weights, cpt: Weights, merged: Weights) -> Iterator[dict[str, Any]]:
    """Yield a row per tensor of the base, by name (see SCHEMA).

    `cosine`, `angle_degrees` and `relative_change` (|cpt - base| / |base|) are of base and CPT; `merged_change` is |merged - base| / |base|.
    """
    for name in base.names:
        yield _compare(name, base, cpt, merged)


def _compare(name: str, base: Weights, cpt: Weights, merged: Weights) -> dict[str, Any]:
    squares = torch.zeros(6, dtype=torch.float64)
    for b, c, m in zip(base.pieces(name), cpt.pieces(name), merged.pieces(name), strict=True):
        squares += torch.stack([_square(part) for part in (b, c, m, c - b, m - b, m - c)])
    of_base, of_cpt, of_merged, base_cpt, base_merged, cpt_merged = squares.sqrt().tolist()
    angle = _angle(of_base, of_cpt, base_cpt)
    layer = LAYER.search(name)
    return {
        "tensor": name,
        "layer": int(layer[1]) if layer else None,
        "module": layer[2] if layer else name.split(".")[-2],
        "parameters": math.prod(base.shape(name)),
        "cosine": math.cos(angle),
        "angle_degrees": math.degrees(angle),
        "relative_change": _relative(base_cpt, of_base),
        "merged_cosine_to_base": math.cos(_angle(of_base, of_merged, base_merged)),
        "merged_cosine_to_cpt": math.cos(_angle(of_cpt, of_merged, cpt_merged)),
        "merged_change": _relative(base_merged, of_base),
        "is_nearly_parallel": abs(math.cos(angle)) > LINEAR_ABOVE,
        "is_finite": math.isfinite(of_merged),
    }


def _square(vector: torch.Tensor) -> torch.Tensor:
    """Return |vector|², summed in double precision."""
    return torch.linalg.vector_norm(vector, dtype=torch.float64).square()


def _angle(one: float, other: float, distance: float) -> float:
    """Return the angle in radians between two vectors of these lengths; a right one where one is zero, as mergekit takes it."""
    if not one * other:
        return math.pi / 2
    chord = (distance**2 - (one - other) ** 2) / (one * other)  # |u - v|² of the unit vectors
    return 2 * math.asin(math.sqrt(min(max(chord, 0.0), 4.0)) / 2)


def _relative(distance: float, length: float) -> float:
    """Return a distance as a share of a length; from a zero tensor every change counts as 1, none as 0."""
    return distance / length if length else float(distance > 0)

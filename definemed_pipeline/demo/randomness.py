"""Choices that follow from a seed alone, the same on every machine and Python version.

Only ``random.Random.random`` is used, whose sequence Python guarantees; ``choice``, ``shuffle`` and ``sample`` of the standard
library may change between versions and stay out of the demo world.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draw from sequences, reproducibly, from a stream named by its parts."""

    def __init__(self, *name: object) -> None:
        self._random = random.Random("/".join(str(part) for part in name)).random

    def fraction(self) -> float:
        """Draw a number in [0, 1)."""
        return self._random()

    def number(self, low: int, high: int) -> int:
        """Draw a whole number between ``low`` and ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Say yes with the given probability."""
        return self._random() < probability

    def choose(self, options: Sequence[T]) -> T:
        """Draw one option."""
        return options[int(self._random() * len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in a random order."""
        order = list(options)
        for last in range(len(order) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            order[last], order[other] = order[other], order[last]
        return order

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Draw ``count`` different options."""
        if count > len(options):
            raise ValueError(f"cannot draw {count} of {len(options)} options")
        return self.shuffled(options)[:count]


def digest(*parts: object) -> str:
    """Return a hexadecimal digest of the parts, for names and identifiers."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()

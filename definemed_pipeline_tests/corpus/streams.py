"""Generators that yield frames and return an accounting, read to their end."""

from collections.abc import Generator

import polars as pl


def drained(stream: Generator[pl.DataFrame, None, dict[str, float]]) -> tuple[list[pl.DataFrame], dict[str, float]]:
    """Return the frames a generator yields and what it returns."""
    frames = []
    while True:
        try:
            frames.append(next(stream))
        except StopIteration as finished:
            return frames, finished.value

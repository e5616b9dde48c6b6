"""How measured numbers are written for people: one place, so that a card, a page and a line of a terminal agree."""

from collections.abc import Callable, Mapping


def _signed(value: float, digits: int) -> str:
    return f"{round(float(value), digits) + 0.0:+.{digits}f}"  # + 0.0: no negative zero


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


STYLES: Mapping[str, Callable[[float], str]] = {
    "percent": lambda value: f"{100 * value:.1f}",
    "whole_percent": lambda value: f"{100 * value:.0f}",
    "published": lambda value: f"{100 * value:.2f}",
    "points": lambda value: _signed(100 * value, 1),
    "count": lambda value: f"{value:,.0f}",
    "ratio": lambda value: f"{value:.2f}",
    "signed_ratio": lambda value: _signed(value, 2),
    "words": lambda value: f"{value:.0f}",
    "signed_words": lambda value: _signed(value, 1),
    "p": _p,
}


def write_number(value: float, style: str) -> str:
    """Return a number as text: shares in percent (published ones as exactly as they were) or in percentage points with sign, counts, ratios and words, p-values."""
    return STYLES[style](value)

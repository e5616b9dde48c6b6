"""Charts as SVG: pure functions from numbers to markup. Colours are classes of the page's style sheet, so that they follow its theme.

A chart says in words what it shows (`aria-label`); its numbers stand in a table beside it, and each mark carries where they come from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from definemed_pipeline.evaluation.report.marking import Marks
from definemed_pipeline.evaluation.report.measures import Range

WIDTH, HEIGHT = 340.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 14.0, 28.0, 40.0
TICKS = 5
LABEL_WIDTH = 6.4  # of a character, about


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from `low` to `high`, in shares; ticks are written in percent."""

    title: str
    low: float = 0.0
    high: float = 1.0

    def ticks(self) -> list[float]:
        """Return round values between the ends, about `TICKS` of them."""
        step = _round_step((self.high - self.low) / TICKS)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point with its name and the class that colours it."""

    x: Range
    y: Range
    style: str
    label: str = ""


def axis_around(title: str, ranges: Sequence[Range]) -> Axis:
    """Return an axis over all intervals, a little wider and no wider than 0 to 1."""
    low, high = min(one.ends()[0] for one in ranges), max(one.ends()[1] for one in ranges)
    step = _round_step(max(high - low, 0.05) / TICKS)
    return Axis(
        title=title,
        low=float(max(0.0, math.floor(low / step + 1e-9) * step)),
        high=float(min(1.0, math.ceil(high / step - 1e-9) * step)),
    )


def scatter(
    points: Sequence[Point], *, x_axis: Axis, y_axis: Axis, description: str, marks: Marks, joined: Sequence[Point] = ()
) -> Markup:
    """Draw points with their intervals, and a line through `joined`."""
    scale = _Scale(x_axis, y_axis)
    body = [*_frame(scale), _line(scale, joined), *(_point(scale, point, marks) for point in points)]
    body += [_label(scale, point) for point in points if point.label]
    return Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, description, Markup("").join(body)
    )


@dataclass(frozen=True)
class _Scale:
    x_axis: Axis
    y_axis: Axis

    def x(self, value: float) -> str:
        return f"{self.place(value, self.x_axis, LEFT, WIDTH - RIGHT):.1f}"

    def y(self, value: float) -> str:
        return f"{self.place(value, self.y_axis, HEIGHT - BOTTOM, TOP):.1f}"

    @staticmethod
    def place(value: float, axis: Axis, start: float, end: float) -> float:
        return start + (end - start) * (float(value) - axis.low) / (axis.high - axis.low)


def _frame(scale: _Scale) -> list[Markup]:
    """Draw the ticks as light lines with their numbers, and the titles of the axes."""
    lines = []
    for tick in scale.x_axis.ticks():
        lines.append(
            Markup(
                '<path class="grid" d="M{0} {1:g}V{2:g}"/><text class="axis" x="{0}" y="{3:g}" text-anchor="middle">{4}</text>'
            ).format(scale.x(tick), TOP, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 15, f"{100 * tick:g}")
        )
    for tick in scale.y_axis.ticks():
        lines.append(
            Markup(
                '<path class="grid" d="M{1:g} {0}H{2:g}"/><text class="axis" x="{3:g}" y="{0}" dy=".32em" text-anchor="end">{4}</text>'
            ).format(scale.y(tick), LEFT, WIDTH - RIGHT, LEFT - 6, f"{100 * tick:g}")
        )
    titles = Markup(
        '<text class="title" x="{:g}" y="{:g}" text-anchor="end">{} →</text><text class="title" x="0" y="{:g}">↑ {}</text>'
    ).format(WIDTH - RIGHT, HEIGHT - 6, scale.x_axis.title, TOP - 14, scale.y_axis.title)
    return [*lines, titles]


def _line(scale: _Scale, joined: Sequence[Point]) -> Markup:
    if len(joined) < 2:
        return Markup("")
    places = " L".join(f"{scale.x(point.x.value)} {scale.y(point.y.value)}" for point in joined)
    return Markup('<path class="joined" d="M{}"/>').format(places)


def _point(scale: _Scale, point: Point, marks: Marks) -> Markup:
    """Draw a cross of two intervals with a dot; the arms carry where the two numbers come from."""
    (left, right), (low, high) = point.x.ends(), point.y.ends()
    x, y = scale.x(point.x.value), scale.y(point.y.value)
    return Markup(
        '<g class="point {}"><path class="arm" d="M{} {}H{}" {}/><path class="arm" d="M{} {}V{}" {}/><circle cx="{}" cy="{}" r="4.5"/></g>'
    ).format(
        point.style,
        scale.x(left), y, scale.x(right), marks.attributes(point.x.value, "percent"),
        x, scale.y(low), scale.y(high), marks.attributes(point.y.value, "percent"),
        x, y,
    )  # fmt: skip


def _label(scale: _Scale, point: Point) -> Markup:
    """Write a point's name beside it, on the side that has room."""
    x, y = float(scale.x(point.x.value)), float(scale.y(point.y.value))
    is_left = x + 9 + LABEL_WIDTH * len(point.label) > WIDTH - 2
    above = y - 7 if y > TOP + 16 else y + 16
    return Markup('<text class="name {}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        point.style, x - 7 if is_left else x + 7, above, "end" if is_left else "start", point.label
    )


def _round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large as asked."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))

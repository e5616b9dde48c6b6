import pytest

from definemed_pipeline.evaluation.styles import STYLES, write_number


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.8527, "percent", "85.3"),
        (0.8527, "whole_percent", "85"),
        (0.6491, "published", "64.91"),
        (0.583, "points", "+58.3"),
        (-0.00001, "points", "+0.0"),
        (3266, "count", "3,266"),
        (1.904, "ratio", "1.90"),
        (-0.004, "signed_ratio", "+0.00"),
        (127.6, "words", "128"),
        (-3.25, "signed_words", "-3.2"),
        (0.0004, "p", "< 0.001"),
        (0.0312, "p", "0.031"),
    ],
)
def test_a_number_is_written_in_its_style(value: float, style: str, text: str) -> None:
    assert write_number(value, style) == text


def test_every_style_is_tried_above() -> None:
    (parametrized,) = test_a_number_is_written_in_its_style.pytestmark  # type: ignore[attr-defined]
    assert {style for _, style, _ in parametrized.args[1]} == set(STYLES)

"""Measured values with their intervals as the tables and charts of the page take them, read from rows of artifacts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.report.tracing import Traced

P_VALUES = ("mcnemar_p_holm", "mcnemar_p")
STAGE_NAMES = {"base": "base", "cpt": "CPT", "merged": "merged"}


@dataclass(frozen=True, kw_only=True)
class Range:
    """A measured value. `low` and `high` are None where no interval was measured, `p` where nothing was tested."""

    value: Traced
    low: Traced | None = None
    high: Traced | None = None
    p: Traced | None = None

    def ends(self) -> tuple[float, float]:
        """Return the ends of the interval, or twice the value."""
        return (self.value if self.low is None else self.low), (self.value if self.high is None else self.high)

    def complement(self) -> "Range":
        """Return the share of what is left: of failures, the successes."""
        low, high = (None if end is None else 1 - end for end in (self.low, self.high))
        return Range(value=1 - self.value, low=high, high=low)


def range_of(row: Mapping[str, Any], name: str, *, low: str = "", high: str = "") -> Range:
    """Read a measure of a row; its interval is named after it unless said otherwise, and its p-value is the corrected one where there is one."""
    return Range(
        value=row[name],
        low=row.get(low or f"{name}_low"),
        high=row.get(high or f"{name}_high"),
        p=next((row[test] for test in P_VALUES if test in row), None),
    )

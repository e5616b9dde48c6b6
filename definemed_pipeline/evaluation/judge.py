"""The reference judge: how good a response is, judged offline by its agreement with a reference answer.

It is called the reference judge because no language model runs offline: it can tell whether an answer says about the same in about the
same words, and whether it came to an end. It cannot value a good answer in other words, and a short sentence with one wrong word
in it still agrees with most of the reference. So its qualities compare models on the same instructions and are no grades.

Agreement is chrF++ (Popović 2017), character n-grams up to 6 and word n-grams up to 2, F with beta 2, without case. Against F1 over words,
which knows right and wrong words only, it gives compounds and inflected forms their share (`Magenschmerz`, `Magenschmerzen`), agrees better
with people in such languages (WMT metrics tasks) and also lowers long-winded answers through its precision.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from definemed_pipeline.evaluation.settings import ReferenceJudgeSettings

VERDICTS = {1.0: "win", 0.5: "tie", 0.0: "loss"}


def agreement(response: str, reference: str) -> float:
    """Return chrF++ of a response against its reference, from 0 to 1."""
    if not response.strip():
        return 0.0
    score: float = _chrf().sentence_score(response, [reference]).score
    return score / 100


def qualities(
    responses: Sequence[str], references: Sequence[str], is_ended: Sequence[bool], settings: ReferenceJudgeSettings
) -> list[float]:
    """Return the quality of each response, from 0 to 1: agreement, reduced where the response was cut off."""
    return [
        agreement(response, reference) * (1.0 if ended else settings.unended_factor)
        for response, reference, ended in zip(responses, references, is_ended, strict=True)
    ]


def with_quality(responses: pl.DataFrame, settings: ReferenceJudgeSettings) -> pl.DataFrame:
    """Add the column `quality` to a table of responses."""
    response, reference, is_ended = (responses[name].to_list() for name in ("response", "reference", "is_ended"))
    judged = qualities(response, reference, is_ended, settings)
    return responses.with_columns(pl.Series("quality", judged, dtype=pl.Float64))


def scores_against(
    quality: NDArray[np.float64], opponent: NDArray[np.float64], settings: ReferenceJudgeSettings
) -> NDArray[np.float64]:
    """Return per instruction 1 for a win, 0.5 for a tie, 0 for a loss (see `VERDICTS`); both have shape (instructions,)."""
    lead = quality - opponent
    return np.where(np.abs(lead) <= settings.tie_margin, 0.5, np.where(lead > 0, 1.0, 0.0))


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2, lowercase=True)

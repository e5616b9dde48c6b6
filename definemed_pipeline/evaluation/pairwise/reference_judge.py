"""The offline reference judge on pairs: the answer nearer to the reference wins (see `evaluation/judge.py`). It knows no order."""

import numpy as np

from definemed_pipeline.evaluation.judge import qualities, scores_against
from definemed_pipeline.evaluation.pairwise.verdicts import ORDERS, Contest, Verdicts
from definemed_pipeline.evaluation.settings import ReferenceJudgeSettings


def judge_by_reference(contest: Contest, judge: ReferenceJudgeSettings) -> Verdicts:
    """Judge every pair on every instruction; both orders have the same verdict."""
    references = contest.instructions["reference"].to_list()
    quality = np.array(
        [
            qualities(texts.tolist(), references, ended.tolist(), judge)
            for texts, ended in zip(contest.texts, contest.is_ended, strict=True)
        ]
    )
    scores = np.stack(
        [scores_against(quality[contest.index(one)], quality[contest.index(other)], judge) for one, other in contest.pairs]
    )
    both = np.repeat(scores[:, :, None], len(ORDERS), axis=2)
    return Verdicts(
        contest=contest, scores=both, said=np.full(both.shape, None, dtype=object), is_asked=np.ones(both.shape, dtype=bool)
    )

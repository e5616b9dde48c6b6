import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.evaluation.sweep.choose import Measured, choose, pareto_front
from definemed_pipeline.evaluation.sweep.settings import RuleSettings


def measured(accuracy: float, answered_properly: float, language_mixing: float = 0.0) -> Measured:
    return Measured(accuracy=accuracy, answered_properly=answered_properly, language_mixing=language_mixing)


BASE, CPT = measured(0.3, 0.8), measured(0.9, 0.2)
SAME = measured(0.6, 0.5)
# Few values, so that ties are common.
SHARES = st.integers(0, 4).map(lambda value: value / 4)
MODELS = st.builds(Measured, accuracy=SHARES, answered_properly=SHARES, language_mixing=SHARES)
RULES = st.builds(
    RuleSettings,
    maximise=st.sampled_from(["balance", "accuracy_kept", "instruction_following_recovered"]),
    at_least=st.dictionaries(st.sampled_from(["accuracy_kept", "instruction_following_recovered"]), SHARES),
    most_language_mixing=SHARES,
)


def test_a_merge_is_valued_on_the_way_from_base_to_checkpoint() -> None:
    (value,) = choose(BASE, CPT, [measured(0.75, 0.35)], RuleSettings()).valued
    assert value.accuracy_kept == pytest.approx(0.75)
    assert value.instruction_following_recovered == pytest.approx(0.25)
    assert value.balance == pytest.approx(0.25)


def test_balance_buys_no_goal_with_the_other() -> None:
    candidates = [measured(0.89, 0.3), measured(0.65, 0.55), measured(0.4, 0.79)]
    assert choose(BASE, CPT, candidates, RuleSettings()).chosen == 1
    assert choose(BASE, CPT, candidates, RuleSettings(maximise="accuracy_kept")).chosen == 0
    assert choose(BASE, CPT, candidates, RuleSettings(maximise="instruction_following_recovered")).chosen == 2


def test_what_does_not_keep_the_limits_is_not_chosen_unless_nothing_does() -> None:
    candidates = [measured(0.89, 0.3), measured(0.65, 0.55)]
    limited = RuleSettings(maximise="accuracy_kept", at_least={"instruction_following_recovered": 0.5})
    assert choose(BASE, CPT, candidates, limited).chosen == 1
    strict = RuleSettings(maximise="accuracy_kept", at_least={"instruction_following_recovered": 0.9})
    choice = choose(BASE, CPT, candidates, strict)
    assert choice.chosen == 0
    assert not any(value.keeps_limits for value in choice.valued)


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([measured(0.6, 0.5, 0.2), measured(0.6, 0.5, 0.1)], 1),
        ([SAME, measured(0.6, 0.6)], 1),
        ([SAME, SAME], 0),
    ],
    ids=["less mixing", "better in the other goal", "the first"],
)
def test_ties_are_settled_the_same_way_every_time(candidates: list[Measured], chosen: int) -> None:
    assert choose(BASE, CPT, candidates, RuleSettings(maximise="accuracy_kept")).chosen == chosen


def test_where_training_gained_or_cost_nothing_no_merge_lacks_anything() -> None:
    (value,) = choose(SAME, SAME, [measured(0.5, 0.5)], RuleSettings()).valued
    assert (value.accuracy_kept, value.instruction_following_recovered) == (1, 1)


@given(st.lists(MODELS, min_size=1, max_size=8))
def test_the_front_holds_what_nothing_dominates_and_nothing_else(candidates: list[Measured]) -> None:
    def dominates(one: Measured, other: Measured) -> bool:
        pairs = [
            (one.accuracy, other.accuracy),
            (one.answered_properly, other.answered_properly),
            (other.language_mixing, one.language_mixing),
        ]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    front = pareto_front(candidates)
    for number, candidate in enumerate(candidates):
        dominated_by = [other for other, one in enumerate(candidates) if dominates(one, candidate)]
        assert (number in front) == (not dominated_by)
        assert not dominated_by or front & set(dominated_by)


@given(MODELS, MODELS, st.lists(MODELS, min_size=1, max_size=8), RULES)
def test_what_is_chosen_is_on_the_front_by_every_rule(
    base: Measured, cpt: Measured, candidates: list[Measured], rule: RuleSettings
) -> None:
    choice = choose(base, cpt, candidates, rule)
    assert choice.valued[choice.chosen].is_on_front
    assert choice.valued[choice.chosen].keeps_limits == any(value.keeps_limits for value in choice.valued)

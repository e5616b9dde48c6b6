import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.evaluation.judge import agreement, qualities, scores_against
from definemed_pipeline.evaluation.settings import ReferenceJudgeSettings

REFERENCE = "Die Lunge ist bei Asthma betroffen."
SETTINGS = ReferenceJudgeSettings(tie_margin=0.05, unended_factor=0.5)
QUALITIES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


def test_the_reference_itself_is_perfect_in_any_case_and_nothing_is_worth_nothing() -> None:
    assert agreement(REFERENCE, REFERENCE) == agreement(REFERENCE.upper(), REFERENCE) == 1.0
    assert agreement(" \n", REFERENCE) == 0.0


def test_answers_rank_as_a_reader_would_rank_them() -> None:
    ranked = [
        REFERENCE,
        "Bei Asthma ist die Lunge betroffen.",
        "Die Lungen sind bei Asthma betroffen, wie auch bei vielen anderen Krankheiten der Atemwege, von denen es viele gibt.",
        "Kiel liegt am Meer.",
    ]
    found = [agreement(answer, REFERENCE) for answer in ranked]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)


def test_an_inflected_compound_is_worth_more_than_another_word() -> None:
    assert agreement("Magenschmerzen", "Magenschmerz") > 0.5 > agreement("Ohrensausen", "Magenschmerz")


def test_one_wrong_word_in_a_short_sentence_lies_between_nonsense_and_the_right_answer() -> None:
    assert 0.5 < agreement("Die Leber ist bei Asthma betroffen.", REFERENCE) < 0.8


def test_an_answer_that_was_cut_off_loses_quality() -> None:
    ended, cut = qualities([REFERENCE] * 2, [REFERENCE] * 2, [True, False], SETTINGS)
    assert (ended, cut) == (1.0, 0.5)


@given(QUALITIES)
def test_one_models_wins_are_the_others_losses(pairs: list[tuple[float, float]]) -> None:
    one, other = np.array(pairs).T
    scores = scores_against(one, other, SETTINGS)
    assert (scores + scores_against(other, one, SETTINGS) == 1).all()
    assert set(scores) <= {0.0, 0.5, 1.0}


def test_the_margin_decides_what_is_a_tie() -> None:
    scores = scores_against(np.array([0.5, 0.5, 0.5]), np.array([0.46, 0.4, 0.6]), SETTINGS)
    assert scores.tolist() == [0.5, 1.0, 0.0]

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.corpus.classifier.tokens import batches_of_like_length, joined, tokens_of

LENGTHS = st.lists(st.integers(1, 50), max_size=60)


@given(LENGTHS, st.integers(1, 300))
def test_every_document_is_in_one_batch_and_no_batch_is_over_budget(lengths: list[int], budget: int) -> None:
    batches = batches_of_like_length(np.array(lengths, dtype=np.int64), budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert longest * len(batch) <= budget or len(batch) == 1


@given(LENGTHS, st.integers(1, 300))
def test_no_batch_could_take_the_next_document_too(lengths: list[int], budget: int) -> None:
    for batch in batches_of_like_length(np.array(lengths, dtype=np.int64), budget)[:-1]:
        assert max(lengths[index] for index in batch) * (len(batch) + 1) > budget


def test_a_batch_is_filled_up_to_its_longest_document() -> None:
    tokens = joined([tokens_of([np.array([5, 6], np.int32)]), tokens_of([]), tokens_of([np.array([7], np.int32)])])
    assert tokens.lengths.tolist() == [2, 1]
    assert tokens.padded(np.array([1, 0]), 1).tolist() == [[7, 1], [5, 6]]
    assert len(joined([])) == 0

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.keyed_hash import keyed_hash
from definemed_pipeline.training.division import (
    HELD_OUT_CORPUS,
    HELD_OUT_GENERAL,
    REPLAY,
    CorpusDivision,
    GeneralDivision,
)
from definemed_pipeline.training.packing import TRAIN, Batch
from definemed_pipeline.training.parts import PASSED_OVER
from definemed_pipeline_tests.training.packed_sets import fifty_examples

shares = st.floats(0, 0.5)
seeds = st.integers(0, 1000)


def corpus_of(size: int, share: float, seed: int = 1) -> CorpusDivision:
    return CorpusDivision.of([[f"c{number}" for number in range(size)]], share=share, seed=seed)


def documents(names: list[str], lengths: list[int] | None = None) -> Batch:
    return [(name, np.zeros(length, np.uint32)) for name, length in zip(names, lengths or [1] * len(names), strict=True)]


def divided(division, batch: Batch, cuts: list[int]) -> dict[str, list[str]]:
    """Divide documents batch by batch and return their names by role."""
    found: dict[str, list[str]] = {}
    edges = [0, *sorted(cut % (len(batch) + 1) for cut in cuts), len(batch)]
    for start, end in itertools.pairwise(edges):
        if start < end:
            for role, chosen in division(batch[start:end]).items():
                found.setdefault(role, []).extend(name for name, _ in chosen)
    return found


@fifty_examples
@given(size=st.integers(1, 300), share=shares, seed=seeds, cuts=st.lists(st.integers(0, 300), max_size=4))
def test_every_document_of_the_corpus_is_trained_on_or_held_out_however_it_comes(size, share, seed, cuts) -> None:
    division, names = corpus_of(size, share, seed), [f"c{number}" for number in range(size)]
    found = divided(division, documents(names), cuts)
    assert sorted(found[TRAIN] + found[HELD_OUT_CORPUS]) == sorted(names)
    assert found == divided(division, documents(names), [])
    assert found[TRAIN]
    assert bool(found[HELD_OUT_CORPUS]) == (share > 0 and size > 1)


@fifty_examples
@given(size=st.integers(2, 300), share=shares, seed=seeds)
def test_a_document_keeps_its_place_when_others_come_to_the_corpus(size, share, seed) -> None:
    """A refreshed corpus holds out the documents it held out before, but for the one that is held out where none is drawn."""
    names = [f"c{number}" for number in range(size)]
    before, after = (divided(corpus_of(of, share, seed), documents(names), []) for of in (size, 2 * size))
    drawn = {name for name in names if keyed_hash([name], seed)[0] < share * 2**64}
    assert drawn == set(after[HELD_OUT_CORPUS]) or len(drawn) in (0, size)
    assert drawn == set(before[HELD_OUT_CORPUS]) or len(drawn) in (0, size)


def test_the_share_that_is_held_out_is_the_share_asked_for() -> None:
    """Within four standard deviations of a binomial count."""
    found = divided(corpus_of(20_000, 0.1), documents([f"c{number}" for number in range(20_000)]), [])
    assert abs(len(found[HELD_OUT_CORPUS]) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5


@fifty_examples
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=40),
    held_out=st.integers(0, 120),
    replay=st.integers(0, 200),
    copies=st.sets(st.integers(0, 39)),
    repeated=st.sets(st.integers(1, 39)),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_general_documents_are_held_out_first_and_replayed_next_until_there_are_enough(
    *, lengths, held_out, replay, copies, repeated, cuts
) -> None:
    names = [f"c{n}" if n in copies else f"g{n - 1}" if n in repeated else f"g{n}" for n in range(len(lengths))]
    batch, length_of = documents(names, lengths), dict(zip(names, lengths, strict=True))

    def division() -> GeneralDivision:
        return GeneralDivision(corpus=corpus_of(40, 0.1), held_out_tokens=held_out, replay_tokens=replay)

    found = divided(whole := division(), batch, [])
    assert divided(division(), batch, cuts) == found
    assert not (set(found[HELD_OUT_GENERAL]) | set(found[REPLAY])) & {f"c{n}" for n in range(40)}
    assert not set(found[HELD_OUT_GENERAL]) & set(found[REPLAY])
    if len(set(names)) == len(names):
        used = found[HELD_OUT_GENERAL] + found[REPLAY]
        assert [name for name in names if name in used] == used
        for role, wanted in ((HELD_OUT_GENERAL, held_out), (REPLAY, replay)):
            taken = [length_of[name] for name in found[role]]
            assert sum(taken[:-1]) < max(wanted, 1)
            assert sum(taken) >= wanted or whole.lacking_tokens
        if whole.lacking_tokens:
            assert len(found[HELD_OUT_GENERAL] + found[REPLAY] + found[PASSED_OVER]) == len(names)


def test_an_interrupted_division_goes_on_as_if_it_had_not_been() -> None:
    names, lengths = [f"g{n // 2}" for n in range(12)], [3] * 12
    first, second = documents(names, lengths)[:5], documents(names, lengths)[5:]
    undisturbed = GeneralDivision(corpus=corpus_of(4, 0.5), held_out_tokens=10, replay_tokens=9)
    before, after = undisturbed(first), undisturbed(second)
    resumed = GeneralDivision(corpus=corpus_of(4, 0.5), held_out_tokens=10, replay_tokens=9)
    held_out, replayed = before[HELD_OUT_GENERAL], before[REPLAY]
    resumed.go_on([name for name, _ in held_out], held_out_tokens=3 * len(held_out), replay_tokens=3 * len(replayed))
    again = resumed(second)
    for role in (HELD_OUT_GENERAL, REPLAY, PASSED_OVER):
        assert [name for name, _ in again[role]] == [name for name, _ in after[role]]

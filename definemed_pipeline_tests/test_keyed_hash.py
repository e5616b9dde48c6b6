import numpy as np

from definemed_pipeline.keyed_hash import keyed_hash


def test_keys_are_the_published_hash_of_the_id() -> None:
    """Recorded once: another value would draw another sample from the same web."""
    assert keyed_hash(["<urn:uuid:0>", "ä"], 7).tolist() == [12536773396999659594, 4408226659902823078]
    assert len(keyed_hash([], 7)) == 0


def test_another_seed_gives_another_order() -> None:
    ids = [str(number) for number in range(100)]
    assert keyed_hash(ids, 0).argsort().tolist() != keyed_hash(ids, 1).argsort().tolist()


def test_keys_are_spread_evenly() -> None:
    """A chi-squared test of 16 equal ranges; 37.7 is its 99.9 % point at 15 degrees of freedom."""
    size, ranges = 16_000, 16
    counts = np.bincount(keyed_hash(map(str, range(size)), 0) // np.uint64((1 << 64) // ranges), minlength=ranges)
    assert sum((count - size / ranges) ** 2 for count in counts) / (size / ranges) < 37.7

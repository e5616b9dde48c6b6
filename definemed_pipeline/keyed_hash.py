"""A random number for each document that follows from its id and a seed, by which samples and held-out documents are drawn."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def keyed_hash(values: Iterable[str], seed: int) -> npt.NDArray[np.uint64]:
    """Return a number per string, uniform over u64: BLAKE2b keyed with the seed.

    A loop over rows, at about a million ids a second: unlike the hash of a library of tables it never changes, so that a sample can be
    drawn again years later.
    """
    key = seed.to_bytes(8, "little")
    digests = b"".join(hashlib.blake2b(value.encode(), digest_size=8, key=key).digest() for value in values)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)

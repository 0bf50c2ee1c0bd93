"""Hashes of rows, from which numbers follow that are the same wherever a row lies."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

# What makes the holdout, the folds and the sample independent of each other.
HOLDOUT_SALT, FOLDS_SALT, SAMPLE_SALT = 1, 2, 3
# Rows whose hashes are looked at in one go.
CHUNK_ROWS = 1 << 20


def mixed(hashes: Hashes, *salts: int) -> Hashes:
    """Other hashes (n_samples,) of the same rows, as if independent for other salts.

    Each salt mixes once more, so that numbers that follow each other take two. The mixing function is that of
    SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 16.
    """
    found = np.asarray(hashes, dtype=np.uint64).copy()
    with np.errstate(over="ignore"):
        for salt in salts:
            found += np.uint64(0x9E3779B97F4A7C15) * np.uint64(salt + 1)
            found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            found ^= found >> np.uint64(31)
    return found


def chunks(hashes: Hashes) -> Iterator[Hashes]:
    """Hashes (n_samples,), which may lie in a file, in parts that fit into memory."""
    for start in range(0, len(hashes), CHUNK_ROWS):
        yield np.asarray(hashes[start : start + CHUNK_ROWS])

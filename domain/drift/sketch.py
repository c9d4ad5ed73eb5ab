"""What a block of time looked like, feature by feature, in a few kilobytes and whatever the scale.

Every float32 is put into one of 16,384 buckets by its leading bits (sign, exponent, five bits of the
mantissa), so that a bucket is about 3% wide at any size and buckets are in the order of the values. Counting
buckets needs no range known beforehand, does not depend on the order of the rows, and is exact. A finished
block is kept as the buckets of some evenly spaced ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.frames import Float32, Float64, Int32, Int64

#: Leading bits that are kept.
BITS = 14
BUCKETS = 2**BITS
#: Ranks kept of a finished block: a distribution function that is right to 1/128.
RANKS = 64


def buckets(values: Float32) -> Int32:
    """Give the bucket of every value, in the order of the values; -1 for NaN. The two zeros are one."""
    bits = (values + np.float32(0.0)).view(np.uint32)
    # Negative numbers are ordered the other way round; with this, all are ordered as unsigned numbers.
    ordered = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(0x8000_0000))
    found = (ordered >> (32 - BITS)).astype(np.int32)
    found[np.isnan(values)] = -1
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished block.

    Attributes
    ----------
    ranks
        Shape (features, `RANKS`): buckets at the ranks (k + 1/2) / `RANKS`; 0 where no value was finite.
    missing
        Shape (features,): share of NaN.
    rows
        How many rows it had.
    """

    ranks: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]
    missing: Float64
    rows: int


class Counts:
    """Counts of an unfinished block.

    Parameters
    ----------
    features
        Columns of the vectors.
    """

    def __init__(self, features: int) -> None:
        self._features = features
        self._flat = np.zeros(features * BUCKETS, np.int32)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, vectors: Float32) -> None:
        """Count some rows."""
        found = buckets(np.ascontiguousarray(vectors))
        place = found + BUCKETS * np.arange(self._features, dtype=np.int32)
        np.add.at(self._flat, place[found >= 0], 1)
        self._rows += len(vectors)

    def summary(self) -> Summary:
        """Sum the block up."""
        table = self._flat.reshape(self._features, BUCKETS)
        ranks = np.zeros((self._features, RANKS), np.uint16)
        missing = np.ones(self._features)
        wanted = (np.arange(RANKS) + 0.5) / RANKS
        for k, counts in enumerate(table):
            used = np.flatnonzero(counts)
            if len(used):
                reached = np.cumsum(counts[used])
                ranks[k] = used[np.searchsorted(reached, wanted * reached[-1])]
                missing[k] = 1.0 - reached[-1] / self._rows
        return Summary(ranks, missing, self._rows)

    def state(self) -> Int64:
        """Hand out the counts: rows, then place and count of every bucket that is not empty."""
        used = np.flatnonzero(self._flat)
        return np.concatenate([[self._rows], used, self._flat[used]]).astype(np.int64)

    def take(self, state: Int64) -> None:
        """Go on from a state of `state`."""
        self._rows = int(state[0])
        place, count = np.split(state[1:], 2)
        self._flat[:] = 0
        self._flat[place] = count

"""The population stability index: how differently two samples fill the deciles of the first.

PSI = sum over the bins of (q - p) ln(q / p), with p and q the shares of the reference and of the current
sample. Common readings: below 0.1 the same, above 0.25 another population.

The bins end at the deciles of the reference. A value on which two or more deciles fall (many ties, a
constant feature) gets a bin of its own, so that leaving it is seen on either side. NaN is a bin of its own. A
share below `LEAST_SHARE` counts as that, in both samples, so that an empty bin costs much but not everything.
"""

from __future__ import annotations

import numpy as np

from schemas.frames import Float64, Int64

DECILES = 10
LEAST_SHARE = 0.001


def cuts(values: Int64, weights: Float64) -> Int64:
    """Find where the bins end: bin k holds what is above cut k-1 and up to cut k.

    Parameters
    ----------
    values
        The reference, as whole numbers in the order of what they stand for (see `domain.drift.sketch`).
    weights
        Of each of them; not negative, some positive.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    wanted = reached[-1] * np.arange(1, DECILES) / DECILES
    # Sums of equal weights meet a decile only up to rounding.
    place = np.searchsorted(reached, wanted * (1.0 - 1e-12))
    ends, times = np.unique(values[order][np.minimum(place, len(order) - 1)], return_counts=True)
    found: Int64 = np.union1d(ends, ends[times > 1] - 1).astype(np.int64)
    return found


def stability_index(reference: Float64, current: Float64) -> Float64:
    """Compute the index from the shares of the bins; works along the last axis."""
    p, q = np.maximum(reference, LEAST_SHARE), np.maximum(current, LEAST_SHARE)
    index: Float64 = ((q - p) * np.log(q / p)).sum(axis=-1)
    return index

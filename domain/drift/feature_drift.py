"""Compares today's features with those of the days that the models learned from.

Whole days are compared, because within a day minutes hang together and the hours differ. A feature has
drifted if the day lies further from the reference than chance explains *and* further than any of the
reference's own days lies from the rest of them: slow features differ from day to day, and always did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from domain.drift.kolmogorov_smirnov import critical_distance, distance, effective_size
from domain.drift.population_stability import cuts, stability_index
from domain.drift.sketch import BUCKETS, RANKS, Summary
from schemas.frames import Bool, Float64, Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """What a comparison found, one entry a feature.

    Attributes
    ----------
    psi, ks
        Population stability index, and the Kolmogorov-Smirnov distance.
    psi_threshold, ks_threshold
        What they were compared with.
    drifted
        Both are beyond.
    """

    psi: Float64
    psi_threshold: Float64
    ks: Float64
    ks_threshold: Float64

    @property
    def drifted(self) -> Bool:
        """Mark the features that have drifted."""
        found: Bool = (self.psi > self.psi_threshold) & (self.ks > self.ks_threshold)
        return found


def compare(
    reference: Sequence[Summary],
    current: Summary,
    *,
    psi_threshold: float,
    error_rate: float,
    most_rows: int,
) -> FeatureDrift:
    """Compare a block with those of the reference.

    Parameters
    ----------
    reference
        At least two blocks, which weigh the same.
    psi_threshold
        Least index that is of interest.
    error_rate
        Chance that a block of the same population is beyond the KS threshold in any feature, were they
        independent: each gets its part of it.
    most_rows
        Rows of a block: it cannot count for more independent values than that.
    """
    blocks = len(reference)
    points = np.stack([block.ranks for block in (*reference, current)]).astype(np.int64)
    missing = np.stack([block.missing for block in (*reference, current)])
    features = points.shape[1]
    found = np.empty((4, features))
    for k in range(features):
        found[:, k] = _compare_one(
            points[:, k],
            missing[:, k],
            blocks,
            psi_threshold=psi_threshold,
            error_rate=error_rate / features,
            most_rows=most_rows,
        )
    return FeatureDrift(psi=found[0], psi_threshold=found[1], ks=found[2], ks_threshold=found[3])


def _compare_one(
    points: Int64, missing: Float64, blocks: int, *, psi_threshold: float, error_rate: float, most_rows: int
) -> tuple[float, float, float, float]:
    there = missing < 1.0
    if not there[:blocks].any():
        # Never seen by any model: all that can be told is whether it is there now.
        none, now = np.array([0.0, 1.0]), np.array([1.0 - missing[-1], missing[-1]])
        return float(stability_index(none, now)), psi_threshold, 0.0, np.inf
    ends = cuts(points[:blocks].ravel(), np.repeat(1.0 - missing[:blocks], RANKS))
    psi, psi_others = _against_the_rest(_shares(points, missing, ends), blocks, stability_index)
    if not there[-1]:
        return psi, max(psi_threshold, psi_others), 1.0, 0.0
    points = points[there]
    known = len(points) - 1
    ks, ks_others = _against_the_rest(_distributions(points), known, distance)
    size = effective_size(_mean_ranks(points[:known]), most_rows)
    chance = critical_distance(error_rate, size * known / (known + 1))
    return psi, max(psi_threshold, psi_others), ks, max(chance, ks_others)


def _shares(points: Int64, missing: Float64, ends: Int64) -> Float64:
    """Give the shares of the bins in every block, the last bin that of NaN."""
    bins = len(ends) + 1
    place = np.searchsorted(ends, points) + bins * np.arange(len(points))[:, None]
    held = np.bincount(place.ravel(), minlength=bins * len(points)).reshape(len(points), bins) / RANKS
    return np.column_stack([held * (1.0 - missing[:, None]), missing])


def _distributions(points: Int64) -> Float64:
    """Give the distribution function of every block, at about as many points as a block has ranks."""
    grid = np.unique(np.sort(points, axis=None)[:: max(len(points) // 2, 1)])
    # The points of a block ascend; put behind one another, all blocks are searched at once.
    apart = 2 * BUCKETS * np.arange(len(points))[:, None]
    below = np.searchsorted((points + apart).ravel(), grid + apart, side="right")
    found: Float64 = (below - RANKS * np.arange(len(points))[:, None]) / RANKS
    return found


def _against_the_rest(
    rows: Float64, blocks: int, measure: Callable[[Float64, Float64], Float64]
) -> tuple[float, float]:
    """Measure the last row against the mean of the first ones; and the farthest of those against the rest."""
    total = rows[:blocks].sum(axis=0)
    now = float(measure(total / blocks, rows[blocks]))
    if blocks < 2:
        return now, np.inf
    rest = (total - rows[:blocks]) / (blocks - 1)
    return now, float(measure(rest, rows[:blocks]).max())


def _mean_ranks(points: Int64) -> Float64:
    """Give the mean rank of each block's values among all of them; ties share their ranks."""
    flat = np.sort(points.ravel())
    low, high = np.searchsorted(flat, points, side="left"), np.searchsorted(flat, points, side="right")
    ranks: Float64 = ((low + high) / (2.0 * len(flat))).mean(axis=1)
    return ranks

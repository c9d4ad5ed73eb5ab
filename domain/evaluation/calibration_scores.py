"""Scores of stated probabilities and of stated intervals.

Probabilities are of a rise; a row that did not move has no direction and is left out by the caller.
Everything is NaN for no rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from domain.evaluation.metrics import Numbers
from schemas.frames import Bool, Float64

#: Bins of equal mass, unless asked otherwise.
DEFAULT_BINS = 10
#: Probabilities closer than this are the same statement.
FINEST_PROBABILITY = 0.001
#: Log loss takes no probability nearer to 0 or 1 than this, or one row would decide everything.
SUREST_PROBABILITY = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityPoint:
    """What was said and what came true in one bin of probabilities.

    Attributes
    ----------
    stated
        Mean probability.
    observed
        Share of rows that rose.
    rows
        How many.
    lowest, highest
        Probabilities of the bin.
    """

    stated: float
    observed: float
    rows: int
    lowest: float
    highest: float


def brier_score(*, probability_up: Numbers, rose: Bool) -> float:
    """Compute the mean squared distance of probability and outcome (Brier 1950); a coin has 0.25."""
    probability, outcome = _statements(probability_up, rose)
    return _mean((probability - outcome) ** 2)


def log_loss(*, probability_up: Numbers, rose: Bool) -> float:
    """Compute the mean negative logarithm of the probability given to what happened (Good 1952), in nats."""
    probability, outcome = _statements(probability_up, rose)
    happened = np.where(outcome > 0, probability, 1.0 - probability)
    return _mean(-np.log(np.clip(happened, SUREST_PROBABILITY, 1.0)))


def reliability_points(
    *, probability_up: Numbers, rose: Bool, bins: int = DEFAULT_BINS
) -> tuple[ReliabilityPoint, ...]:
    """Compute the points of a reliability diagram, lowest probability first.

    Bins hold about equally many rows (Nixon et al. 2019, "adaptive"), so that each point is as sure as the
    others. Equal probabilities are never parted, nor those within 0.001 of the lowest of a bin: there are
    fewer bins, down to one, if the probabilities hardly differ, so that the noise of arbitrary cuts does not
    look like miscalibration. The points do not depend on the order of the rows.

    Raises
    ------
    ValueError
        If lengths differ, a probability is outside 0..1, or bins is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    probability, outcome = _statements(probability_up, rose)
    order = np.lexsort((outcome, probability))
    probability, outcome = probability[order], outcome[order]
    edges = _bin_edges(probability, bins)
    return tuple(
        ReliabilityPoint(
            stated=float(np.mean(probability[begin:end])),
            observed=float(np.mean(outcome[begin:end])),
            rows=end - begin,
            lowest=float(probability[begin]),
            highest=float(probability[end - 1]),
        )
        for begin, end in pairwise(edges)
    )


def expected_calibration_error(*, probability_up: Numbers, rose: Bool, bins: int = DEFAULT_BINS) -> float:
    """Compute the mean distance of stated and observed, over bins of equal mass weighted by their rows.

    The measure is that of Naeini et al. (2015) with the bins of `reliability_points`. Even a calibrated model
    has about `0.4 / sqrt(independent rows in a bin)`.
    """
    points = reliability_points(probability_up=probability_up, rose=rose, bins=bins)
    if not points:
        return float("nan")
    return sum(abs(point.stated - point.observed) * point.rows for point in points) / sum(
        point.rows for point in points
    )


def interval_coverage(*, actual: Numbers, low: Numbers, high: Numbers) -> float:
    """Compute the share of actual values inside their interval, bounds included."""
    value, below, above = _bounded(actual, low, high)
    return _mean(((below <= value) & (value <= above)).astype(np.float64))


def mean_width(*, low: Numbers, high: Numbers) -> float:
    """Compute the mean width of the intervals, in the unit of their bounds."""
    _, below, above = _bounded(low, low, high)
    return _mean(above - below)


def pinball_loss(*, actual: Numbers, quantile: Numbers, level: float) -> float:
    """Compute the mean pinball loss of a stated quantile (Koenker and Bassett 1978); lower is better.

    Parameters
    ----------
    actual, quantile
        Same unit.
    level
        Which quantile, inside 0..1.
    """
    _inside(level)
    value, stated = _alike(actual=actual, quantile=quantile)
    above = value - stated
    return _mean(np.maximum(level * above, (level - 1.0) * above))


def winkler_score(*, actual: Numbers, low: Numbers, high: Numbers, level: float) -> float:
    """Compute the mean interval score: width, plus 2 / (1 - level) times how far a value lies outside.

    It is proper: the true central interval has the lowest (Winkler 1972; Gneiting and Raftery 2007, eq. 43).

    Parameters
    ----------
    actual, low, high
        Same unit.
    level
        Nominal coverage of the interval, such as 0.8.
    """
    _inside(level)
    value, below, above = _bounded(actual, low, high)
    outside = np.maximum(below - value, 0.0) + np.maximum(value - above, 0.0)
    return _mean(above - below + 2.0 / (1.0 - level) * outside)


def _bin_edges(ordered: Float64, bins: int) -> list[int]:
    rows = len(ordered)
    if not rows:
        return [0]
    mass = rows / bins
    edges = [0]
    while edges[-1] < rows:
        begin = edges[-1]
        by_width = int(np.searchsorted(ordered, ordered[begin] + FINEST_PROBABILITY, "left"))
        wanted = min(rows, max(begin + max(1, round(mass)), by_width))
        # Between two different probabilities: whichever such place is nearer.
        before, after = (
            int(np.searchsorted(ordered, ordered[wanted - 1], side)) for side in ("left", "right")
        )
        early = before >= max(by_width, begin + mass / 4.0) and wanted - before < after - wanted
        edges.append(before if early else after)
    # What is left over at the end is no bin of its own.
    if len(edges) > 2 and (
        edges[-1] - edges[-2] < mass / 2.0 or ordered[-1] - ordered[edges[-2] - 1] < FINEST_PROBABILITY
    ):
        del edges[-2]
    return edges


def _statements(probability_up: Numbers, rose: Bool) -> tuple[Float64, Float64]:
    probability, outcome = _alike(probability_up=probability_up, rose=rose)
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        raise ValueError("probability_up holds numbers outside 0..1: leave out rows without a probability")
    return probability, outcome


def _bounded(actual: Numbers, low: Numbers, high: Numbers) -> tuple[Float64, Float64, Float64]:
    value, below = _alike(actual=actual, low=low)
    _, above = _alike(low=low, high=high)
    if not (below <= above).all():
        raise ValueError("low lies above high, or is not a number: leave out rows without an interval")
    return value, below, above


def _alike(**named: ArrayLike) -> tuple[Float64, Float64]:
    (first_name, first), (second_name, second) = ((k, np.asarray(v, np.float64)) for k, v in named.items())
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} {first_name} but {second.shape} {second_name}")
    return first, second


def _inside(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be inside 0..1, not {level}")


def _mean(values: Float64) -> float:
    return float(np.mean(values)) if len(values) else float("nan")

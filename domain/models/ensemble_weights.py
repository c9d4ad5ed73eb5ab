"""How much each member of an ensemble counts, for each horizon and each of the two things it says.

A weight of 0 for all is the no-change forecast: weight that is not given away belongs to it. A member's
forecast is held against what came (the slope of the least-squares line through 0), and is trusted by
`1 - c/t²` (James and Stein's factor; 0 where negative), with t the slope over its standard error.
The error allows for labels that overlap and symbols that move together (`metrics.compare`), and where it
stands on few independent outcomes, t counts for less, as Student's distribution is wider. So a member without
evidence has weight 0, and one with some evidence less than it has by the look of it.

Directions are weighed by their own evidence: probability above one half against rose or fell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domain.evaluation.metrics import Comparison, compare
from domain.models.model import Predictions, TrainingRows
from schemas.frames import MINUTE_MS, Float64, Int64

#: By member: weights of shape (2, horizons), of the percent change and of the log-odds.
Weights = dict[str, Float64]
#: c, where a member has not seen the rows, and where it stopped early by them, which flatters it.
FRESH, STOPPED_BY = 1.0, 4.0
#: Targets further from 0 than this many robust deviations are pulled in, as the members do.
_CLIP_DEVIATIONS = 3.0
#: Ridge of the stacking, as a share of each member's own sum of squares.
_STACKING_RIDGE = 0.1
#: Weights are cut to this many digits: more is not known about them.
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Rows, and what each member says of them.

    Attributes
    ----------
    rows
        What came.
    said
        By member that found a signal.
    overlap
        Of each horizon, how many rows one behind the other share part of a label.
    """

    rows: TrainingRows
    said: Mapping[str, Predictions]
    overlap: tuple[int, ...]

    def only(self, chosen: Int64) -> Judged:
        """Take some of the rows."""
        said = {name: Predictions(*(part[chosen] for part in each)) for name, each in self.said.items()}
        return Judged(rows=self.rows.take(chosen), said=said, overlap=self.overlap)

    def of(self, kind: int, column: int) -> _Column:
        """Take what one kind of forecast of one horizon is judged by."""
        target = self.rows.target_pct[:, column]
        use = np.isfinite(target) & (target != 0 if kind else True)
        forecasts = [said[kind][use, column].astype(np.float64) for said in self.said.values()]
        if kind:
            actual = np.where(target[use] > 0, 0.5, -0.5)
            forecasts = [1.0 / (1.0 + np.exp(-odds)) - 0.5 for odds in forecasts]
        else:
            actual = _pulled_in(target[use])
        return _Column(
            actual=actual,
            forecasts=np.stack(forecasts, axis=1),
            open_time_ms=self.rows.open_time_ms[use],
            overlap=self.overlap[column],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    actual: Float64
    forecasts: Float64  # (rows, members)
    open_time_ms: Int64
    overlap: int

    @property
    def outcomes(self) -> float:
        """Count the outcomes that do not overlap."""
        return len(np.unique(self.open_time_ms)) / (2 * self.overlap) - 1.0

    def fit(self, forecast: Float64, doubt: float) -> tuple[float, float]:
        """Give the slope that fits a forecast best, and how far it is trusted (0..1).

        `doubt` is c. The slope is as high as it may be within one standard error: a forecast is toned down
        only where it plainly overstates.
        """
        square = float(forecast @ forecast)
        slope = float(forecast @ self.actual) / square if square > 0 else 0.0
        outcomes = self.outcomes
        if slope <= 0 or outcomes <= 2:
            return 0.0, 0.0
        # the gain of the best line is half as many standard errors from 0 as its slope
        t = 2.0 * self._compare(slope * forecast).z
        return (slope * (1.0 + 1.0 / t), _trust(t, outcomes, doubt)) if t > 0 else (0.0, 0.0)

    def better(self, forecast: Float64, than: Float64, doubt: float) -> float:
        """Tell how far it is to be trusted (0..1) that one forecast is better than another."""
        t = 2.0 * self._compare(forecast, than).z
        return _trust(t, self.outcomes, doubt) if t > 0 and self.outcomes > 2 else 0.0

    def gain(self, forecast: Float64) -> float:
        """Give how much smaller the mean squared error is than that of no change."""
        found = self._compare(forecast).gain
        return found if math.isfinite(found) else 0.0

    def _compare(self, forecast: Float64, than: Float64 | None = None) -> Comparison:
        return compare(
            actual=self.actual,
            predicted=forecast,
            reference=np.zeros(len(forecast)) if than is None else than,
            open_time_ms=self.open_time_ms,
            # lags are counted in times that there are rows of
            horizon_minutes=self.overlap,
        )


def _trust(t: float, outcomes: float, doubt: float) -> float:
    return max(0.0, 1.0 - doubt * outcomes / (outcomes - 2.0) / (t * t))


def by_skill(judged: Judged, *, doubt: float) -> Weights:
    """Weigh by what each member alone gains over no change; the weights add up to at most 1.

    A member's share is its part in the sum of all gains, and counts as far as its own evidence carries.
    """

    def weigh(column: _Column) -> Float64:
        factors, gains = np.zeros(column.forecasts.shape[1]), np.zeros(column.forecasts.shape[1])
        for member, forecast in enumerate(column.forecasts.T):
            slope, trust = column.fit(forecast, doubt)
            factors[member] = min(1.0, slope) * trust
            gains[member] = max(0.0, column.gain(factors[member] * forecast))
        total = gains.sum()
        return factors * gains / total if total > 0 else np.zeros(len(gains))

    return _weights(judged, weigh)


def by_stacking(judged: Judged) -> Weights:
    """Weigh by least squares, drawn to equal weights; then judge what they say together. Each is in 0..1."""
    from scipy.optimize import lsq_linear

    def weigh(column: _Column) -> Float64:
        squares = np.sum(column.forecasts**2, axis=0)
        weights: Float64 = np.zeros(len(squares))
        speaking = squares > 0
        if speaking.any():
            spoken = column.forecasts[:, speaking]
            ridge = np.sqrt(_STACKING_RIDGE * squares[speaking])
            solved = lsq_linear(
                np.concatenate([spoken, np.diag(ridge)]),
                np.concatenate([column.actual, ridge / len(ridge)]),
                bounds=(0.0, 1.0),
            ).x
            slope, trust = column.fit(spoken @ solved, FRESH)
            weights[speaking] = np.minimum(1.0, slope * solved) * trust
        return weights

    return _weights(judged, weigh)


def alike(members: Sequence[str], given: Mapping[str, float], horizons: int) -> Weights:
    """Weigh all horizons alike: by given numbers, or equally; the weights add up to 1."""
    total = math.fsum(given.values())
    share = {name: given.get(name, 0.0) / total if given else 1.0 / len(members) for name in members}
    return counting({name: cut(np.full((2, horizons), weight)) for name, weight in share.items()})


def overlap(rows: TrainingRows, *, longest_minutes: int) -> tuple[int, ...]:
    """Measure of each horizon how many rows of a symbol, one behind the other, share part of a label.

    The labels of neighbouring rows share all but the ends of their spans: for a walk of independent steps the
    mean square of their difference is 2/h of their own. Rows may be minutes, or every so manieth minute.
    """
    order = np.lexsort((rows.open_time_ms, rows.symbol_index))
    apart = np.where(np.diff(rows.symbol_index[order]) == 0, np.diff(rows.open_time_ms[order]), 0)
    usual_ms = max(MINUTE_MS, int(np.median(apart[apart > 0]))) if (apart > 0).any() else MINUTE_MS
    most = max(1, longest_minutes * MINUTE_MS // usual_ms)
    found = []
    for column in range(rows.horizons):
        target = _pulled_in(rows.target_pct[order, column])
        moved, size = _mean_square(np.diff(target)[apart == usual_ms]), _mean_square(target)
        ratio = 2.0 * size / moved if moved > 0 else 1.0
        found.append(int(np.clip(round(ratio), 1, most)))
    return tuple(found)


def _weights(judged: Judged, weigh: Callable[[_Column], Float64]) -> Weights:
    horizons = judged.rows.horizons
    found = np.stack(
        [
            np.stack([weigh(judged.of(kind, column)) for column in range(horizons)], axis=-1)
            for kind in range(2)
        ],
        axis=1,
    )
    return counting({name: cut(weights) for name, weights in zip(judged.said, found, strict=True)})


def counting(weights: Weights) -> Weights:
    """Leave out the members that count for nothing."""
    return {name: each for name, each in weights.items() if each.any()}


def cut(weights: Float64) -> Float64:
    """Leave as many digits as are known."""
    # downwards, so that a sum of 1 is never exceeded
    cut: Float64 = np.floor(weights * 10**_DIGITS + 1e-6) / 10**_DIGITS
    return cut


def _pulled_in(target: Float64) -> Float64:
    known = np.abs(target[np.isfinite(target)])
    robust = 1.4826 * float(np.median(known)) if len(known) else 0.0
    limit = _CLIP_DEVIATIONS * robust if robust > 0 else np.inf
    return np.clip(target, -limit, limit)


def _mean_square(values: Float64) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known * known)) if len(known) else 0.0

"""Scores of forecasts of a percent change, in plain NumPy.

Ties: a row whose actual change is exactly zero has no direction and is left out of the directional scores; a
forecast of exactly zero takes no side and counts as half a hit. So the no-change forecast scores 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.frames import Float64, Int64

#: Float32 or float64; computed in float64.
Numbers = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores on one set of rows; NaN where a score is not defined.

    Attributes
    ----------
    rows
        Rows scored.
    rmse, mae
        Percent.
    accuracy
        Directional accuracy, 0..1.
    skill
        1 minus the squared error over that of the no-change forecast; above 0 is better than no change.
    precision, recall, f1
        Of the statement "it rises".
    """

    rows: int
    rmse: float
    mae: float
    accuracy: float
    skill: float
    precision: float
    recall: float
    f1: float


def score(*, actual: Numbers, predicted: Numbers) -> Scores:
    """Compute all scores at once."""
    precision, recall, f1 = rise_scores(actual=actual, predicted=predicted)
    return Scores(
        rows=len(actual),
        rmse=rmse(actual=actual, predicted=predicted),
        mae=mae(actual=actual, predicted=predicted),
        accuracy=directional_accuracy(actual=actual, predicted=predicted),
        skill=skill(actual=actual, predicted=predicted),
        precision=precision,
        recall=recall,
        f1=f1,
    )


def rmse(*, actual: Numbers, predicted: Numbers) -> float:
    """Compute the root mean square error."""
    error = _error(actual, predicted)
    return float(np.sqrt(np.mean(error * error))) if len(error) else float("nan")


def mae(*, actual: Numbers, predicted: Numbers) -> float:
    """Compute the mean absolute error."""
    error = _error(actual, predicted)
    return float(np.mean(np.abs(error))) if len(error) else float("nan")


def directional_accuracy(*, actual: Numbers, predicted: Numbers) -> float:
    """Compute the share of right directions; see the module about ties."""
    hits = directional_hits(actual=actual, predicted=predicted)
    moved = np.asarray(actual) != 0
    return float(np.mean(hits[moved])) if moved.any() else float("nan")


def directional_hits(*, actual: Numbers, predicted: Numbers) -> Float64:
    """Score each direction: 1 right, 0 wrong, a half for a forecast of zero, NaN if it did not move."""
    _error(actual, predicted)
    went = np.sign(np.asarray(actual, np.float64))
    product = went * np.sign(np.asarray(predicted, np.float64))
    return np.where(went != 0, (product + 1.0) / 2.0, np.nan)


def skill(*, actual: Numbers, predicted: Numbers) -> float:
    """Compute 1 - MSE / MSE of the no-change forecast; NaN if nothing ever changed."""
    error = _error(actual, predicted)
    total = float(np.sum(np.asarray(actual, np.float64) ** 2))
    return 1.0 - float(np.sum(error * error)) / total if total > 0 else float("nan")


def r2(*, actual: Numbers, predicted: Numbers) -> float:
    """Compute 1 - MSE / variance of the actual changes; NaN if they never differ.

    Its reference knows the mean of the very rows it is scored on, so it is never above `skill`.
    """
    error = _error(actual, predicted)
    if not len(error) or np.ptp(np.asarray(actual)) == 0:
        return float("nan")
    centred = np.asarray(actual, np.float64) - np.mean(actual, dtype=np.float64)
    return 1.0 - float(np.sum(error * error)) / float(np.sum(centred * centred))


def information_coefficient(*, actual: Numbers, predicted: Numbers) -> float:
    """Compute Spearman's rank correlation over all rows together; NaN if either never differs.

    Equal values share the mean of their ranks.
    """
    _error(actual, predicted)
    if not len(actual) or np.ptp(np.asarray(actual)) == 0 or np.ptp(np.asarray(predicted)) == 0:
        return float("nan")
    first, second = _centred_ranks(actual), _centred_ranks(predicted)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def rise_scores(*, actual: Numbers, predicted: Numbers) -> tuple[float, float, float]:
    """Compute precision, recall and F1 of "it rises" over the rows that moved."""
    _error(actual, predicted)
    moved = np.asarray(actual) != 0
    rose, said = np.asarray(actual)[moved] > 0, np.asarray(predicted)[moved] > 0
    hits = int(np.sum(rose & said))
    precision = hits / int(said.sum()) if said.any() else float("nan")
    recall = hits / int(rose.sum()) if rose.any() else float("nan")
    both = int(said.sum()) + int(rose.sum())
    return precision, recall, 2 * hits / both if both else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Squared errors of one forecast beside those of another, on the same rows.

    Attributes
    ----------
    gain
        Mean squared error of the reference minus that of the forecast; above 0 the forecast is better.
    standard_error
        Of `gain`, allowing for overlapping labels and for symbols moving together; NaN if there are too few
        independent outcomes to tell.
    minutes
        Minutes compared.
    """

    gain: float
    standard_error: float
    minutes: int

    @property
    def z(self) -> float:
        """How many standard errors the forecast is better by; NaN if that cannot be told."""
        if np.isnan(self.standard_error):
            return float("nan")
        if self.standard_error == 0:
            return float(np.sign(self.gain)) * float("inf") if self.gain else 0.0
        return self.gain / self.standard_error


def compare(
    *, actual: Numbers, predicted: Numbers, reference: Numbers, open_time_ms: Int64, horizon_minutes: int
) -> Comparison:
    """Compare squared errors the way of Diebold and Mariano.

    Rows of one minute are averaged first, as symbols move together; the variance of the mean allows for the
    correlation over twice the horizon that overlapping labels bring (Bartlett weights).
    """
    better = _error(actual, reference) ** 2 - _error(actual, predicted) ** 2
    if len(better) != len(open_time_ms):
        raise ValueError(f"{len(better)} rows but {len(open_time_ms)} open times")
    if not len(better):
        return Comparison(gain=float("nan"), standard_error=float("nan"), minutes=0)
    _, minute, count = np.unique(open_time_ms, return_inverse=True, return_counts=True)
    per_minute = np.bincount(minute, weights=better) / count
    gain = float(np.mean(per_minute))
    return Comparison(
        gain=gain,
        standard_error=_standard_error(per_minute - gain, 2 * horizon_minutes),
        minutes=len(per_minute),
    )


def _standard_error(centred: Float64, lags: int) -> float:
    count = len(centred)
    if count <= 2 * lags:
        return float("nan")
    variance = float(centred @ centred)
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    return float(np.sqrt(max(variance, 0.0))) / count


def _error(actual: Numbers, predicted: Numbers) -> Float64:
    if np.shape(actual) != np.shape(predicted):
        raise ValueError(f"{np.shape(actual)} actual values but {np.shape(predicted)} predicted ones")
    error: Float64 = np.asarray(actual, np.float64) - np.asarray(predicted, np.float64)
    return error


def _centred_ranks(values: Numbers) -> Float64:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2.0
    ranks: Float64 = middle[place] - (len(values) - 1) / 2.0
    return ranks

"""From a model's own odds of a rise to a probability to believe: Platt's sigmoid, fitted with reserve.

`calibrated = sigmoid(slope * log_odds + intercept)`, one pair of numbers a horizon, fitted by the logistic
regression of scikit-learn on rows that the model has not learned from. Outcomes of neighbouring minutes
overlap and symbols move together, so each row weighs one over the horizon and over the rows of its minute,
and a ridge draws both numbers towards 0: where there is little evidence, the answer stays near one half. That
the last days rose more than they fell says hardly anything about the next, so the intercept is held much
tighter than the slope. Source: Platt (1999), Probabilistic outputs for support vector machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.models.model import TrainingRows
from schemas.frames import Float32

#: How large both numbers are expected to be before anything is seen, in log-odds: the slope for a move of one
#: deviation of the model's own log-odds, so that a direction right in 55 of 100 cases is nothing special.
_SLOPE_DEVIATION = 0.2
_INTERCEPT_DEVIATION = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A sigmoid for each horizon.

    Attributes
    ----------
    slopes, intercepts
        One a horizon.
    """

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]

    def apply(self, log_odds: Float32) -> Float32:
        """Calibrate log-odds of shape (rows, horizons) to probabilities."""
        score = log_odds.astype(np.float64) * np.array(self.slopes) + np.array(self.intercepts)
        calibrated: Float32 = (1.0 / (1.0 + np.exp(-score))).astype(np.float32)
        return calibrated


def fit(*, log_odds: Float32, rows: TrainingRows, horizons: Sequence[int]) -> Calibration:
    """Fit a sigmoid for each horizon.

    Parameters
    ----------
    log_odds
        What the model says, shape (rows, horizons).
    rows
        What became of them; a row that did not move says nothing.
    horizons
        Minutes ahead of each column.
    """
    _, minute, count = np.unique(rows.open_time_ms, return_inverse=True, return_counts=True)
    beside = count[minute].astype(np.float64)
    pairs = [
        _fit_one(log_odds[:, column].astype(np.float64), rows.target_pct[:, column], horizon, beside)
        for column, horizon in enumerate(horizons)
    ]
    return Calibration(
        slopes=tuple(slope for slope, _ in pairs), intercepts=tuple(intercept for _, intercept in pairs)
    )


def _fit_one(log_odds: Any, target_pct: Any, horizon: int, beside: Any) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    moved = np.isfinite(target_pct) & (target_pct != 0)
    rose = target_pct[moved] > 0
    if not moved.any() or rose.all() or not rose.any():
        return 0.0, 0.0
    odds = log_odds[moved]
    scale = float(np.std(odds))
    if scale == 0.0:
        return 0.0, 0.0
    model = LogisticRegression(C=_SLOPE_DEVIATION**2, fit_intercept=False)
    inputs = np.stack([odds / scale, np.full(len(odds), _INTERCEPT_DEVIATION / _SLOPE_DEVIATION)], axis=1)
    model.fit(inputs, rose, sample_weight=1.0 / (horizon * beside[moved]))
    slope, lean = model.coef_[0].tolist()
    # a model that was wrong in the past is not turned around
    return max(0.0, slope / scale), lean * _INTERCEPT_DEVIATION / _SLOPE_DEVIATION


def nodes(calibration: Calibration, *, log_odds: str, output: str) -> tuple[list[Any], list[Any]]:
    """Write the sigmoid as ONNX nodes and constants, from log-odds to calibrated probabilities."""
    from onnx import helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.asarray(calibration.slopes, np.float32), "calibrate_slope"),
        numpy_helper.from_array(np.asarray(calibration.intercepts, np.float32), "calibrate_intercept"),
    ]
    chain = [
        helper.make_node("Mul", [log_odds, "calibrate_slope"], ["calibrate_scaled"]),
        helper.make_node("Add", ["calibrate_scaled", "calibrate_intercept"], ["calibrate_score"]),
        helper.make_node("Sigmoid", ["calibrate_score"], [output]),
    ]
    return chain, constants

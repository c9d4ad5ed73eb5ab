"""From a model's own odds of a rise to a probability to believe: Platt's sigmoid, fitted with reserve.

`calibrated = sigmoid(slope * log_odds + intercept)`, one pair of numbers a horizon, fitted by the logistic
regression of scikit-learn on rows that the model has not learned from. Outcomes of neighbouring minutes
overlap, so each row weighs one over the horizon, and a ridge draws the slope towards 0: where there is little
evidence, the answer stays near one half. Source: Platt (1999), Probabilistic outputs for support vector
machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.models.model import TrainingRows
from schemas.frames import Float32


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
    pairs = [
        _fit_one(log_odds[:, column].astype(np.float64), rows.target_pct[:, column], horizon)
        for column, horizon in enumerate(horizons)
    ]
    return Calibration(
        slopes=tuple(slope for slope, _ in pairs), intercepts=tuple(intercept for _, intercept in pairs)
    )


def _fit_one(log_odds: Any, target_pct: Any, horizon: int) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    moved = np.isfinite(target_pct) & (target_pct != 0)
    rose = target_pct[moved] > 0
    if not moved.any() or rose.all() or not rose.any():
        return 0.0, 0.0
    odds = log_odds[moved]
    scale = float(np.std(odds))
    if scale == 0.0:
        return 0.0, 0.0
    model = LogisticRegression(C=1.0)
    model.fit((odds / scale)[:, None], rose, sample_weight=np.full(len(rose), 1.0 / horizon))
    # a model that was wrong in the past is not turned around
    return max(0.0, float(model.coef_[0, 0]) / scale), float(model.intercept_[0])


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

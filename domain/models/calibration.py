"""From a model's own odds of a rise to a probability to believe: Platt's sigmoid, fitted with reserve.

`calibrated = sigmoid(slope * log_odds + intercept)`, one pair of numbers a horizon, fitted by the logistic
regression of scikit-learn on rows that the model has not learned from. Outcomes of neighbouring minutes
overlap and symbols move together, so all rows of a horizon's length count as one outcome, and a ridge draws
both numbers towards 0: where there is little evidence, the answer stays near one half. That the last days
rose more than they fell says hardly anything about the next, so the intercept is held much tighter than the
slope.

How much signal a market holds is not known before, so there are two ridges: one expects what markets hold,
the other far more. Each counts by how well it foretold the rows (its evidence, by Laplace's approximation),
the second with odds of one in ten at the start. Sources: Platt (1999), Probabilistic outputs for support
vector machines; MacKay (1992), Bayesian Interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.models.model import TrainingRows
from schemas.frames import MINUTE_MS, Float32, Float64, Int64

#: How large the slope is expected to be before anything is seen, in log-odds for a move of one deviation of
#: the model's own log-odds: 0.2 is a direction right in 55 of 100 cases, 1.0 in about 70.
_SLOPE_DEVIATIONS = (0.2, 1.0)
#: How likely each of them is before anything is seen.
_BELIEFS = (10 / 11, 1 / 11)
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
    pairs = [
        _fit_one(
            log_odds[:, column].astype(np.float64), rows.target_pct[:, column], rows.open_time_ms, horizon
        )
        for column, horizon in enumerate(horizons)
    ]
    return Calibration(
        slopes=tuple(slope for slope, _ in pairs), intercepts=tuple(intercept for _, intercept in pairs)
    )


def _fit_one(
    log_odds: Float64, target_pct: Float64, open_time_ms: Int64, horizon: int
) -> tuple[float, float]:
    moved = np.isfinite(target_pct) & (target_pct != 0)
    rose = target_pct[moved] > 0
    if not moved.any() or rose.all() or not rose.any():
        return 0.0, 0.0
    odds = log_odds[moved]
    scale = float(np.std(odds))
    if scale == 0.0:
        return 0.0, 0.0
    weights = _weights(open_time_ms[moved], horizon)
    found = [_ridge(odds / scale, rose, weights, deviation) for deviation in _SLOPE_DEVIATIONS]
    evidence = np.array([log_evidence for _, _, log_evidence in found])
    belief = np.array(_BELIEFS) * np.exp(evidence - evidence.max())
    belief /= belief.sum()
    # a model that was wrong in the past is not turned around
    slope = sum(float(share) * max(0.0, one) for share, (one, _, _) in zip(belief, found, strict=True))
    intercept = sum(float(share) * one for share, (_, one, _) in zip(belief, found, strict=True))
    return slope / scale, intercept


def _weights(open_time_ms: Int64, horizon: int) -> Float64:
    """Weigh rows so that a horizon's length of them counts as one, however many they are."""
    times, minute, count = np.unique(open_time_ms, return_inverse=True, return_counts=True)
    step_minutes = float(np.median(np.diff(times))) / MINUTE_MS if len(times) > 1 else 1.0
    weights: Float64 = min(1.0, step_minutes / horizon) / count[minute]
    return weights


def _ridge(
    odds: Float64, rose: NDArray[np.bool_], weights: Float64, deviation: float
) -> tuple[float, float, float]:
    """Fit slope and intercept under one expectation, and give its log evidence beside them."""
    from sklearn.linear_model import LogisticRegression

    lean = _INTERCEPT_DEVIATION / deviation
    inputs = np.stack([odds, np.full(len(odds), lean)], axis=1)
    model = LogisticRegression(C=deviation**2, fit_intercept=False)
    model.fit(inputs, rose, sample_weight=weights)
    found = model.coef_[0].astype(np.float64)
    score = inputs @ found
    chance = 1.0 / (1.0 + np.exp(-score))
    likelihood = float(weights @ (rose * score - np.logaddexp(0.0, score)))
    information = (inputs * (weights * chance * (1.0 - chance))[:, None]).T @ inputs
    _, volume = np.linalg.slogdet(np.eye(2) + deviation**2 * information)
    evidence = likelihood - float(found @ found) / (2 * deviation**2) - 0.5 * float(volume)
    return float(found[0]), float(found[1]) * lean, evidence


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

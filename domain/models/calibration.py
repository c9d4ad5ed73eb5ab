"""From a model's own probability of a rise to one that can be believed: Platt's sigmoid, fitted with reserve.

`calibrated = sigmoid(slope * logit(raw) + intercept)`, one pair of numbers a horizon, fitted by the logistic
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

#: Raw probabilities are kept this far from 0 and 1, so that their logit is finite.
_EDGE = 1e-6


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

    def apply(self, raw: Float32) -> Float32:
        """Calibrate probabilities of shape (rows, horizons)."""
        odds = _logit(raw.astype(np.float64))
        score = odds * np.array(self.slopes) + np.array(self.intercepts)
        calibrated: Float32 = (1.0 / (1.0 + np.exp(-score))).astype(np.float32)
        return calibrated


def fit(*, raw: Float32, rows: TrainingRows, horizons: Sequence[int]) -> Calibration:
    """Fit a sigmoid for each horizon.

    Parameters
    ----------
    raw
        The model's probabilities, shape (rows, horizons).
    rows
        What became of them; a row that did not move says nothing.
    horizons
        Minutes ahead of each column.
    """
    pairs = [
        _fit_one(raw[:, column].astype(np.float64), rows.target_pct[:, column], horizon)
        for column, horizon in enumerate(horizons)
    ]
    return Calibration(
        slopes=tuple(slope for slope, _ in pairs), intercepts=tuple(intercept for _, intercept in pairs)
    )


def _fit_one(raw: Any, target_pct: Any, horizon: int) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    moved = np.isfinite(target_pct) & (target_pct != 0)
    rose = target_pct[moved] > 0
    if not moved.any() or rose.all() or not rose.any():
        return 0.0, 0.0
    odds = _logit(raw[moved])
    scale = float(np.std(odds))
    if scale == 0.0:
        return 0.0, 0.0
    model = LogisticRegression(C=1.0)
    model.fit((odds / scale)[:, None], rose, sample_weight=np.full(len(rose), 1.0 / horizon))
    # a model that was wrong in the past is not turned around
    return max(0.0, float(model.coef_[0, 0]) / scale), float(model.intercept_[0])


def _logit(probability: Any) -> Any:
    kept = np.clip(probability, _EDGE, 1.0 - _EDGE)
    return np.log(kept / (1.0 - kept))


def nodes(calibration: Calibration, *, raw: str, output: str) -> tuple[list[Any], list[Any]]:
    """Write the sigmoid as ONNX nodes and constants, from the raw probabilities to the calibrated ones."""
    from onnx import helper, numpy_helper

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values, np.float32), f"calibrate_{name}")

    constants = [
        constant("low", _EDGE),
        constant("high", 1.0 - _EDGE),
        constant("one", 1.0),
        constant("slope", calibration.slopes),
        constant("intercept", calibration.intercepts),
    ]
    make = helper.make_node
    chain = [
        make("Clip", [raw, "calibrate_low", "calibrate_high"], ["calibrate_kept"]),
        make("Sub", ["calibrate_one", "calibrate_kept"], ["calibrate_rest"]),
        make("Div", ["calibrate_kept", "calibrate_rest"], ["calibrate_ratio"]),
        make("Log", ["calibrate_ratio"], ["calibrate_odds"]),
        make("Mul", ["calibrate_odds", "calibrate_slope"], ["calibrate_scaled"]),
        make("Add", ["calibrate_scaled", "calibrate_intercept"], ["calibrate_score"]),
        make("Sigmoid", ["calibrate_score"], [output]),
    ]
    return chain, constants

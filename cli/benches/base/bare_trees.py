"""The same trees by XGBoost alone: one matrix, and for each head one call of its `train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from domain.models.model import TrainingRows
from domain.models.xgboost_settings import XGBoostSettings

#: 1.4826 times the median absolute value is the standard deviation of a normal distribution around 0.
_MEDIAN = 1.4826


def fit(
    rows: TrainingRows, *, settings: XGBoostSettings, trees: Sequence[int], leaf_rows: Sequence[float]
) -> list[Any]:
    """Grow all heads without early stopping, calibration, checks or export.

    Parameters
    ----------
    trees
        Of each head: of the change and of the rise of the first horizon, of the second, and so on.
    leaf_rows
        Fewest rows in a leaf, of each horizon.
    """
    import xgboost as xgb

    matrix = xgb.QuantileDMatrix(
        rows.vectors, missing=np.nan, max_bin=settings.max_bin, nthread=settings.threads
    )
    boosters = []
    for number, rounds in enumerate(trees):
        column, is_rise = divmod(number, 2)
        target = rows.target_pct[:, column]
        known = np.isfinite(target)
        limit = settings.clip_deviations * _MEDIAN * float(np.median(np.abs(target[known])))
        label = target > 0 if is_rise else np.clip(np.where(known, target, 0.0), -limit, limit)
        counts = known & (target != 0) if is_rise else known
        matrix.set_info(label=label.astype(np.float64), weight=counts.astype(np.float32))
        # the second derivative of one row at the start
        row = 0.25 if is_rise else 1.0
        parameters = {
            "objective": "binary:logistic" if is_rise else "reg:squarederror",
            "base_score": 0.5 if is_rise else 0.0,
            "tree_method": "hist",
            "max_depth": settings.max_depth,
            "eta": settings.learning_rate,
            "min_child_weight": leaf_rows[column] * row,
            "reg_lambda": settings.reg_lambda_rows * row,
            "subsample": settings.subsample,
            "colsample_bytree": settings.colsample_bytree,
            "max_bin": settings.max_bin,
            "nthread": settings.threads,
            "seed": number,
            "verbosity": 0,
        }
        boosters.append(xgb.train(parameters, matrix, rounds))
    return boosters


def leaf_rows(rows: TrainingRows, settings: XGBoostSettings) -> list[float]:
    """Tell the fewest rows that a leaf may have, of each horizon, when these rows are learned from."""
    known = np.isfinite(rows.target_pct).sum(axis=0)
    return [max(float(settings.min_leaf_rows), settings.min_leaf_fraction * int(count)) for count in known]

"""Confidence intervals of the scores that are told beside each other: accuracy and skill."""

from __future__ import annotations

import numpy as np

from domain.evaluation.bootstrap import Interval, mean_interval, minute_sums, statistic_interval
from domain.evaluation.metrics import Numbers, directional_hits
from schemas.frames import Float64, Int64


def accuracy_interval(
    *,
    actual: Numbers,
    predicted: Numbers,
    open_time_ms: Int64,
    horizon_minutes: int,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
) -> Interval:
    """Give directional accuracy with its block-bootstrap interval; rows that did not move are left out.

    The estimate equals `metrics.directional_accuracy`. A forecast that never takes a side has no interval.
    """
    hits = directional_hits(actual=actual, predicted=predicted)
    moved = np.asarray(actual) != 0
    return mean_interval(
        values=hits[moved],
        open_time_ms=np.asarray(open_time_ms)[moved],
        horizon_minutes=horizon_minutes,
        level=level,
        draws=draws,
        seed=seed,
    )


def skill_interval(
    *,
    actual: Numbers,
    predicted: Numbers,
    open_time_ms: Int64,
    horizon_minutes: int,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
) -> Interval:
    """Give the skill against no change with its block-bootstrap interval; see `metrics.skill`.

    It describes how sure the number is. Whether there is skill at all, after everything that was tried, is
    for `evidence` to say.
    """
    outcome = np.asarray(actual, np.float64)
    squares = np.column_stack([(outcome - np.asarray(predicted, np.float64)) ** 2, outcome**2])
    sums = minute_sums(columns=squares, open_time_ms=open_time_ms, horizon_minutes=horizon_minutes)
    return statistic_interval(sums=sums, statistic=_skill, level=level, draws=draws, seed=seed)


def _skill(totals: Float64) -> Float64:
    skill: Float64 = 1.0 - totals[..., 0] / totals[..., 1]
    return skill

"""The score of a model on the rows behind its training cut, with how sure it is: what live is held against.

Only scores that a quiet and a wild week have in common are in it: skill against no change, directional
accuracy and the Brier score. A root mean square error rises and falls with the market.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain.evaluation.bootstrap import minute_sums, standard_error_of_mean
from domain.evaluation.metrics import Numbers, directional_hits
from schemas.frames import Float64, Int64

#: What a forecast that takes no side earns: it says one half.
NO_SIDE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForwardScore:
    """Scores on rows that a model has not learned from.

    Attributes
    ----------
    rows, moved
        Rows scored, and those whose price moved, which alone have a direction.
    skill
        1 minus the squared error over that of no change.
    accuracy, brier
        Share of right directions, and mean squared distance of probability and outcome; over the moved rows.
    skill_error, accuracy_error, brier_error
        Standard errors, of blocks of minutes with all symbols together; NaN with too few blocks.
    blocks
        Independent blocks that the standard errors rest on.
    """

    rows: int
    moved: int
    skill: float
    skill_error: float
    accuracy: float
    accuracy_error: float
    brier: float
    brier_error: float
    blocks: int


def walk_forward_score(
    *,
    actual: Numbers,
    predicted: Numbers,
    probability_up: Numbers,
    open_time_ms: Int64,
    horizon_minutes: int,
) -> WalkForwardScore:
    """Score forecasts the way that the live scores are made, and say how sure each score is.

    Where a forecast is no number, all scores are NaN: such a model is refused elsewhere.

    Parameters
    ----------
    actual, predicted
        Percent changes; a forecast of exactly zero takes no side.
    probability_up
        Stated probability of a rise.
    open_time_ms
        Of each row, in any order, several symbols in one minute, gaps allowed.
    horizon_minutes
        How far ahead the forecasts look.

    Raises
    ------
    ValueError
        If lengths differ.
    """
    outcome, said = np.asarray(actual, np.float64), np.asarray(predicted, np.float64)
    up = np.asarray(probability_up, np.float64)
    if outcome.shape != up.shape:
        raise ValueError(f"{outcome.shape} actual values but {up.shape} probabilities")
    if not (np.isfinite(said) & np.isfinite(up)).all():
        outcome = said = up = np.full_like(outcome, np.nan)
    hits = directional_hits(actual=outcome, predicted=said)
    moved = np.isfinite(hits)
    times = np.asarray(open_time_ms)
    brier = np.where(said == 0.0, NO_SIDE, (up - (outcome > 0.0)) ** 2)
    no_change = outcome**2
    skill, skill_error, blocks = _ratio(no_change - (outcome - said) ** 2, no_change, times, horizon_minutes)
    ones = np.ones(int(moved.sum()))
    accuracy, accuracy_error, moved_blocks = _ratio(hits[moved], ones, times[moved], horizon_minutes)
    probability, brier_error, _ = _ratio(brier[moved], ones, times[moved], horizon_minutes)
    return WalkForwardScore(
        rows=len(outcome),
        moved=len(ones),
        skill=skill,
        skill_error=skill_error,
        accuracy=accuracy,
        accuracy_error=accuracy_error,
        brier=probability,
        brier_error=brier_error,
        blocks=min(blocks, moved_blocks),
    )


def _ratio(
    numerator: Float64, denominator: Float64, open_time_ms: Int64, horizon_minutes: int
) -> tuple[float, float, int]:
    """Give the ratio of two sums, its standard error by the delta method, and the independent blocks."""
    total = float(denominator.sum())
    if not total > 0.0:  # NaN is not
        return float("nan"), float("nan"), 0
    ratio = float(numerator.sum()) / total
    sums = minute_sums(
        columns=numerator - ratio * denominator, open_time_ms=open_time_ms, horizon_minutes=horizon_minutes
    )
    return ratio, standard_error_of_mean(sums) * len(sums.grid) / total, sums.blocks

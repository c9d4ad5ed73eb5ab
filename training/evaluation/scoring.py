"""How forecasts did on the rows whose outcome is known: one horizon of one family and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from domain.evaluation.bootstrap import Interval, mean_interval
from domain.evaluation.calibration_scores import (
    ReliabilityPoint,
    brier_score,
    expected_calibration_error,
    reliability_points,
)
from domain.evaluation.evidence import SkillTest, measure_skill
from domain.evaluation.metrics import (
    directional_accuracy,
    information_coefficient,
    mae,
    r2,
    rmse,
    skill,
)
from domain.evaluation.score_intervals import accuracy_interval, skill_interval
from domain.features.labels import percent_change_by_symbol
from schemas.frames import MINUTE_MS, Bool, Float64, Int64
from training.evaluation.history import History
from training.evaluation.serving import Said

#: Nominal coverages, as their columns are named.
LEVELS = ("80", "95")
HOURS_A_DAY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """How forecasts did on some of the rows, such as those of one regime or hour."""

    n: int
    rmse: float
    mae: float
    skill: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonScores:
    """How the forecasts of one horizon did.

    Attributes
    ----------
    n
        Rows scored.
    rmse, mae
        Percent.
    skill, skill_ci
        1 minus the squared error over that of no change.
    accuracy, accuracy_ci
        Of the direction, with its block-bootstrap interval.
    ic
        Spearman's rank correlation of stated and actual.
    coverage, coverage_ci
        By nominal level; NaN where no interval was stated.
    modelled
        Share of the rows at which a model spoke.
    by_regime, by_hour
        By name, and by hour of the event time, UTC.
    test
        What evidence of skill rests on.
    reliability
        Points of the reliability diagram.
    """

    n: int
    rmse: float
    mae: float
    r2: float
    skill: float
    skill_ci: tuple[float, float]
    accuracy: float
    accuracy_ci: tuple[float, float]
    ic: float
    brier: float
    ece: float
    coverage: Mapping[str, float]
    coverage_ci: Mapping[str, tuple[float, float]]
    width_pct: Mapping[str, float]
    modelled: float
    blocks: int
    by_regime: Mapping[str, GroupScores]
    by_hour: Mapping[str, GroupScores]
    test: SkillTest
    reliability: tuple[ReliabilityPoint, ...]


def outcomes_pct(history: History, horizons: tuple[int, ...]) -> Float64:
    """Compute what became of every row, shape (rows, horizons); NaN where that is not known."""
    frame = history.frame
    change = partial(
        percent_change_by_symbol,
        symbol_index=frame.symbol_index,
        open_time_ms=frame.open_time_ms,
        close=np.ascontiguousarray(frame.ohlcv[:, 3]),
    )
    return np.stack([change(horizon_minutes=horizon) for horizon in horizons], axis=1)


def scored_rows(said: Said, actual: Float64) -> Bool:
    """Tell which forecasts are scored, shape (rows, horizons): stated by a model, and with an outcome."""
    chosen: Bool = said.has_model & said.is_stated[:, None] & np.isfinite(actual)
    return chosen


def horizon_scores(
    *,
    history: History,
    said: Said,
    actual: Float64,
    chosen: Bool,
    horizon: int,
    family: str,
    seed: int,
    draws: int = 1000,
) -> HorizonScores:
    """Score one horizon.

    Parameters
    ----------
    history, said
        The rows, and what was said at them.
    actual, chosen
        Shape (rows, horizons): what became of them, and which of them count.
    horizon
        Minutes ahead.
    family
        Whose forecasts.
    seed, draws
        Of the resampling.
    """
    column = said.horizons.index(horizon)
    rows = np.flatnonzero(chosen[:, column])
    went = actual[rows, column]
    stated = said.predicted_pct[rows, column]
    times = history.frame.open_time_ms[rows]
    moved = went != 0.0
    up, rose = said.probability_up[rows, column][moved], went[moved] > 0.0
    resampled = partial(_sampled, times=times, horizon=horizon, seed=seed, draws=draws)
    bounds = {level: _bounds(said, rows, column, level) for level in LEVELS}
    covered = {level: resampled(_inside(went, *bounds[level])) for level in LEVELS}
    right = accuracy_interval(
        actual=went, predicted=stated, open_time_ms=times, horizon_minutes=horizon, seed=seed, draws=draws
    )
    better = skill_interval(
        actual=went, predicted=stated, open_time_ms=times, horizon_minutes=horizon, seed=seed, draws=draws
    )
    hour = (times + MINUTE_MS) // (60 * MINUTE_MS) % HOURS_A_DAY
    regime = said.regime[rows]
    return HorizonScores(
        n=len(rows),
        rmse=rmse(actual=went, predicted=stated),
        mae=mae(actual=went, predicted=stated),
        r2=r2(actual=went, predicted=stated),
        skill=skill(actual=went, predicted=stated),
        skill_ci=(better.low, better.high),
        accuracy=directional_accuracy(actual=went, predicted=stated),
        accuracy_ci=(right.low, right.high),
        ic=information_coefficient(actual=went, predicted=stated),
        brier=brier_score(probability_up=up, rose=rose),
        ece=expected_calibration_error(probability_up=up, rose=rose),
        coverage={level: found.estimate for level, found in covered.items()},
        coverage_ci={level: (found.low, found.high) for level, found in covered.items()},
        width_pct={level: _mean(high - low) for level, (low, high) in bounds.items()},
        modelled=_mean(said.has_model[rows, column].astype(np.float64)),
        blocks=better.blocks,
        by_regime={
            name: _group(went, stated, regime == number)
            for number, name in enumerate(said.regimes)
            if (regime == number).any()
        },
        by_hour={
            f"{number:02d}": _group(went, stated, hour == number)
            for number in range(HOURS_A_DAY)
            if (hour == number).any()
        },
        test=measure_skill(
            family=family, horizon_minutes=horizon, actual=went, predicted=stated, open_time_ms=times
        ),
        reliability=reliability_points(probability_up=up, rose=rose),
    )


def _bounds(said: Said, rows: Int64, column: int, level: str) -> tuple[Float64, Float64]:
    low, high = (said.bounds[f"{side}_{level}"][rows, column] for side in ("lower", "upper"))
    return low, high


def _inside(went: Float64, low: Float64, high: Float64) -> Float64:
    """Mark what an interval holds; NaN where none was stated."""
    inside = ((low <= went) & (went <= high)).astype(np.float64)
    return np.where(np.isnan(low) | np.isnan(high), np.nan, inside)


def _sampled(values: Float64, *, times: Int64, horizon: int, seed: int, draws: int) -> Interval:
    known = np.isfinite(values)
    if not known.any():
        nan = float("nan")
        return Interval(estimate=nan, low=nan, high=nan, level=0.95, blocks=0)
    return mean_interval(
        values=values[known], open_time_ms=times[known], horizon_minutes=horizon, seed=seed, draws=draws
    )


def _group(went: Float64, stated: Float64, mine: Bool) -> GroupScores:
    actual, predicted = went[mine], stated[mine]
    return GroupScores(
        n=len(actual),
        rmse=rmse(actual=actual, predicted=predicted),
        mae=mae(actual=actual, predicted=predicted),
        skill=skill(actual=actual, predicted=predicted),
        accuracy=directional_accuracy(actual=actual, predicted=predicted),
    )


def _mean(values: Float64) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if len(known) else float("nan")

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from .markets import DAY_MINUTES, MARKETS, Effects, Float64, PlantedMarket, keep, plant
from .optimum import best_accuracy, kalman_gain, probability_up

HORIZONS = (5, 30, 60)
DAYS = 15
#: Minutes over which the rules that try to cheat look back.
BACK = (1, 3, 10, 30, 90, 240)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A market after its first day, without the leader; all arrays of shape (minutes, symbols)."""

    market: PlantedMarket
    horizon: int
    up: Float64
    told: Float64  # the same by the oracle
    coming: Float64


@pytest.fixture(scope="module", params=[(name, horizon) for name in MARKETS for horizon in HORIZONS], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    name, horizon = request.param
    market = plant(MARKETS[name], followers=6, days=DAYS + 1, seed=33)
    logs = np.cumsum(market.returns, axis=0)
    coming = np.full(logs.shape, np.nan)
    coming[:-horizon] = logs[horizon:] - logs[:-horizon]
    up = probability_up(market, horizon)[DAY_MINUTES:, 1:]
    told = probability_up(market, horizon, oracle=True)[DAY_MINUTES:, 1:]
    return Case(market=market, horizon=horizon, up=up, told=told, coming=coming[DAY_MINUTES:, 1:])


# Means of each day, over the rows whose future is known: days are all but independent.
def _by_day(case: Case, values: Float64) -> Float64:
    known = np.where(np.isnan(case.coming), np.nan, values)
    return np.nanmean(known.reshape(DAYS, -1), axis=1)


# In standard errors: of the spread between days, but no less than of outcomes that do not overlap, as a few
# days may be alike by chance. `share` is that of the rows that count.
def _z(case: Case, by_day: Float64, share: float = 1.0) -> float:
    spread = by_day.std(ddof=1) / math.sqrt(len(by_day))
    least = 0.4 * math.sqrt(share * case.horizon / case.up.size)
    return float(by_day.mean() / max(spread, least))


def test_the_best_forecast_is_right_as_often_as_it_says(case: Case) -> None:
    for up in (case.up, case.told):
        surprise = ((up > 0.5) == (case.coming > 0)) - np.maximum(up, 1 - up)
        assert abs(_z(case, _by_day(case, surprise))) < 4
        # also where it is sure: each probability is right, not just their mean
        sure = np.abs(up - 0.5) > np.quantile(np.abs(up - 0.5), 0.8)
        assert abs(_z(case, _by_day(case, np.where(sure, surprise, 0.0)), 0.2)) < 4


def test_the_bound_agrees_with_what_the_best_forecast_reaches_elsewhere(case: Case) -> None:
    best = best_accuracy(case.market.effects, (case.horizon,), symbols=6, days=6)[case.horizon]
    reached = _by_day(case, (case.up > 0.5) == (case.coming > 0))
    error = math.hypot(best.standard_error, reached.std(ddof=1) / math.sqrt(DAYS))
    assert abs(reached.mean() - best.accuracy) < 4 * error
    assert 0.52 < best.accuracy < 0.65
    assert best.oracle > best.accuracy - 1e-3


def test_no_cheat_beats_the_best_forecast(case: Case) -> None:
    logs = np.cumsum(case.market.returns, axis=0)
    past = np.stack([logs[DAY_MINUTES:] - logs[DAY_MINUTES - back : -back] for back in BACK], axis=-1)[:, 1:]
    # a rule may even choose its weights knowing the answers
    known = np.isfinite(case.coming)
    weights = np.linalg.lstsq(past[known][::7], case.coming[known][::7], rcond=None)[0]
    best = (case.up > 0.5) == (case.coming > 0)
    for said in (*np.moveaxis(past, -1, 0), past @ weights):
        hit = (said > 0) == (case.coming > 0)
        for rule in (hit, ~hit):
            better = _by_day(case, rule.astype(float) - best)
            assert better.mean() < 0.002 or _z(case, better) < 2.5


def test_without_effects_nothing_can_be_foreseen() -> None:
    for effects in MARKETS.values():
        best = best_accuracy(effects.scaled(0.0), (5, 60), symbols=2, days=2)
        for found in best.values():
            assert (found.accuracy, found.oracle) == (pytest.approx(0.5), pytest.approx(0.5))


def test_stronger_effects_can_be_foreseen_better() -> None:
    for effects in MARKETS.values():
        weak, strong = (
            best_accuracy(effects.scaled(strength), (15,), symbols=2, days=4)[15].accuracy
            for strength in (0.5, 1.0)
        )
        assert 0.5 < weak < strong


@pytest.mark.parametrize("horizon", [5, 60])
def test_the_bound_of_a_hidden_drift_is_the_one_of_the_textbook(horizon: int) -> None:
    # for a normal signal s in a normal sum of variance v: 1/2 + asin(sqrt(s²/v))/pi
    effects = Effects(drift=0.15, drift_half_life=60)
    kept, variance = keep(60), 0.15**2
    lag = np.arange(horizon)
    total = horizon + variance * (kept ** np.abs(lag[:, None] - lag)).sum()
    signal = (variance - kalman_gain(effects)[1]) * (kept ** (lag + 1)).sum() ** 2
    best = best_accuracy(effects, (horizon,), symbols=12, days=10)[horizon]
    assert best.accuracy == pytest.approx(
        0.5 + math.asin(math.sqrt(signal / total)) / math.pi, abs=4 * best.standard_error
    )


def test_the_bound_of_a_season_is_the_one_of_the_textbook() -> None:
    effects = Effects(season=0.06)
    best = best_accuracy(effects, (30,), symbols=1, days=2)[30]
    start = np.arange(DAY_MINUTES)
    ahead = sum(np.sin(2 * np.pi * (start + k) / DAY_MINUTES) for k in range(1, 31))
    drift = 0.06 * ahead / math.sqrt(30)
    right = [0.5 * (1 + math.erf(abs(x) / math.sqrt(2))) for x in drift]
    assert best.accuracy == pytest.approx(np.mean(right), abs=1e-9)

"""Intervals: where they start, how they learn, and that they hold when volatility moves."""

import math

import numpy as np
import pytest

from domain.forecasting.conformal import MISSES, MOST, STEPS, expected_errors, starting_quantiles
from domain.forecasting.stated import (
    ACTUAL,
    CONFIDENCE,
    PREDICTED,
    REFERENCE,
    TREND,
    VOLATILITY,
    StatedForecasts,
    hundredths,
)

HORIZON = 5


def advance(stated: StatedForecasts, actual: np.ndarray, **given) -> object:
    """One symbol, one horizon, one row a minute from minute 0 on; types as (rows, 3)."""
    n = len(actual)
    predicted = given.get("predicted", np.tile([0.0, 0.1, 0.0], (n, 1)))
    settles = ~np.isnan(actual).all(axis=1) & given.get("settles", np.ones(n, bool))
    return stated.advance(
        symbol_index=np.zeros(n, np.int64),
        minute=np.arange(n) + given.get("first", 0),
        issued=np.ones(n, bool),
        settles=settles[:, None],
        actual=actual[:, None, :],
        predicted=predicted[:, None, :].astype(np.float32),
        reference_pct=np.full((n, 1), given.get("reference", np.nan)),
        confidence=np.full((n, 1, 3), given.get("confidence", 52.475)),
        widen=np.full((n, 1), given.get("widen", 1.0)),
        lift=given.get("lift"),
        version=np.full((n, 1), 7, np.int32),
    )


def fresh() -> StatedForecasts:
    return StatedForecasts(symbols=1, horizons=(HORIZON,))


def test_first_interval_of_a_price_is_the_starting_quantile_of_the_expected_move():
    said = advance(fresh(), np.full((1, 3), np.nan)).said[0, 0, 0]
    near, far = starting_quantiles((HORIZON,))[0, 0, [0, 2]]
    move = 0.1 * math.sqrt(5)
    assert said == pytest.approx([0.0, -near * move, near * move, -far * move, far * move], rel=1e-3)


def test_a_price_interval_is_widened_as_asked_and_no_other_one():
    plain = advance(fresh(), np.full((1, 3), np.nan)).said[0, 0]
    wide = advance(fresh(), np.full((1, 3), np.nan), widen=1.5).said[0, 0]
    assert wide[0] == pytest.approx(1.5 * plain[0], rel=2e-3)
    assert np.array_equal(wide[VOLATILITY], plain[VOLATILITY])
    assert np.array_equal(wide[TREND], plain[TREND])


@pytest.mark.parametrize("forecast_type", [0, VOLATILITY, TREND])
def test_quantiles_that_are_lifted_go_on_from_there(forecast_type):
    lift = np.ones((1, 1, 3, 2))
    lift[0, 0, forecast_type, 0] = 1.5
    stated, plain = fresh(), fresh()
    nothing = np.full((1, 3), np.nan)
    advance(stated, nothing, lift=lift)
    advance(plain, nothing)
    raised = stated.quantile / plain.quantile
    assert raised[0, 0, forecast_type, :2] == pytest.approx([1.5, 1.5])
    raised[0, 0, forecast_type, :2] = 1.0
    assert np.array_equal(raised, np.ones_like(raised))
    # Outcomes that never miss take it back; from there on both learn alike.
    minutes = 600
    inside = np.tile([0.0, 0.1, 0.0], (minutes, 1))
    before = stated.quantile.copy()
    advance(stated, inside, first=1)
    assert (stated.quantile[0, 0, forecast_type, :2] < before[0, 0, forecast_type, :2] / 1.5).all()


def test_lifted_quantile_stays_within_its_bounds():
    stated = fresh()
    for first in range(5):
        advance(stated, np.full((1, 3), np.nan), first=first, lift=np.full((1, 1, 3, 2), 10.0))
    limit = MOST * starting_quantiles((HORIZON,))
    assert stated.quantile[0] == pytest.approx(limit)


def test_interval_of_a_volatility_reaches_further_up_than_down():
    _, lower, upper, lower_95, upper_95 = advance(fresh(), np.full((1, 3), np.nan)).said[0, 0, VOLATILITY]
    assert 0 < lower_95 < lower < 0.1 < upper < upper_95
    assert upper_95 - 0.1 > 0.1 - lower_95


def test_slope_of_a_random_walk_deviates_as_expected():
    chance = np.random.default_rng(3)
    walks = np.cumsum(chance.normal(size=(40_000, HORIZON)), axis=1)
    slopes = 60.0 * np.polyfit(np.arange(HORIZON), walks.T, 1)[0]
    assert np.std(slopes) == pytest.approx(expected_errors((HORIZON,))[0, TREND], rel=0.02)


def test_outcome_moves_the_quantile_only_of_forecasts_stated_after_it():
    stated = fresh()
    actual = np.full((8, 3), np.nan)
    actual[5] = [50.0, 0.1, 0.0]
    said = advance(stated, actual).said[:, 0, 0, 2]
    assert len(set(said[:5])) == 1
    risen = math.exp(STEPS[0] / HORIZON * (1 - MISSES[0]))
    assert said[5:] / said[0] == pytest.approx(risen, rel=1e-3)


def test_hit_narrows_the_interval_by_a_quarter_of_what_a_miss_widens_it_at_80_percent():
    stated = fresh()
    before = stated.quantile[0, 0, 0, 0]
    actual = np.full((6, 3), np.nan)
    actual[5, 0] = 0.0
    advance(stated, actual)
    narrowed = 1 - stated.quantile[0, 0, 0, 0] / before
    assert narrowed == pytest.approx(STEPS[0] / HORIZON * 0.2, rel=1e-3)


def test_quantiles_of_one_type_do_not_move_those_of_another():
    stated = fresh()
    before = stated.quantile.copy()
    actual = np.full((6, 3), np.nan)
    actual[5, TREND] = 1e6
    advance(stated, actual)
    assert (stated.quantile[:, :, :TREND] == before[:, :, :TREND]).all()
    assert (stated.quantile[:, :, TREND] > before[:, :, TREND]).all()


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_coverage_holds_though_the_stated_volatility_is_off_by_half_or_twice(spread):
    chance = np.random.default_rng(11)
    n = 60_000
    # Overlapping moves of five minutes, whose volatility doubles and halves on the way.
    wave = np.exp2(np.sin(np.arange(n) / 3000))
    moves = np.convolve(0.1 * spread * wave * chance.standard_t(4, n) / math.sqrt(2), np.ones(5))[:n]
    actual = np.full((n, 3), np.nan)
    actual[5:, 0] = moves[5:]
    judged = advance(fresh(), actual)
    past = judged.past[5:, 0, 0]
    for level, lower in ((0.80, 1), (0.95, 3)):
        inside = (past[:, lower] <= past[:, ACTUAL]) & (past[:, ACTUAL] <= past[:, lower + 1])
        assert inside.mean() == pytest.approx(level, abs=0.01)


def test_each_side_of_a_volatility_misses_half_of_what_may():
    chance = np.random.default_rng(5)
    n = 60_000
    actual = np.full((n, 3), np.nan)
    actual[5:, VOLATILITY] = 0.08 * np.exp(0.3 * chance.gumbel(size=n - 5))
    past = advance(fresh(), actual).past[20_000:, 0, VOLATILITY]
    below, above = past[:, ACTUAL] < past[:, 1], past[:, ACTUAL] > past[:, 2]
    assert below.mean() == pytest.approx(0.1, abs=0.01)
    assert above.mean() == pytest.approx(0.1, abs=0.01)


def test_wider_level_is_never_the_narrower_one():
    stated = fresh()
    stated.quantile[0, 0, :, :2], stated.quantile[0, 0, :, 2:] = 3.0, 1.0
    said = advance(stated, np.full((1, 3), np.nan)).said[0, 0]
    assert (said[:, 3] <= said[:, 1]).all()
    assert (said[:, 2] <= said[:, 4]).all()


def test_intervals_that_are_four_times_too_narrow_are_wide_enough_after_a_dozen_horizons():
    stated = fresh()
    actual = np.full((12 * HORIZON + 6, 3), np.nan)
    actual[5:, 0] = 4.0 * stated.quantile[0, 0, 0, 0] * 0.1 * math.sqrt(5)
    past = advance(stated, actual).past[5:, 0, 0]
    missed = past[:, ACTUAL] > past[:, 2]
    assert missed[: 8 * HORIZON].all()
    assert not missed[-1]


def test_market_that_stands_still_keeps_a_twentieth_of_the_interval():
    stated = fresh()
    actual = np.full((20_000, 3), np.nan)
    actual[5:] = [0.0, 0.1, 0.0]
    advance(stated, actual)
    assert stated.quantile == pytest.approx(starting_quantiles((HORIZON,))[None] / MOST)


def test_what_is_judged_is_what_the_table_shows():
    stated = fresh()
    actual = np.full((6, 3), np.nan)
    actual[5] = [0.123456789, 0.1, -2.000000004]
    past = advance(stated, actual, confidence=52.475247, reference=0.2).past[5, 0]
    assert past[0, ACTUAL] == 0.12345679
    assert past[TREND, ACTUAL] == -2.0
    assert past[VOLATILITY, PREDICTED] == 0.1
    assert (past[:, CONFIDENCE] == 0.5248).all()
    assert past[VOLATILITY, REFERENCE] == pytest.approx(0.2)
    assert past[0, REFERENCE] == past[TREND, REFERENCE] == 0.0


def test_where_no_volatility_was_seen_the_stated_one_is_the_reference():
    actual = np.full((6, 3), np.nan)
    actual[5] = 0.1
    past = advance(fresh(), actual).past[5, 0]
    assert past[VOLATILITY, REFERENCE] == pytest.approx(0.1)


def test_confidence_is_rounded_as_its_column_is():
    assert hundredths(np.array([0.0, 52.475247, 99.999, 100.0])).tolist() == [0, 5248, 10000, 10000]

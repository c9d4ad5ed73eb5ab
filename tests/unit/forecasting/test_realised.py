"""Realised volatility, slope and efficiency against numbers worked out by hand or by other means."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.forecasting.realised import CloseHistory


def measure(minutes: list[int], closes: list[float], *, windows=(5,), horizons=(5,)):
    history = CloseHistory(symbols=1, windows=windows, horizons=horizons)
    zeros = np.zeros(len(minutes), np.int64)
    return history.advance(zeros, np.array(minutes, np.int64), np.array(closes, float))


def test_volatility_is_the_sample_deviation_of_one_minute_log_returns_in_percent():
    closes = [100.0, 101.0, 100.0, 102.0, 101.0, 103.0]
    returns = [math.log(b / a) for a, b in itertools.pairwise(closes)]
    seen = measure([10, 11, 12, 13, 14, 15], closes)
    assert seen.volatility_pct[-1, 0] == pytest.approx(100 * statistics.stdev(returns), rel=1e-12)
    # By hand: returns 0.00995, -0.00995, 0.01980, -0.00985, 0.01961;
    # their squares about the mean sum to 0.000897.
    assert seen.volatility_pct[-1, 0] == pytest.approx(1.4975, abs=1e-4)


def test_slope_of_a_steady_rise_of_one_hundredth_percent_a_minute_is_six_tenths_percent_an_hour():
    closes = [100.0 * math.exp(0.0001 * k) for k in range(8)]
    seen = measure(list(range(8)), closes)
    assert seen.slope_pct_per_hour[-1, 0] == pytest.approx(0.6, rel=1e-9)


def test_slope_counts_the_closes_of_the_window_only():
    # Of the last five, log closes are 0, 0, 0, 0, 0.01: slope by hand 0.01 * 2 / 10 a minute.
    closes = [50.0, 100.0, 100.0, 100.0, 100.0, 100.0 * math.exp(0.01)]
    seen = measure(list(range(6)), closes)
    assert seen.slope_pct_per_hour[-1, 0] == pytest.approx(0.002 * 6000, rel=1e-9)


def test_change_is_from_the_close_that_many_minutes_ago():
    seen = measure([0, 1, 2, 3, 4, 5], [100.0, 1.0, 1.0, 1.0, 1.0, 102.5])
    assert seen.change_pct[-1, 0] == pytest.approx(2.5)
    assert np.isnan(seen.change_pct[:5, 0]).all()


def test_change_has_no_value_where_the_earlier_minute_is_absent():
    seen = measure([1, 2, 3, 4, 5], [1.0] * 5)
    assert np.isnan(seen.change_pct[-1, 0])


def test_window_of_ten_with_one_absent_minute_has_both_values_and_with_two_only_the_slope():
    one = measure([0, 1, 2, 3, 5, 6, 7, 8, 9, 10], [100.0 + k % 3 for k in range(10)], windows=(10,))
    # Ten minutes 1..10 without minute 4: nine closes, eight returns.
    assert np.isfinite(one.volatility_pct[-1, 0])
    assert np.isfinite(one.slope_pct_per_hour[-1, 0])
    two = measure([0, 1, 2, 3, 5, 7, 8, 9, 10], [100.0 + k % 3 for k in range(9)], windows=(10,))
    # Without 4 and 6: eight closes are 80%, six returns are not.
    assert np.isnan(two.volatility_pct[-1, 0])
    assert np.isfinite(two.slope_pct_per_hour[-1, 0])


def test_last_known_value_stays_while_the_present_one_is_missing():
    seen = measure([0, 1, 2, 3, 4, 5, 100], [100.0, 101.0, 100.0, 102.0, 101.0, 103.0, 104.0])
    assert np.isnan(seen.volatility_pct[-1, 0])
    assert seen.known_volatility_pct[-1, 0] == seen.volatility_pct[-2, 0]


def test_efficiency_of_a_straight_hour_is_one_and_of_a_zigzag_zero():
    straight = measure(list(range(61)), [100.0 * 1.001**k for k in range(61)])
    zigzag = measure(list(range(61)), [100.0 + k % 2 for k in range(61)])
    assert straight.efficiency[-1] == pytest.approx(1.0)
    assert zigzag.efficiency[-1] == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(1.0, 1000.0)), min_size=2, max_size=80),
    st.integers(0, 80),
)
def test_measurements_do_not_depend_on_how_candles_are_divided_into_calls(steps, cut):
    minutes = np.cumsum([gap for gap, _ in steps])
    closes = np.array([close for _, close in steps])
    zeros = np.zeros(len(steps), np.int64)
    whole = CloseHistory(symbols=1, windows=(5, 20), horizons=(3, 5)).advance(zeros, minutes, closes)
    parts = CloseHistory(symbols=1, windows=(5, 20), horizons=(3, 5))
    first = parts.advance(zeros[:cut], minutes[:cut], closes[:cut])
    second = parts.advance(zeros[cut:], minutes[cut:], closes[cut:])
    for name in ("volatility_pct", "slope_pct_per_hour", "known_volatility_pct", "efficiency", "change_pct"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        assert np.array_equal(getattr(whole, name), joined, equal_nan=True)

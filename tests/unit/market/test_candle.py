"""No impossible candle passes, and every possible one does."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.market.candle import Candle, candle_of, fault_of, is_ahead, jumps, last_final_ms
from schemas.frames import MINUTE_MS

GOOD = Candle(60_000, 10.0, 12.0, 9.0, 11.0, 5.0)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, None),
        ({"volume": 0.0}, None),
        ({"open_time_ms": 60_001}, "unaligned"),
        ({"open_time_ms": -60_000}, "unaligned"),
        ({"open": math.nan}, "not_finite"),
        ({"high": math.inf}, "not_finite"),
        ({"volume": math.nan}, "not_finite"),
        ({"volume": math.inf}, "not_finite"),
        ({"low": -1.0}, "price"),
        ({"low": 0.0}, "price"),
        ({"open": -10.0}, "price"),
        ({"volume": -0.1}, "volume"),
        ({"high": 8.0}, "range"),
        ({"open": 13.0}, "outside"),
        ({"close": 8.5}, "outside"),
    ],
)
def test_what_makes_a_candle_impossible_is_named(changes, kind):
    assert fault_of(GOOD._replace(**changes)) == kind


@given(
    st.floats(1e-9, 1e9), st.floats(1.0, 2.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1e12)
)
def test_every_candle_whose_prices_lie_between_low_and_high_is_possible(low, spread, opened, closed, volume):
    high = low * spread
    inside = [min(max(low + part * (high - low), low), high) for part in (opened, closed)]
    assert fault_of(Candle(0, inside[0], high, low, inside[1], volume)) is None


@pytest.mark.parametrize(
    "fields",
    [
        ("soon", 1, 1, 1, 1, 1),
        (60_000.5, 1, 1, 1, 1, 1),
        (math.nan, 1, 1, 1, 1, 1),
        (60_000, None, 1, 1, 1, 1),
        (60_000, "one", 1, 1, 1, 1),
        (60_000, True, 1, 1, 1, 1),
        (60_000, [1], 1, 1, 1, 1),
        (60_000, 1, 1, 1, 1),
    ],
)
def test_fields_that_are_no_numbers_are_refused(fields):
    with pytest.raises(ValueError, match=r"no number|no time|fields|invalid literal|could not convert"):
        candle_of(*fields)


def test_numbers_may_come_as_text():
    assert candle_of("60000", "10", "12.0", 9, "11", "5") == GOOD


def test_a_closed_minute_is_ahead_until_the_exchanges_clock_has_passed_its_end():
    assert is_ahead(GOOD, closed=True, now_ms=114_999, tolerance_ms=5_000)
    assert not is_ahead(GOOD, closed=True, now_ms=115_000, tolerance_ms=5_000)
    assert not is_ahead(GOOD, closed=False, now_ms=60_000, tolerance_ms=5_000)


def test_a_jump_is_a_ratio_in_either_direction():
    assert jumps(GOOD, 5.0, 50.0)
    assert jumps(GOOD, 20.0, 50.0)
    assert not jumps(GOOD, 8.0, 50.0)
    assert not jumps(GOOD, None, 50.0)


def test_the_last_final_minute_ended_at_least_the_grace_ago():
    assert last_final_ms(2 * MINUTE_MS + 4_999, 5_000) == 0
    assert last_final_ms(2 * MINUTE_MS + 5_000, 5_000) == MINUTE_MS

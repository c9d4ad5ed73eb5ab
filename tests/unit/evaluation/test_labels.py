from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.features.labels import known_at_ms, percent_change, percent_change_by_symbol
from schemas.frames import MINUTE_MS


def test_label_is_the_percent_change_to_the_minute_exactly_one_horizon_later() -> None:
    times = np.arange(4) * MINUTE_MS
    change = percent_change(
        open_time_ms=times, close=np.array([100.0, 101.0, 99.0, 202.0]), horizon_minutes=2
    )
    np.testing.assert_allclose(change[:2], [-1.0, 100.0])
    assert np.isnan(change[2:]).all()


def test_label_is_missing_when_the_target_minute_is_absent() -> None:
    times = np.array([0, 1, 3]) * MINUTE_MS
    change = percent_change(open_time_ms=times, close=np.array([1.0, 2.0, 4.0]), horizon_minutes=1)
    assert change[0] == 100.0
    assert np.isnan(change[1:]).all()


def test_label_is_missing_when_a_close_is_no_price() -> None:
    times = np.arange(4) * MINUTE_MS
    change = percent_change(open_time_ms=times, close=np.array([np.nan, 0.0, 2.0, np.inf]), horizon_minutes=1)
    assert np.isnan(change).all()


def test_label_is_known_once_its_target_candle_has_closed() -> None:
    assert known_at_ms(open_time_ms=np.array([0]), horizon_minutes=5).tolist() == [6 * MINUTE_MS]


def test_labels_never_look_across_symbols() -> None:
    change = percent_change_by_symbol(
        symbol_index=np.array([0, 1, 0, 1], np.int32),
        open_time_ms=np.array([0, 0, 1, 1]) * MINUTE_MS,
        close=np.array([1.0, 10.0, 2.0, 15.0]),
        horizon_minutes=1,
    )
    np.testing.assert_allclose(change[:2], [100.0, 50.0])


def test_no_rows_give_no_labels() -> None:
    empty = np.empty(0)
    assert len(percent_change(open_time_ms=empty.astype(np.int64), close=empty, horizon_minutes=5)) == 0


def test_times_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        percent_change(open_time_ms=np.array([60_000, 0]), close=np.ones(2), horizon_minutes=1)


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 20))
def test_label_equals_the_dictionary_definition(minutes: set[int], horizon: int) -> None:
    ordered = sorted(minutes)
    closes = {minute: 100.0 + (minute * 37 % 11) for minute in ordered}
    change = percent_change(
        open_time_ms=np.array(ordered) * MINUTE_MS,
        close=np.array([closes[minute] for minute in ordered]),
        horizon_minutes=horizon,
    )
    for minute, value in zip(ordered, change, strict=True):
        if minute + horizon in closes:
            assert value == (closes[minute + horizon] / closes[minute] - 1.0) * 100.0
        else:
            assert np.isnan(value)

"""Each check on a small grid."""

import numpy as np
import pytest

from domain.quality.check import Limits, build_checks
from domain.quality.grid import NEVER, QualityGrid
from domain.quality.invalid_values import invalid_rows
from schemas.frames import FeatureFrame

LIMITS = Limits(window_minutes=10, frozen_minutes=5)


def grid(present: list[int], *, complete=None, invalid=None, changed=None, lookback: int = 0) -> QualityGrid:
    """One symbol, expected from the first of the minutes on."""

    def column(flags) -> np.ndarray:
        return np.array(flags, bool)[:, None]

    def latest(flags) -> np.ndarray:
        where = np.where(column(flags), np.arange(len(flags))[:, None], NEVER)
        return np.maximum.accumulate(where, axis=0)

    n = len(present)
    return QualityGrid(
        minute=np.arange(n),
        lookback=lookback,
        expected=np.ones((n, 1), bool),
        expected_complete=np.ones((n, 1), bool),
        present=column(present),
        complete=column(present if complete is None else complete),
        invalid=column([0] * n if invalid is None else invalid),
        last_present=latest(present),
        last_change=latest(present if changed is None else changed),
    )


def judge(name: str, seen: QualityGrid) -> tuple[list[float], list[bool]]:
    judgement = build_checks(LIMITS)[name].judge(seen)
    return judgement.value[:, 0].tolist(), judgement.is_bad[:, 0].tolist()


def test_completeness_is_judged_once_half_a_window_is_expected():
    value, bad = judge("completeness", grid([1] * 6, complete=[1, 1, 1, 1, 0, 1]))
    assert np.isnan(value[:4]).all()
    assert value[4:] == pytest.approx([4 / 5, 5 / 6])
    assert bad == [False] * 4 + [True] * 2


def test_missing_minute_leaves_the_window_again():
    value, bad = judge("missing_data", grid([1] * 9 + [0, 0] + [1] * 10, lookback=9))
    assert value == pytest.approx([0.1, *[0.2] * 9, 0.1, 0.0])
    assert bad == [False, *[True] * 9, False, False]


def test_staleness_counts_seconds_since_the_last_candle():
    value, bad = judge("staleness", grid([0, 1, 0, 0, 0, 0, 0, 0, 1]))
    assert np.isnan(value[0])
    assert value[1:] == [0, 60, 120, 180, 240, 300, 360, 0]
    assert bad == [False] * 7 + [True, False]


def test_invalid_values_are_a_share_of_the_rows_there_are():
    value, bad = judge("invalid_values", grid([1, 0, 1, 1], invalid=[0, 0, 1, 0]))
    assert value == pytest.approx([0.0, 0.0, 1 / 2, 1 / 3])
    assert bad == [False, False, True, True]


def test_price_is_frozen_after_so_many_candles_without_a_change():
    value, bad = judge("frozen_price", grid([1] * 8, changed=[1, 0, 0, 0, 0, 0, 0, 1]))
    assert value == [0, 1, 2, 3, 4, 5, 6, 0]
    assert bad == [False] * 5 + [True, True, False]


def test_absent_minutes_do_not_freeze_a_price():
    _, bad = judge("frozen_price", grid([1] + [0] * 8, changed=[1] + [0] * 8))
    assert not any(bad)


@pytest.mark.parametrize(
    ("ohlcv", "expected"),
    [
        ((10, 11, 9, 10, 0), False),
        ((10, 9, 11, 10, 1), True),
        ((12, 11, 9, 10, 1), True),
        ((10, 11, 9, 8, 1), True),
        ((10, 11, 0, 10, 1), True),
        ((10, 11, 9, 10, -1), True),
        ((10, float("inf"), 9, 10, 1), True),
        ((10, 11, 9, float("nan"), 1), True),
    ],
)
def test_candle_that_contradicts_itself_is_invalid(ohlcv, expected):
    assert invalid_rows(frame(ohlcv, [0.0, 1.0])).tolist() == [expected]


def test_infinite_feature_is_invalid_and_one_that_is_not_warm_is_not():
    assert invalid_rows(frame((10, 11, 9, 10, 1), [0.0, np.nan])).tolist() == [False]
    assert invalid_rows(frame((10, 11, 9, 10, 1), [0.0, np.inf])).tolist() == [True]


def frame(ohlcv, vector) -> FeatureFrame:
    return FeatureFrame(
        symbols=("BTC",),
        symbol_index=np.zeros(1, np.int32),
        open_time_ms=np.zeros(1, np.int64),
        ohlcv=np.array([ohlcv], float),
        origin=np.zeros(1, np.int8),
        vector=np.array([vector], np.float32),
        is_complete=np.ones(1, bool),
        complete_to_ms=0,
        schema_hash="h",
    )


def test_unknown_check_is_refused_by_name():
    with pytest.raises(ValueError, match="no check is called nosuch"):
        build_checks(LIMITS, ("nosuch",))

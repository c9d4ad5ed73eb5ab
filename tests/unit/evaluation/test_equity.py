from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evaluation.equity import (
    DAY_MS,
    EquityCurve,
    curve_scores,
    daily_returns_pct,
    minute_grid,
    sharpe_ratio,
    sortino_ratio,
)
from schemas.frames import MINUTE_MS


def _curve(*equity: float) -> EquityCurve:
    return EquityCurve(time_ms=np.arange(len(equity)) * DAY_MS, equity_pct=np.array(equity))


def test_a_curve_of_four_days_has_the_scores_worked_out_by_hand() -> None:
    found = curve_scores(_curve(100.0, 102.0, 101.0, 104.0, 103.0))
    assert found.days == 4
    assert found.total_return_pct == pytest.approx(3.0)
    # daily 2, -1, 3, -1: mean 3/4, variance 51/12, mean square of losses 2/4
    assert found.sharpe == pytest.approx(0.75 / math.sqrt(51 / 12) * math.sqrt(365))
    assert found.sortino == pytest.approx(0.75 / math.sqrt(0.5) * math.sqrt(365))
    assert found.max_drawdown_pct == pytest.approx(100 / 102)


def test_a_fall_from_the_start_is_a_drawdown() -> None:
    assert curve_scores(_curve(100.0, 90.0, 95.0)).max_drawdown_pct == pytest.approx(10.0)
    assert curve_scores(_curve(90.0, 95.0)).max_drawdown_pct == pytest.approx(10.0)


def test_what_does_not_vary_has_no_sharpe_and_what_never_falls_no_sortino() -> None:
    steady = curve_scores(_curve(100.0, 100.1, 100.2, 100.3))
    assert math.isnan(steady.sharpe)
    assert math.isnan(steady.sortino)
    assert math.isnan(sharpe_ratio(np.zeros(9)))
    assert math.isnan(sharpe_ratio(np.ones(1)))
    assert math.isnan(sortino_ratio(np.empty(0)))


def test_days_are_counted_from_the_start_and_the_last_may_be_shorter() -> None:
    start, end = 7 * MINUTE_MS, 7 * MINUTE_MS + 2 * DAY_MS + DAY_MS // 2
    moments = minute_grid(start_ms=start, end_ms=end)
    curve = EquityCurve(time_ms=moments, equity_pct=np.linspace(100.0, 105.0, len(moments)))
    assert list(curve.daily().time_ms) == [start, start + DAY_MS, start + 2 * DAY_MS, end]
    assert daily_returns_pct(curve) == pytest.approx([2.0, 2.0, 1.0])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.floats(0.1, 10))
def test_daily_returns_add_up_and_the_ratios_do_not_depend_on_the_stake(
    steps: list[float], stake: float
) -> None:
    curve, larger = (_curve(100.0, *(100.0 + scale * np.cumsum(steps))) for scale in (1.0, stake))
    assert daily_returns_pct(curve).sum() == pytest.approx(curve_scores(curve).total_return_pct, abs=1e-9)
    drawdown = curve.drawdown_pct()
    assert (drawdown >= 0).all()
    assert curve_scores(larger).total_return_pct == pytest.approx(
        stake * curve_scores(curve).total_return_pct, abs=1e-9
    )
    if np.ptp(steps) > 1e-3:
        assert curve_scores(larger).sharpe == pytest.approx(curve_scores(curve).sharpe, rel=1e-4, abs=1e-6)


def test_a_span_that_is_not_whole_minutes_is_refused() -> None:
    for end in (0, -MINUTE_MS, 90_000):
        with pytest.raises(ValueError, match="end_ms"):
            minute_grid(start_ms=0, end_ms=end)

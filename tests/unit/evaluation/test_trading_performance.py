from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.evaluation.equity import DAY_MS
from domain.evaluation.trading_performance import TradeResults, equity_curve, trading_performance
from schemas.frames import MINUTE_MS


def _trades(*rows: tuple[int, int, int, float]) -> TradeResults:
    """(symbol, entered, completed, net) with a cost of 0.2 percent."""
    columns = np.array(rows, np.float64).reshape(-1, 4)
    return TradeResults(
        symbol_index=columns[:, 0].astype(np.int64),
        entered_at_ms=columns[:, 1].astype(np.int64) * MINUTE_MS,
        completed_at_ms=columns[:, 2].astype(np.int64) * MINUTE_MS,
        net_pct=columns[:, 3],
        gross_pct=columns[:, 3] + 0.2,
    )


FOUR = _trades((0, 0, 10, 2.0), (1, 5, 1440, -1.0), (0, 1500, 1560, 3.0), (1, 2000, 2880, -0.5))


def test_four_trades_of_two_symbols_earn_what_is_worked_out_by_hand() -> None:
    found = trading_performance(trades=FOUR, symbols=2, start_ms=0, end_ms=2 * DAY_MS)
    assert found.trades == 4
    assert found.total_return_pct == pytest.approx(1.75)  # half of 3.5: each symbol stakes half
    assert found.sharpe == pytest.approx(0.875 / np.std([0.5, 1.25], ddof=1) * math.sqrt(365))
    assert math.isnan(found.sortino)
    assert found.max_drawdown_pct == pytest.approx(100 * 0.5 / 101)
    assert found.turnover_per_day == pytest.approx(2.0)  # 4 trades x 2 sides x half / 2 days
    assert found.hit_rate == 0.5
    assert found.profit_factor == pytest.approx(5.0 / 1.5)
    assert found.exposure == pytest.approx((10 + 1435 + 60 + 880) / (2 * 2880))
    assert found.mean_net_pct == pytest.approx(0.875)


def test_a_result_is_booked_when_the_trade_is_completed() -> None:
    curve = equity_curve(trades=FOUR, symbols=2, start_ms=0, end_ms=2 * DAY_MS)
    assert list(curve.equity_pct[[0, 9, 10, 1439, 1440, 2880]]) == pytest.approx(
        [100.0, 100.0, 101.0, 101.0, 100.5, 101.75]
    )
    assert list(curve.daily().equity_pct) == pytest.approx([100.0, 100.5, 101.75])


def test_no_trades_earn_nothing_and_have_no_rates() -> None:
    found = trading_performance(trades=_trades(), symbols=3, start_ms=0, end_ms=3 * DAY_MS)
    assert (found.trades, found.total_return_pct, found.max_drawdown_pct) == (0, 0.0, 0.0)
    assert (found.turnover_per_day, found.exposure) == (0.0, 0.0)
    for value in (found.sharpe, found.sortino, found.hit_rate, found.profit_factor, found.mean_net_pct):
        assert math.isnan(value)


def test_days_without_trades_count_for_the_sharpe_ratio() -> None:
    short = trading_performance(trades=FOUR, symbols=2, start_ms=0, end_ms=2 * DAY_MS)
    long = trading_performance(trades=FOUR, symbols=2, start_ms=0, end_ms=9 * DAY_MS)
    assert long.total_return_pct == short.total_return_pct
    assert long.sharpe < short.sharpe


results = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 300), st.integers(0, 50), st.floats(-5, 5)), max_size=30
)


def _one_behind_the_other(drawn: list[tuple[int, int, int, float]]) -> TradeResults:
    free, rows = [0, 0, 0], []
    for symbol, minutes, wait, net in drawn:
        entered = free[symbol] + wait
        free[symbol] = entered + minutes
        rows.append((symbol, entered, free[symbol], net))
    return _trades(*rows)


@given(results, st.randoms())
@settings(max_examples=40)
def test_the_order_of_trades_does_not_matter_and_their_results_add_up(
    drawn: list[tuple[int, int, int, float]], random: object
) -> None:
    trades = _one_behind_the_other(drawn)
    order = list(range(len(trades)))
    random.shuffle(order)  # type: ignore[attr-defined]
    end_ms = 30 * 350 * MINUTE_MS
    first = trading_performance(trades=trades, symbols=3, start_ms=0, end_ms=end_ms)
    second = trading_performance(
        trades=trades.where(np.array(order, np.int64)), symbols=3, start_ms=0, end_ms=end_ms
    )
    assert first.total_return_pct == pytest.approx(trades.net_pct.sum() / 3, abs=1e-9)
    assert second.total_return_pct == pytest.approx(first.total_return_pct, abs=1e-9)
    assert second.max_drawdown_pct == pytest.approx(first.max_drawdown_pct, abs=1e-9)
    assert 0.0 <= first.exposure <= 1.0


def test_trades_that_break_the_capital_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="open at once"):
        _trades((0, 0, 10, 1.0), (0, 9, 12, 1.0))
    with pytest.raises(ValueError, match="before it is entered"):
        _trades((0, 10, 9, 1.0))
    with pytest.raises(ValueError, match="still open"):
        _trades((0, 0, 10, math.nan))
    with pytest.raises(ValueError, match="span"):
        trading_performance(trades=FOUR, symbols=2, start_ms=0, end_ms=DAY_MS)
    with pytest.raises(ValueError, match="share of the capital"):
        trading_performance(trades=FOUR, symbols=1, start_ms=0, end_ms=2 * DAY_MS)
    with pytest.raises(ValueError, match="at least 1"):
        trading_performance(trades=FOUR, symbols=0, start_ms=0, end_ms=2 * DAY_MS)


def test_a_trade_may_begin_in_the_moment_in_which_the_last_one_ended() -> None:
    assert len(_trades((0, 0, 10, 1.0), (0, 10, 12, 1.0), (1, 3, 4, 1.0))) == 3

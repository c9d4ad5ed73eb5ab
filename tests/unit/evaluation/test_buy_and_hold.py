from __future__ import annotations

import numpy as np
import pytest

from domain.evaluation.buy_and_hold import buy_and_hold
from domain.evaluation.equity import EquityCurve
from schemas.frames import MINUTE_MS


def _hold(*rows: tuple[int, int, float], symbols: int = 2, cost: float = 0.0, end: int = 5) -> EquityCurve:
    """Candles as (symbol, minute at which the close is known, close), over minutes 0 to `end`."""
    columns = np.array(rows, np.float64).reshape(-1, 3)
    return buy_and_hold(
        symbol_index=columns[:, 0].astype(np.int64),
        open_time_ms=(columns[:, 1].astype(np.int64) - 1) * MINUTE_MS,
        close=columns[:, 2],
        symbols=symbols,
        start_ms=0,
        end_ms=end * MINUTE_MS,
        round_trip_pct=cost,
    )


BOTH = ((0, 0, 100.0), (1, 0, 10.0), (0, 2, 110.0), (1, 3, 9.0), (0, 5, 120.0))


def test_each_symbol_holds_its_share_and_the_last_close_holds_through_a_gap() -> None:
    assert list(_hold(*BOTH).equity_pct) == pytest.approx([100.0, 100.0, 105.0, 100.0, 100.0, 105.0])


def test_half_of_the_costs_is_paid_at_each_end() -> None:
    held = _hold(*BOTH, cost=0.24)
    assert held.equity_pct[0] == pytest.approx(100.0 - 0.12)
    assert held.equity_pct[-1] == pytest.approx(105.0 - 0.24)


def test_a_symbol_that_comes_later_is_bought_later_and_one_that_never_comes_stays_cash() -> None:
    rows = ((0, 0, 100.0), (1, 3, 10.0), (1, 5, 12.0), (0, 9, 500.0))
    assert list(_hold(*rows, symbols=4, cost=0.4).equity_pct) == pytest.approx(
        [99.95, 99.95, 99.95, 99.9, 99.9, 104.8]
    )


def test_the_price_paid_is_the_last_one_known_at_the_start_and_order_does_not_matter() -> None:
    rows = ((0, 5, 220.0), (0, -7, 100.0), (0, -2, 110.0))
    assert _hold(*rows, symbols=1).equity_pct[-1] == pytest.approx(200.0)


def test_nothing_to_hold_stays_cash() -> None:
    assert list(_hold(symbols=1).equity_pct) == [100.0] * 6


def test_prices_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="close"):
        _hold((0, 0, float("nan")))
    with pytest.raises(ValueError, match="symbols"):
        _hold(symbols=0)

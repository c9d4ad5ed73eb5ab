"""What holding the same symbols over the same span would have earned."""

from __future__ import annotations

import numpy as np

from domain.evaluation.equity import WHOLE, EquityCurve, minute_grid
from schemas.frames import MINUTE_MS, Float64, Int64


def buy_and_hold(
    *,
    symbol_index: Int64,
    open_time_ms: Int64,
    close: Float64,
    symbols: int,
    start_ms: int,
    end_ms: int,
    round_trip_pct: float,
) -> EquityCurve:
    """Compute the equity of buying an equal share of every symbol at the start and selling all at the end.

    A close is known when its minute has ended; in a gap the last one holds. A symbol whose first close comes
    later is bought then; one without closes stays cash. Shares are not brought back to equal weights.

    Parameters
    ----------
    symbol_index, open_time_ms, close
        Candles, one entry each, in any order; closes above 0.
    symbols
        Shares the capital is cut into.
    start_ms, end_ms
        The span; whole minutes apart.
    round_trip_pct
        Fees and slippage of buying and selling, in percent of what is bought; half is paid at each end.
    """
    if symbols < 1:
        raise ValueError(f"symbols must be at least 1, not {symbols}")
    if not (np.asarray(close) > 0.0).all():
        raise ValueError("close holds numbers that are not above 0: leave out those candles")
    moments = minute_grid(start_ms=start_ms, end_ms=end_ms)
    known_ms = np.asarray(open_time_ms) + MINUTE_MS
    earned = np.zeros(len(moments))
    for symbol in range(symbols):
        rows = np.flatnonzero((symbol_index == symbol) & (known_ms <= end_ms))
        if len(rows):
            rows = rows[np.argsort(known_ms[rows], kind="stable")]
            earned += _earned_pct(moments, known_ms[rows], close[rows], round_trip_pct)
    return EquityCurve(time_ms=moments, equity_pct=WHOLE + earned / symbols)


def _earned_pct(moments: Int64, known_ms: Int64, price: Float64, round_trip_pct: float) -> Float64:
    last = np.searchsorted(known_ms, moments, "right") - 1
    held = last >= 0
    bought_at = price[max(int(last[0]), 0)]
    earned = np.where(held, 100.0 * (price[last] / bought_at - 1.0) - round_trip_pct / 2.0, 0.0)
    earned[-1] -= round_trip_pct / 2.0
    return earned

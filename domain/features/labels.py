"""Labels: the percent change of the close over a horizon, and when it became known.

The label of the candle that opens at `t` compares its close with the close of the candle that opens exactly
`horizon_minutes` later. If either minute is absent there is no label (NaN): a gap is never bridged.
"""

from __future__ import annotations

import numpy as np

from schemas.frames import MINUTE_MS, Float64, Int32, Int64


def percent_change(*, open_time_ms: Int64, close: Float64, horizon_minutes: int) -> Float64:
    """Compute the percent change from every close of one symbol to the close `horizon_minutes` later.

    Parameters
    ----------
    open_time_ms
        Strictly ascending open times, milliseconds UTC.
    close
        Closes of these candles, in quote currency; NaN where not known.
    horizon_minutes
        Minutes ahead, at least 1.

    Returns
    -------
    Percent; NaN where the target minute is absent or a close is not a positive number.
    """
    if horizon_minutes < 1:
        raise ValueError(f"horizon_minutes must be at least 1, not {horizon_minutes}")
    if len(open_time_ms) != len(close):
        raise ValueError(f"{len(open_time_ms)} open times but {len(close)} closes")
    if np.any(np.diff(open_time_ms) <= 0):
        raise ValueError("open times of one symbol must ascend, each minute once")
    change = np.full(len(close), np.nan)
    if not len(close):
        return change
    target = open_time_ms + horizon_minutes * MINUTE_MS
    found = np.minimum(np.searchsorted(open_time_ms, target), len(close) - 1)
    usable = (open_time_ms[found] == target) & (close > 0) & (close[found] > 0)
    usable &= np.isfinite(close) & np.isfinite(close[found])
    change[usable] = (close[found[usable]] / close[usable] - 1.0) * 100.0
    return change


def percent_change_by_symbol(
    *, symbol_index: Int32, open_time_ms: Int64, close: Float64, horizon_minutes: int
) -> Float64:
    """Compute `percent_change` of rows of several symbols; rows of one symbol must ascend in time."""
    change = np.full(len(close), np.nan)
    for symbol in np.unique(symbol_index):
        own = symbol_index == symbol
        change[own] = percent_change(
            open_time_ms=open_time_ms[own], close=close[own], horizon_minutes=horizon_minutes
        )
    return change


def known_at_ms(*, open_time_ms: Int64, horizon_minutes: int) -> Int64:
    """Tell at which event time each label became known: when its target candle had closed."""
    known: Int64 = open_time_ms + (horizon_minutes + 1) * MINUTE_MS
    return known

"""The market: what the reference symbols did in each minute, as long as it may be asked for.

A minute is closed once every reference symbol's candle of it is in, or will never come. Only closed minutes
are read, and a closed minute never changes, so it does not matter when a late symbol asks for one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from domain.indicators.base.compiled import compiled
from schemas.frames import Float64, Int64

#: Minutes kept. A candle older than this is given NaN for everything that needs the market.
MINUTES_KEPT = 2_048
_MASK = MINUTES_KEPT - 1
#: Nothing closed yet.
NEVER = -(2**62)

#: Columns of what is known of a closed minute: log returns in percent, and breadth (share of the references
#: that rose less share that fell).
LEADER_1, LEADER_5, LEADER_15, BREADTH_1, BREADTH_15, MEAN_15, MEAN_60 = range(7)
_COLUMNS = 7


class Market(NamedTuple):
    """State of the market, in rings whose row is the minute modulo `MINUTES_KEPT`.

    Attributes
    ----------
    logs
        ln of the close, a column per reference; NaN where it has no candle.
    minutes
        What is known of a closed minute.
    stamps
        Which minute a row of `minutes` speaks of.
    closed
        One number: the newest closed minute.
    """

    logs: Float64
    minutes: Float64
    stamps: Int64
    closed: Int64


def make_market(references: int) -> Market:
    """Make a market in which nothing has happened."""
    return Market(
        logs=np.full((MINUTES_KEPT, references), np.nan),
        minutes=np.full((MINUTES_KEPT, _COLUMNS), np.nan),
        stamps=np.full(MINUTES_KEPT, NEVER, np.int64),
        closed=np.full(1, NEVER, np.int64),
    )


@compiled
def _returns_over(market: Market, minute: int, span: int) -> tuple[float, float]:
    # Breadth and mean of the references that have a candle at both ends.
    now = minute & _MASK
    then = (minute - span) & _MASK
    present = 0
    direction = 0.0
    together = 0.0
    for i in range(market.logs.shape[1]):
        change = market.logs[now, i] - market.logs[then, i]
        if not math.isnan(change):
            present += 1
            together += change
            direction += 1.0 if change > 0.0 else -1.0 if change < 0.0 else 0.0
    if present == 0:
        return math.nan, math.nan
    return direction / present, 100.0 * together / present


@compiled
def _close_minute(market: Market, minute: int, leader: int) -> None:
    now = minute & _MASK
    row = market.minutes[now]
    row[LEADER_1] = math.nan
    row[LEADER_5] = math.nan
    row[LEADER_15] = math.nan
    if leader >= 0:
        close = market.logs[now, leader]
        row[LEADER_1] = 100.0 * (close - market.logs[(minute - 1) & _MASK, leader])
        row[LEADER_5] = 100.0 * (close - market.logs[(minute - 5) & _MASK, leader])
        row[LEADER_15] = 100.0 * (close - market.logs[(minute - 15) & _MASK, leader])
    row[BREADTH_1] = _returns_over(market, minute, 1)[0]
    row[BREADTH_15], row[MEAN_15] = _returns_over(market, minute, 15)
    row[MEAN_60] = _returns_over(market, minute, 60)[1]
    market.stamps[now] = minute
    market.closed[0] = minute
    market.logs[(minute + 1) & _MASK, :] = math.nan


@compiled
def close_through(market: Market, minute: int, leader: int) -> None:
    """Close every open minute up to this one with the candles that are in."""
    closed = market.closed[0]
    if closed == NEVER:
        # Nothing was, so there is nothing to close, whatever the first minute is.
        market.closed[0] = minute
        return
    if minute - closed > MINUTES_KEPT:
        _close_minute(market, closed + 1, leader)
        market.logs[:, :] = math.nan
        market.closed[0] = minute - MINUTES_KEPT
    while market.closed[0] < minute:
        _close_minute(market, market.closed[0] + 1, leader)


@compiled
def record_close(market: Market, minute: int, reference: int, close: float) -> None:
    """Take in the close of a reference; the minute is the one after the newest closed one."""
    market.logs[minute & _MASK, reference] = math.log(close)


@compiled
def is_known(market: Market, minute: int) -> bool:
    """Tell whether a minute is closed and still kept."""
    return bool(market.stamps[minute & _MASK] == minute)

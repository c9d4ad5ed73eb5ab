"""What the same trades would have earned had a coin chosen their directions.

Moments and durations stay; a trade the other way earns minus its move and pays the same costs. Trades that
are near in time draw one coin together, which turns all of them or none: six symbols that move together, or
trades one behind the other on one forecast, are not so many proofs. If no direction was better than chance,
turning a stretch of time is as likely as not, and the share of draws that earn at least as much as the trades
did is a valid p-value (a randomisation test, Fisher 1935; the count of Phipson and Smyth 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain.evaluation.trading_performance import TradeResults
from schemas.frames import MINUTE_MS, Float64

#: Numbers held in memory at once while drawing.
_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinFlip:
    """What a coin would have earned, in percent of the capital.

    Attributes
    ----------
    mean_pct
        Over all coins: minus the costs.
    low_pct, high_pct
        Nine of ten draws lie between.
    p_value
        Chance that a coin earns at least what the trades did.
    coins
        Coins in a draw: stretches of time with trades.
    draws
        How many draws.
    """

    mean_pct: float
    low_pct: float
    high_pct: float
    p_value: float
    coins: int
    draws: int


def coin_flip(
    *, trades: TradeResults, symbols: int, draws: int = 10_000, seed: int, together_minutes: int | None = None
) -> CoinFlip:
    """Compare trades with coins; everything is NaN without trades.

    Parameters
    ----------
    trades
        What was really traded.
    symbols
        Shares the capital is cut into, as for `trading_performance`.
    draws, seed
        How many draws, of which stream of chance.
    together_minutes
        Trades entered in the same stretch of so many minutes draw one coin. None: twice the longest trade. 0:
        every trade its own, which takes symbols that move together for independent.
    """
    if not len(trades):
        nan = float("nan")
        return CoinFlip(mean_pct=nan, low_pct=nan, high_pct=nan, p_value=nan, coins=0, draws=0)
    moves = _moves_of_coins(trades, together_minutes) / symbols
    costs = float(np.sum(trades.gross_pct - trades.net_pct)) / symbols
    real, turned = float(moves.sum()), _turned(moves, draws, seed)
    # Sums in another order differ by rounding: what is equal counts as equal.
    as_good = int(np.sum(turned >= real - 1e-9 * float(np.abs(moves).sum())))
    low, high = np.quantile(turned, [0.05, 0.95]) - costs
    return CoinFlip(
        mean_pct=-costs,
        low_pct=float(low),
        high_pct=float(high),
        p_value=(1 + as_good) / (1 + draws),
        coins=len(moves),
        draws=draws,
    )


def _moves_of_coins(trades: TradeResults, together_minutes: int | None) -> Float64:
    if together_minutes is None:
        longest_ms = int(np.max(trades.completed_at_ms - trades.entered_at_ms))
        stretch_ms = max(2 * longest_ms, MINUTE_MS)
    elif together_minutes > 0:
        stretch_ms = together_minutes * MINUTE_MS
    else:
        return trades.gross_pct
    since = trades.entered_at_ms - trades.entered_at_ms.min()
    _, coin = np.unique(since // stretch_ms, return_inverse=True)
    moves: Float64 = np.bincount(coin, weights=trades.gross_pct).astype(np.float64)
    return moves


def _turned(moves: Float64, draws: int, seed: int) -> Float64:
    chance = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(moves))
    totals = np.empty(draws)
    for begin in range(0, draws, step):
        sides = chance.integers(0, 2, size=(min(step, draws - begin), len(moves)), dtype=np.int8)
        totals[begin : begin + len(sides)] = 2.0 * (sides @ moves) - moves.sum()
    return totals

"""What a series of trades earned.

The capital rule: the capital is cut into one equal share for each symbol, traded or not. Every trade stakes
exactly its symbol's share of the capital *at the start*; profits are not staked again and losses are not
saved up, nothing is borrowed, and idle shares earn nothing. Without compounding the result is the plain sum
of what the trades earned: it does not depend on their order, a lucky beginning does not enlarge what follows,
and no result can be made by leverage.

A trade's result is booked when it is completed. Equity does not see losses of trades that are still open, so
drawdowns inside a trade are missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain.evaluation.equity import WHOLE, EquityCurve, curve_scores, minute_grid
from schemas.frames import MINUTE_MS, Bool, Float64, Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeResults:
    """Completed trades, one entry each, in any order.

    Attributes
    ----------
    symbol_index
        Of which symbol; at most one trade of a symbol at a time.
    entered_at_ms, completed_at_ms
        Event times, milliseconds UTC.
    net_pct, gross_pct
        Profit in percent of the entry's value, after and before fees and slippage.

    Raises
    ------
    ValueError
        If columns differ in length, a number is not finite, a trade ends before it begins, or two trades of
        one symbol were open at once.
    """

    symbol_index: Int64
    entered_at_ms: Int64
    completed_at_ms: Int64
    net_pct: Float64
    gross_pct: Float64

    def __post_init__(self) -> None:
        columns = (self.entered_at_ms, self.completed_at_ms, self.net_pct, self.gross_pct)
        if any(len(column) != len(self.symbol_index) for column in columns):
            raise ValueError("the columns of trades differ in length")
        if not (np.isfinite(self.net_pct).all() and np.isfinite(self.gross_pct).all()):
            raise ValueError("net_pct or gross_pct is not finite: leave out trades that are still open")
        if (self.completed_at_ms < self.entered_at_ms).any():
            raise ValueError("a trade is completed before it is entered")
        order = np.lexsort((self.completed_at_ms, self.entered_at_ms, self.symbol_index))
        symbol = self.symbol_index[order]
        early = self.entered_at_ms[order][1:] < self.completed_at_ms[order][:-1]
        if (early & (symbol[1:] == symbol[:-1])).any():
            raise ValueError("two trades of one symbol are open at once: one share cannot be staked twice")

    def __len__(self) -> int:
        return len(self.symbol_index)

    def where(self, chosen: Bool) -> TradeResults:
        """Keep some of the trades."""
        return TradeResults(
            symbol_index=self.symbol_index[chosen],
            entered_at_ms=self.entered_at_ms[chosen],
            completed_at_ms=self.completed_at_ms[chosen],
            net_pct=self.net_pct[chosen],
            gross_pct=self.gross_pct[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingPerformance:
    """What a series of trades earned, and how.

    Attributes
    ----------
    trades
        Completed trades.
    total_return_pct, sharpe, sortino, max_drawdown_pct
        As `equity.CurveScores`, the drawdown on the minute.
    turnover_per_day
        Value bought and sold in a day, in multiples of the capital; both sides at the entry's value.
    hit_rate
        Share of trades that earned more than their costs; NaN without trades.
    profit_factor
        What winning trades earned over what losing ones lost, after costs; NaN if none lost.
    exposure
        Share of capital and time that was in a trade.
    mean_net_pct
        Mean of the trades' results after costs; NaN without trades.
    """

    trades: int
    total_return_pct: float
    sharpe: float
    sortino: float
    max_drawdown_pct: float
    turnover_per_day: float
    hit_rate: float
    profit_factor: float
    exposure: float
    mean_net_pct: float


def equity_curve(*, trades: TradeResults, symbols: int, start_ms: int, end_ms: int) -> EquityCurve:
    """Compute equity on every minute of a span; `EquityCurve.daily` thins it to days.

    Parameters
    ----------
    trades
        Entered and completed inside the span.
    symbols
        Shares the capital is cut into.
    start_ms, end_ms
        The span that was traded, days without trades included; whole minutes apart.

    Raises
    ------
    ValueError
        If a trade lies outside the span or is of a symbol that has no share.
    """
    moments = minute_grid(start_ms=start_ms, end_ms=end_ms)
    _check(trades, symbols, start_ms, end_ms)
    minute = -((start_ms - trades.completed_at_ms) // MINUTE_MS)
    booked = np.bincount(minute, weights=trades.net_pct / symbols, minlength=len(moments))
    return EquityCurve(time_ms=moments, equity_pct=WHOLE + np.cumsum(booked, dtype=np.float64))


def trading_performance(
    *, trades: TradeResults, symbols: int, start_ms: int, end_ms: int
) -> TradingPerformance:
    """Compute what trades earned over a span; parameters and errors as of `equity_curve`."""
    curve = equity_curve(trades=trades, symbols=symbols, start_ms=start_ms, end_ms=end_ms)
    scores = curve_scores(curve)
    count, net = len(trades), trades.net_pct
    lost = -float(np.sum(net[net < 0.0]))
    open_ms = float(np.sum(trades.completed_at_ms - trades.entered_at_ms))
    return TradingPerformance(
        trades=count,
        total_return_pct=scores.total_return_pct,
        sharpe=scores.sharpe,
        sortino=scores.sortino,
        max_drawdown_pct=scores.max_drawdown_pct,
        turnover_per_day=2.0 * count / symbols / scores.days,
        hit_rate=float(np.mean(net > 0.0)) if count else float("nan"),
        profit_factor=float(np.sum(net[net > 0.0])) / lost if lost > 0.0 else float("nan"),
        exposure=open_ms / (symbols * float(end_ms - start_ms)),
        mean_net_pct=float(np.mean(net)) if count else float("nan"),
    )


def _check(trades: TradeResults, symbols: int, start_ms: int, end_ms: int) -> None:
    if symbols < 1:
        raise ValueError(f"symbols must be at least 1, not {symbols}")
    if not len(trades):
        return
    if not (0 <= trades.symbol_index.min() and trades.symbol_index.max() < symbols):
        raise ValueError(f"a trade is of a symbol outside the {symbols} that have a share of the capital")
    if trades.entered_at_ms.min() < start_ms or trades.completed_at_ms.max() > end_ms:
        raise ValueError(f"a trade lies outside the span {start_ms} to {end_ms}")

"""What the trades of a walk-forward earned, beside holding and beside a coin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.evaluation.buy_and_hold import buy_and_hold
from domain.evaluation.coin_flip import CoinFlip, coin_flip
from domain.evaluation.equity import CurveScores, EquityCurve, curve_scores, daily_returns_pct
from domain.evaluation.trading_performance import (
    TradeResults,
    TradingPerformance,
    equity_curve,
    trading_performance,
)
from domain.trading.costs import Costs
from schemas.frames import MINUTE_MS, Float64
from training.evaluation.history import History
from training.evaluation.serving import completed

TAKE_PROFIT = "take_profit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """What trading a family's forecasts earned over a span.

    Attributes
    ----------
    trading
        Of the completed trades.
    still_open
        Trades that the recording's end left open; they count in nothing.
    coin
        The same trades with directions by coin.
    curve
        Equity by minute.
    daily_pct
        What each day earned.
    """

    trading: TradingPerformance
    still_open: int
    coin: CoinFlip
    curve: EquityCurve
    daily_pct: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What holding the same symbols earned over the same span."""

    scores: CurveScores
    curve: EquityCurve


def earnings(
    *,
    history: History,
    trades: Sequence[Mapping[str, Any]],
    costs: Costs,
    span_ms: tuple[int, int],
    seed: int,
) -> Earnings:
    """Sum up the trades of one strategy that were entered inside a span of event time."""
    mine = [trade for trade in trades if trade["entered_at"] >= span_ms[0]]
    ended = completed(mine)
    results = trade_results(ended, history.frame.symbols, costs)
    count, (start_ms, end_ms) = len(history.frame.symbols), span_ms
    curve = equity_curve(trades=results, symbols=count, start_ms=start_ms, end_ms=end_ms)
    return Earnings(
        trading=trading_performance(trades=results, symbols=count, start_ms=start_ms, end_ms=end_ms),
        still_open=len(mine) - len(ended),
        coin=coin_flip(trades=results, symbols=count, seed=seed),
        curve=curve,
        daily_pct=daily_returns_pct(curve),
    )


def holding(*, history: History, costs: Costs, span_ms: tuple[int, int]) -> Holding:
    """Compute what an equal share of every symbol earned over a span."""
    frame = history.frame
    inside = frame.open_time_ms >= span_ms[0] - MINUTE_MS
    curve = buy_and_hold(
        symbol_index=frame.symbol_index[inside].astype(np.int64),
        open_time_ms=frame.open_time_ms[inside],
        close=frame.ohlcv[inside, 3],
        symbols=len(frame.symbols),
        start_ms=span_ms[0],
        end_ms=span_ms[1],
        round_trip_pct=costs.round_trip_pct,
    )
    return Holding(scores=curve_scores(curve), curve=curve)


def trade_results(
    trades: Sequence[Mapping[str, Any]], symbols: tuple[str, ...], costs: Costs
) -> TradeResults:
    """Turn completed rows of `"tradeSimulations"` into results, after and before costs."""
    return TradeResults(
        symbol_index=np.array([symbols.index(trade["symbol"]) for trade in trades], np.int64),
        entered_at_ms=np.array([trade["entered_at"] for trade in trades], np.int64),
        completed_at_ms=np.array([trade["completed_at"] for trade in trades], np.int64),
        net_pct=np.array([trade["real_time_pnl"] for trade in trades], np.float64),
        gross_pct=np.array([_gross_pct(trade, costs) for trade in trades], np.float64),
    )


def _gross_pct(trade: Mapping[str, Any], costs: Costs) -> float:
    """Undo the slippage of both fills; a take-profit is a resting order and had none."""
    side = 1.0 if trade["signal_type"] == "LONG" else -1.0
    slip = costs.slippage_bps / 10_000.0
    entered = trade["entry_price"] / (1.0 + side * slip)
    left = trade["exit_price"]
    if trade["exit_reason"] != TAKE_PROFIT:
        left /= 1.0 - side * slip
    return float(100.0 * side * (left - entered) / entered)

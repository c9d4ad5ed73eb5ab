"""Equity over time, and what is said of it: return, Sharpe, Sortino, drawdown.

Equity is in percent of the capital at the start. Returns are of that capital too, not of the equity reached,
because stakes are not compounded (see `trading_performance`). Markets never close: a day is 24 hours, counted
from the start (the last may be shorter), and a year has 365 of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.frames import MINUTE_MS, Float64, Int64

DAY_MS = 1440 * MINUTE_MS
DAYS_PER_YEAR = 365
#: Equity at the start.
WHOLE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityCurve:
    """Equity at moments one behind the other.

    Attributes
    ----------
    time_ms
        Event times, rising; the first is the start.
    equity_pct
        In percent of the capital at the start.
    """

    time_ms: Int64
    equity_pct: Float64

    @property
    def days(self) -> float:
        """Length in days."""
        return float(self.time_ms[-1] - self.time_ms[0]) / DAY_MS

    def daily(self) -> EquityCurve:
        """Take the equity at the start, after every day, and at the end."""
        ends = np.arange(self.time_ms[0], self.time_ms[-1], DAY_MS)
        moments = np.append(ends, self.time_ms[-1])
        at = np.searchsorted(self.time_ms, moments, "right") - 1
        return EquityCurve(time_ms=moments, equity_pct=self.equity_pct[at])

    def drawdown_pct(self) -> Float64:
        """Compute how far equity lies below its highest so far, in percent of that; one entry a moment."""
        highest = np.maximum.accumulate(np.maximum(self.equity_pct, WHOLE))
        return 100.0 * (highest - self.equity_pct) / highest


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveScores:
    """What is said of an equity curve.

    Attributes
    ----------
    total_return_pct
        Of the capital at the start.
    sharpe, sortino
        Annualised, from daily returns, against a return of zero; NaN where nothing varied, or nothing fell.
    max_drawdown_pct
        The deepest fall from a highest equity, in percent of that.
    days
        Length in days.
    """

    total_return_pct: float
    sharpe: float
    sortino: float
    max_drawdown_pct: float
    days: float


def minute_grid(*, start_ms: int, end_ms: int) -> Int64:
    """Give the event times from start to end, one a minute, both included.

    Raises
    ------
    ValueError
        If the end is not a whole number of minutes, at least one, behind the start.
    """
    if end_ms <= start_ms or (end_ms - start_ms) % MINUTE_MS:
        raise ValueError(f"end_ms {end_ms} must be whole minutes behind start_ms {start_ms}")
    return np.arange(start_ms, end_ms + MINUTE_MS, MINUTE_MS, dtype=np.int64)


def daily_returns_pct(curve: EquityCurve) -> Float64:
    """Compute what each day earned, in percent of the capital at the start; days without a trade are 0."""
    return np.diff(curve.daily().equity_pct)


def curve_scores(curve: EquityCurve) -> CurveScores:
    """Compute return, Sharpe, Sortino and the deepest drawdown (on the curve's own moments)."""
    returns = daily_returns_pct(curve)
    return CurveScores(
        total_return_pct=float(curve.equity_pct[-1]) - WHOLE,
        sharpe=sharpe_ratio(returns) * float(np.sqrt(DAYS_PER_YEAR)),
        sortino=sortino_ratio(returns) * float(np.sqrt(DAYS_PER_YEAR)),
        max_drawdown_pct=float(curve.drawdown_pct().max()),
        days=curve.days,
    )


def sharpe_ratio(returns: Float64) -> float:
    """Compute mean / standard deviation of the returns (Sharpe 1994), per period; NaN if they do not vary."""
    if len(returns) < 2:
        return float("nan")
    deviation = float(np.std(returns, ddof=1))
    # A deviation that small is the rounding of equal numbers.
    if deviation <= 1e-12 * float(np.abs(returns).max()):
        return float("nan")
    return float(np.mean(returns)) / deviation


def sortino_ratio(returns: Float64) -> float:
    """Compute mean / root mean square of the losses over all periods (Sortino and Price 1994), per period.

    The target is a return of zero. NaN if no period lost.
    """
    if len(returns) < 2:
        return float("nan")
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns)) / downside if downside > 0.0 else float("nan")

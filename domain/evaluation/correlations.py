"""How symbols move together over 1, 5, 15 and 60 minutes, and whether one moves before the others.

Returns are logarithms of closes at whole bars of the clock (UTC). A return needs the candle at both of its
ends: nothing is filled, so a halt or a gap takes the returns that touch it out, and a pair is looked at where
both have one.

**Correlation** (Pearson's, and that of ranks, which single jumps cannot move) and **beta** come with 95 %
intervals from circular blocks of days, as volatility and with it correlation persist for hours. Ranks are
those of the whole sample; only the pairs are drawn.

**Who leads.** The cross-correlation at lag k is that of the first symbol's return with the second's k bars
later. Two symbols that share an autocorrelated market have equal cross-correlations at k and -k without
either leading. So a lead is an *asymmetry*: the correlation at k less that at -k. Both it and the
cross-correlations themselves are held against bounds from the spread over blocks of bars, which sees
autocorrelation and shared bursts of volatility, widened (Bonferroni) for every pair, lag and timeframe that
was looked at: the chance of any false leader in a report is at most 5 %. A lead may be no more than stale
prices: a symbol that is seldom traded reacts when it trades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit
from scipy.stats import rankdata

from domain.evaluation.bootstrap import Interval, MinuteSums, block_length, minute_sums, statistic_interval
from schemas.frames import MINUTE_MS, Bool, Float64, Int64

#: Lags looked at, in bars, to either side.
MOST_LAGS = 30
#: Fewer common returns than this are not looked at.
FEWEST_RETURNS = 100
#: A day with fewer common returns than this has no correlation.
FEWEST_A_DAY = 12
#: Chance of any false leader in a report.
FAMILY_WISE_ERROR = 0.05
_DAY_MINUTES = 1440
#: Blocks of a day are wanted as long as so many of them remain.
_BLOCKS_WANTED = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Log returns of several symbols on a regular grid of bars.

    Attributes
    ----------
    open_time_ms
        Shape (bars,): where each bar opens.
    returns_pct
        Shape (bars, symbols), percent; NaN where one of a bar's two ends has no candle.
    """

    timeframe_minutes: int
    symbols: tuple[str, ...]
    open_time_ms: Int64
    returns_pct: Float64

    def unmoved(self) -> dict[str, float]:
        """Tell for each symbol the share of its returns that are exactly 0, a sign of stale prices."""
        shares = {}
        for column, symbol in enumerate(self.symbols):
            known = self.returns_pct[np.isfinite(self.returns_pct[:, column]), column]
            shares[symbol] = float(np.mean(known == 0.0)) if len(known) else float("nan")
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """How two symbols move together; intervals are NaN where history is too short for one."""

    first: str
    second: str
    n: int
    pearson: Interval
    rank: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Beta:
    """How many percent a symbol moves with one percent of the leader; `r2` is the share it explains."""

    symbol: str
    leader: str
    beta: Interval
    r2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadLag:
    """Cross-correlations of a pair, and who leads.

    Attributes
    ----------
    lags
        Bars that the second symbol is looked at later, -30 to 30.
    correlation, bound
        At each lag; without any relation across time, all correlations but that at 0 stay inside plus and
        minus the bound. NaN where it cannot be told.
    excess
        Correlation at the lead's lag less that at the opposite one; of the strongest lag if nobody leads.
    adjusted_p
        Of the strongest asymmetry, after all that was looked at.
    leader, follower
        Empty if nobody leads, beyond chance.
    lead_bars, lead_minutes
        By how much; 0 if nobody leads.
    lead_correlation
        At that lag; below 0 where the follower goes the other way.
    """

    first: str
    second: str
    n: int
    lags: Int64
    correlation: Float64
    bound: Float64
    excess: float
    adjusted_p: float
    leader: str
    follower: str
    lead_bars: int
    lead_minutes: int
    lead_correlation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """Correlation of a pair day by day (UTC); NaN on days with too few common returns."""

    first: str
    second: str
    day_ms: Int64
    correlation: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything about one timeframe."""

    timeframe_minutes: int
    symbols: tuple[str, ...]
    returns: Mapping[str, int]
    unmoved: Mapping[str, float]
    correlations: tuple[Correlation, ...]
    betas: tuple[Beta, ...]
    lead_lags: tuple[LeadLag, ...]
    daily: tuple[Daily, ...]


def views(
    closes: Mapping[str, tuple[Int64, Float64]],
    *,
    timeframes: Sequence[int] = (1, 5, 15, 60),
    leader: str,
    seed: int,
    draws: int = 1000,
) -> tuple[View, ...]:
    """Look at all pairs of symbols in every timeframe.

    Parameters
    ----------
    closes
        By symbol: open times of its one-minute candles in milliseconds, ascending, and their closes.
    timeframes
        Minutes of a bar.
    leader
        The symbol that betas are against.
    seed, draws
        Of the resampling.

    Raises
    ------
    ValueError
        If there are fewer than two symbols, a timeframe is no whole part of a day, or the leader is missing.
    """
    if len(closes) < 2:
        raise ValueError(f"{len(closes)} symbols are no pair: at least 2 are needed")
    if leader not in closes:
        raise ValueError(f"the leader {leader} is not among {', '.join(closes)}")
    pairs = len(closes) * (len(closes) - 1) // 2
    looked_at = pairs * len(set(timeframes))
    return tuple(
        _view(bars_of(closes, timeframe), leader=leader, looked_at=looked_at, seed=seed, draws=draws)
        for timeframe in dict.fromkeys(timeframes)
    )


def bars_of(closes: Mapping[str, tuple[Int64, Float64]], timeframe_minutes: int) -> Bars:
    """Compute the log returns of bars that follow the clock.

    Raises
    ------
    ValueError
        If a timeframe is no whole part of a day.
    """
    if timeframe_minutes < 1 or _DAY_MINUTES % timeframe_minutes:
        raise ValueError(f"{timeframe_minutes} minutes are no whole part of a day, as 1, 5, 15 or 60 are")
    first = min(int(times[0]) for times, _ in closes.values() if len(times)) // MINUTE_MS
    last = max(int(times[-1]) for times, _ in closes.values() if len(times)) // MINUTE_MS
    begin, end = first // timeframe_minutes, last // timeframe_minutes + 1
    returns = np.full((end - begin, len(closes)), np.nan)
    for column, (times, close) in enumerate(closes.values()):
        minute = np.asarray(times, np.int64) // MINUTE_MS
        at_end = (minute + 1) % timeframe_minutes == 0
        ends = np.full(end - begin + 1, np.nan)
        ends[(minute[at_end] + 1) // timeframe_minutes - begin] = np.log(
            np.asarray(close, np.float64)[at_end]
        )
        returns[:, column] = 100.0 * np.diff(ends)
    return Bars(
        timeframe_minutes=timeframe_minutes,
        symbols=tuple(closes),
        open_time_ms=np.arange(begin, end, dtype=np.int64) * timeframe_minutes * MINUTE_MS,
        returns_pct=returns,
    )


def _view(bars: Bars, *, leader: str, looked_at: int, seed: int, draws: int) -> View:
    places = range(len(bars.symbols))
    known = np.isfinite(bars.returns_pct)
    sums = {
        (a, b): _pair_sums(bars, a, b)
        for a, b in combinations(places, 2)
        if int((known[:, a] & known[:, b]).sum()) >= FEWEST_RETURNS
    }
    at = bars.symbols.index(leader)
    return View(
        timeframe_minutes=bars.timeframe_minutes,
        symbols=bars.symbols,
        returns={symbol: int(known[:, place].sum()) for place, symbol in enumerate(bars.symbols)},
        unmoved=bars.unmoved(),
        correlations=tuple(correlation(bars, a, b, seed=seed, draws=draws) for a, b in sums),
        betas=tuple(
            _beta(bars, at, place, seed, draws)
            for place in places
            if place != at and (min(at, place), max(at, place)) in sums
        ),
        lead_lags=tuple(lead_lag(bars, a, b, looked_at=looked_at) for a, b in sums),
        daily=tuple(daily(bars, a, b) for a, b in sums),
    )


# --- together ---


def correlation(bars: Bars, a: int, b: int, *, seed: int, draws: int = 1000) -> Correlation:
    """Correlate two symbols, by their columns."""
    sums = _pair_sums(bars, a, b)
    ranked = _pair_sums(bars, a, b, ranks=True)
    return Correlation(
        first=bars.symbols[a],
        second=bars.symbols[b],
        n=int(sums.grid[:, 0].sum()),
        pearson=statistic_interval(sums=sums, statistic=_pearson, seed=seed, draws=draws),
        rank=statistic_interval(sums=ranked, statistic=_pearson, seed=seed, draws=draws),
    )


def daily(bars: Bars, a: int, b: int) -> Daily:
    """Correlate two symbols day by day."""
    both = _both(bars, a, b)
    day, place = np.unique(bars.open_time_ms[both] // (_DAY_MINUTES * MINUTE_MS), return_inverse=True)
    columns = _columns(bars.returns_pct[both, a], bars.returns_pct[both, b])
    totals: Float64 = np.zeros((len(day), columns.shape[1]))
    for number, column in enumerate(columns.T):
        totals[:, number] = np.bincount(place, weights=column, minlength=len(day))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _pearson(totals)
    found[totals[:, 0] < FEWEST_A_DAY] = np.nan
    return Daily(
        first=bars.symbols[a],
        second=bars.symbols[b],
        day_ms=day * _DAY_MINUTES * MINUTE_MS,
        correlation=found,
    )


def _beta(bars: Bars, leader: int, other: int, seed: int, draws: int) -> Beta:
    both = _both(bars, leader, other)
    scale = float(np.std(bars.returns_pct[both, other])) / float(
        np.std(bars.returns_pct[both, leader]) or 1.0
    )
    sums = _pair_sums(bars, leader, other)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = float(_pearson(sums.grid.sum(axis=0)))
    return Beta(
        symbol=bars.symbols[other],
        leader=bars.symbols[leader],
        beta=statistic_interval(
            sums=sums, statistic=lambda totals: scale * _slope(totals), seed=seed, draws=draws
        ),
        r2=r * r,
    )


def _both(bars: Bars, a: int, b: int) -> Bool:
    both: Bool = np.isfinite(bars.returns_pct[:, a]) & np.isfinite(bars.returns_pct[:, b])
    return both


def _pair_sums(bars: Bars, a: int, b: int, *, ranks: bool = False) -> MinuteSums:
    """Lay the common returns of a pair out for resampling; one grid place a bar."""
    both = _both(bars, a, b)
    x, y = bars.returns_pct[both, a], bars.returns_pct[both, b]
    if ranks:
        x, y = rankdata(x), rankdata(y)
    n = len(x)
    day = _DAY_MINUTES // bars.timeframe_minutes
    return minute_sums(
        columns=_columns(x, y),
        open_time_ms=np.flatnonzero(both) * MINUTE_MS,
        horizon_minutes=1,
        block_minutes=max(block_length(horizon_minutes=1, minutes=n), min(day, n // _BLOCKS_WANTED)),
    )


def _columns(x: Float64, y: Float64) -> Float64:
    """Compute what correlation and slope are made of, from values of mean 0 and deviation 1."""
    x, y = ((v - v.mean()) / (v.std() or 1.0) if len(v) else v for v in (x, y))
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _pearson(totals: Float64) -> Float64:
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    found: Float64 = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return found


def _slope(totals: Float64) -> Float64:
    n, x, y, xx, _, xy = np.moveaxis(totals, -1, 0)
    found: Float64 = (n * xy - x * y) / (n * xx - x * x)
    return found


# --- across time ---


def lead_lag(bars: Bars, a: int, b: int, *, looked_at: int, most_lags: int = MOST_LAGS) -> LeadLag:
    """Correlate two symbols at all lags and say who leads.

    Parameters
    ----------
    bars, a, b
        The returns, and the columns of the pair.
    looked_at
        Pairs times timeframes of the whole report; each lag is counted in addition.
    most_lags
        Bars to either side.
    """
    x, y, known = _standard(bars, a, b)
    lags = np.arange(-most_lags, most_lags + 1)
    ahead = range(1, most_lags + 1)
    later = np.stack([_product(x, y, lag) for lag in ahead], axis=1)
    earlier = np.stack([_product(y, x, lag) for lag in ahead], axis=1)
    there = np.stack([_product(known, known, lag) for lag in ahead], axis=1)
    length = block_length(horizon_minutes=1, minutes=int(known.sum()))
    c_later, e_later, freedom = _means(later, there, length)
    c_earlier, e_earlier, _ = _means(earlier, there, length)
    excess, e_excess, _ = _means(later - earlier, there, length)
    tail = FAMILY_WISE_ERROR / (2 * looked_at * 2 * most_lags)
    widest = np.where(freedom > 0, -stdtrit(np.maximum(freedom, 1), tail), np.nan)
    bound_later, bound_earlier = widest * e_later, widest * e_earlier
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = np.where(e_excess > 0, np.abs(excess) / e_excess, 0.0)
    p = np.minimum(1.0, 2 * stdtr(np.maximum(freedom, 1), -deviations) * looked_at * most_lags)
    first_leads = np.abs(c_later) >= np.abs(c_earlier)
    leading, bound = np.where(first_leads, (c_later, bound_later), (c_earlier, bound_earlier))
    counts = (p < FAMILY_WISE_ERROR) & (np.abs(leading) > bound)
    strongest = int(np.argmax(np.where(counts, deviations, -1.0) if counts.any() else deviations))
    leads = bool(counts[strongest])
    names = (bars.symbols[a], bars.symbols[b])
    leader, follower = names if first_leads[strongest] else names[::-1]
    now = float(np.sum(x * y) / max(1.0, known.sum()))
    return LeadLag(
        first=names[0],
        second=names[1],
        n=int(known.sum()),
        lags=lags,
        correlation=np.concatenate([c_earlier[::-1], [now], c_later]),
        bound=np.concatenate([bound_earlier[::-1], [np.nan], bound_later]),
        excess=float(excess[strongest] if first_leads[strongest] else -excess[strongest]),
        adjusted_p=float(p[strongest]),
        leader=leader if leads else "",
        follower=follower if leads else "",
        lead_bars=strongest + 1 if leads else 0,
        lead_minutes=(strongest + 1) * bars.timeframe_minutes if leads else 0,
        lead_correlation=float(leading[strongest]),
    )


def _standard(bars: Bars, a: int, b: int) -> tuple[Float64, Float64, Float64]:
    """Give both symbols with mean 0 and deviation 1 where both are known, 0 elsewhere, and where that is."""
    both = _both(bars, a, b)
    made = []
    for column in (a, b):
        values = bars.returns_pct[both, column]
        whole = np.zeros(len(both))
        whole[both] = (values - values.mean()) / (values.std() or 1.0)
        made.append(whole)
    return made[0], made[1], both.astype(np.float64)


def _product(x: Float64, y: Float64, lag: int) -> Float64:
    """Multiply each bar of `x` with the bar of `y` that is `lag` bars later; 0 at the end."""
    product = np.zeros(len(x))
    product[: len(x) - lag] = x[: len(x) - lag] * y[lag:]
    return product


def _means(products: Float64, there: Float64, length: int) -> tuple[Float64, Float64, Int64]:
    """Average products over the bars that are there, with standard errors from blocks of bars.

    Returns
    -------
    Means, their standard errors and degrees of freedom, each of shape (lags,); NaN where nothing is there.
    """
    starts = np.arange(0, len(products), length)
    total, count = products.sum(axis=0), there.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        held = np.add.reduceat(there, starts, axis=0)
        spread = np.add.reduceat(products, starts, axis=0) - held * mean
        blocks = (held > 0).sum(axis=0)
        error = np.sqrt((spread**2).sum(axis=0) * blocks / np.maximum(blocks - 1, 1)) / count
    error[blocks < 2] = np.nan
    return mean, error, np.maximum(blocks - 1, 0)

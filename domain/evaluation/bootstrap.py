"""Confidence intervals for scores whose rows overlap in time and share minutes.

The sums of each minute are resampled in circular blocks of minutes (Politis and Romano 1992), all symbols of
a minute together: labels of neighbouring minutes overlap and symbols move together, so rows are not
independent, but distant blocks nearly are.

Three things keep an interval from being narrower than it should be:

- blocks are as long as is optimal for the mean of overlapping sums, and never shorter than two horizons;
- the percentiles are taken further out (Hesterberg 2015, "expanded percentile interval"): Student's t instead
  of the normal, and what blocks of finite length miss of the variance of overlapping labels;
- with too few blocks, or if nothing varied, there is no interval: its bounds are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from schemas.frames import MINUTE_MS, Float64, Int64

#: Fewer independent blocks than this say nothing about the spread.
FEWEST_BLOCKS = 10
#: Volatility persists beyond the horizon: blocks are this long where history is long enough for it.
PERSISTENCE_MINUTES = 60
#: ... which is where this many blocks remain.
BLOCKS_TO_AFFORD_PERSISTENCE = 40
#: Numbers held in memory at once while drawing.
_CHUNK = 4_000_000

#: From sums, shape (..., columns), to one number each, shape (...).
Statistic = Callable[[Float64], Float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes
    ----------
    estimate
        On the rows as they are; NaN if it is not defined.
    low, high
        Bounds; both NaN where the spread cannot be told.
    level
        Nominal coverage, such as 0.95.
    blocks
        Independent blocks the bounds rest on.
    """

    estimate: float
    low: float
    high: float
    level: float
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteSums:
    """Sums over the rows of each minute, on a grid without empty stretches longer than a block.

    Attributes
    ----------
    grid
        Shape (grid minutes, columns): the sums, 0 in minutes without rows.
    block_minutes
        Length of a block.
    blocks
        Disjoint whole blocks that hold at least one row: how many outcomes are nearly independent.
    horizon_minutes
        How far the labels look ahead.
    """

    grid: Float64
    block_minutes: int
    blocks: int
    horizon_minutes: int

    @property
    def missed_variance(self) -> float:
        """Share of the variance of overlapping labels that blocks of this length do not see.

        The correlation of sums over `h` minutes falls as `1 - lag / h`; a block of `b` minutes weighs it with
        `1 - lag / b`. So `h / (3 b)` is missed: a sixth at two horizons.
        """
        return self.horizon_minutes / (3.0 * self.block_minutes)


def block_length(*, horizon_minutes: int, minutes: int) -> int:
    """Derive the length of a block, in minutes, from the horizon and the minutes that hold rows.

    The circular block length that minimises the error of the variance of a mean is
    `(2 G^2 / D)^(1/3) n^(1/3)` with `G = sum |k| R(k)` and `D = 4/3 (sum R(k))^2` (Politis and White 2004,
    corrected 2009). For labels that overlap over `h` minutes that is `(h^2 n / 6)^(1/3)`. It is never taken
    below two horizons, nor below an hour where at least 40 such blocks remain.
    """
    if horizon_minutes < 1:
        raise ValueError(f"horizon_minutes must be at least 1, not {horizon_minutes}")
    optimal = math.ceil(math.cbrt(horizon_minutes * horizon_minutes * minutes / 6.0))
    persistence = min(PERSISTENCE_MINUTES, minutes // BLOCKS_TO_AFFORD_PERSISTENCE)
    return max(2 * horizon_minutes, optimal, persistence)


def minute_sums(
    *, columns: ArrayLike, open_time_ms: Int64, horizon_minutes: int, block_minutes: int | None = None
) -> MinuteSums:
    """Add up the rows of each minute and lay the minutes out for resampling.

    Parameters
    ----------
    columns
        Shape (rows,) or (rows, columns); finite.
    open_time_ms
        Of each row, milliseconds UTC, in any order.
    horizon_minutes
        How far the labels look ahead.
    block_minutes
        Length of a block; None: `block_length` of the minutes that hold rows.

    Raises
    ------
    ValueError
        If lengths differ, a number is not finite, or the block is shorter than two horizons.
    """
    values = np.asarray(columns, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) != len(open_time_ms):
        raise ValueError(f"{len(values)} rows but {len(open_time_ms)} open times")
    if not np.isfinite(values).all():
        raise ValueError("columns holds numbers that are not finite: leave out those rows first")
    present, row_minute = np.unique(np.asarray(open_time_ms) // MINUTE_MS, return_inverse=True)
    length = block_minutes or block_length(horizon_minutes=horizon_minutes, minutes=len(present))
    if length < 2 * horizon_minutes:
        raise ValueError(f"blocks of {length} minutes are shorter than two horizons of {horizon_minutes}")
    place = np.cumsum(np.minimum(np.diff(present, prepend=present[:1]), length))
    grid = np.zeros((int(place[-1]) + 1 if len(place) else 0, values.shape[1]))
    for column in range(values.shape[1]):
        grid[place, column] = np.bincount(row_minute, weights=values[:, column], minlength=len(present))
    whole = len(grid) // length
    held = len(np.unique(place[place < whole * length] // length))
    return MinuteSums(grid=grid, block_minutes=length, blocks=held, horizon_minutes=horizon_minutes)


def resampled_totals(*, sums: MinuteSums, draws: int, seed: int) -> Float64:
    """Draw totals of every column, each over as many minutes as there are.

    Returns
    -------
    Shape (draws, columns). One call serves every statistic of these columns.
    """
    length, minutes = sums.block_minutes, len(sums.grid)
    if minutes == 0:
        return np.zeros((draws, sums.grid.shape[1]))
    whole, rest = divmod(minutes, length)
    blocks, ends = _window_sums(sums.grid, length), _window_sums(sums.grid, rest)
    chance = np.random.default_rng(seed)
    totals = np.empty((draws, sums.grid.shape[1]))
    step = max(1, _CHUNK // (whole + 1))
    for begin in range(0, draws, step):
        starts = chance.integers(0, minutes, size=(min(step, draws - begin), whole + 1))
        for column in range(totals.shape[1]):
            drawn = blocks[:, column][starts[:, :whole]].sum(axis=1)
            totals[begin : begin + len(starts), column] = drawn + ends[:, column][starts[:, whole]]
    return totals


def statistic_interval(
    *, sums: MinuteSums, statistic: Statistic, level: float = 0.95, draws: int = 1000, seed: int
) -> Interval:
    """Give the interval of any number that can be computed from the totals of the columns.

    Parameters
    ----------
    sums
        As `minute_sums` made them.
    statistic
        From totals, shape (..., columns), to numbers, shape (...); NaN where it is not defined.
    level
        Nominal coverage.
    draws, seed
        How many resamples, and of which stream of chance.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be inside 0..1, not {level}")
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(statistic(sums.grid.sum(axis=0)))
        if sums.blocks < FEWEST_BLOCKS or not math.isfinite(estimate):
            return _unknown(estimate, level, sums.blocks)
        drawn = statistic(resampled_totals(sums=sums, draws=draws, seed=seed))
    # A draw may hold no row that counts. Were that common, the others would not stand for all.
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 0.99 * draws or np.ptp(defined) <= 1e-9 * max(1e-300, float(np.abs(defined).max())):
        return _unknown(estimate, level, sums.blocks)
    low, high = np.quantile(defined, _expanded_tails(sums, level))
    return Interval(estimate=estimate, low=float(low), high=float(high), level=level, blocks=sums.blocks)


def ratio_interval(
    *,
    numerator: ArrayLike,
    denominator: ArrayLike,
    open_time_ms: Int64,
    horizon_minutes: int,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
    block_minutes: int | None = None,
) -> Interval:
    """Give the interval of sum(numerator) / sum(denominator), one entry of each a row.

    Rows where both are 0 do not count.
    """
    columns = np.column_stack([np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)])
    counts = (columns != 0).any(axis=1)
    sums = minute_sums(
        columns=columns[counts],
        open_time_ms=np.asarray(open_time_ms)[counts],
        horizon_minutes=horizon_minutes,
        block_minutes=block_minutes,
    )
    return statistic_interval(
        sums=sums, statistic=lambda t: t[..., 0] / t[..., 1], level=level, draws=draws, seed=seed
    )


def mean_interval(
    *,
    values: ArrayLike,
    open_time_ms: Int64,
    horizon_minutes: int,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
    block_minutes: int | None = None,
) -> Interval:
    """Give the interval of the mean over rows: of hits, of squared errors, of what an interval covered."""
    return ratio_interval(
        numerator=values,
        denominator=np.ones(len(np.asarray(values))),
        open_time_ms=open_time_ms,
        horizon_minutes=horizon_minutes,
        level=level,
        draws=draws,
        seed=seed,
        block_minutes=block_minutes,
    )


def paired_difference_interval(
    *,
    first: ArrayLike,
    second: ArrayLike,
    open_time_ms: Int64,
    horizon_minutes: int,
    level: float = 0.95,
    draws: int = 1000,
    seed: int,
    block_minutes: int | None = None,
) -> Interval:
    """Give the interval of mean(first) - mean(second), both on the same rows, which are drawn together."""
    return mean_interval(
        values=np.asarray(first, np.float64) - np.asarray(second, np.float64),
        open_time_ms=open_time_ms,
        horizon_minutes=horizon_minutes,
        level=level,
        draws=draws,
        seed=seed,
        block_minutes=block_minutes,
    )


def standard_error_of_mean(sums: MinuteSums) -> float:
    """Compute what the standard deviation of the first column's mean over minutes is, without drawing.

    It is the limit of infinitely many draws of circular blocks: the total has the variance
    `sum_i (S_i - b m)^2 / b` (Politis and Romano 1992), here raised by what such blocks miss of overlapping
    labels. The mean is over all minutes of the grid. NaN with fewer than 10 blocks.
    """
    if sums.blocks < FEWEST_BLOCKS:
        return float("nan")
    length, minutes = sums.block_minutes, len(sums.grid)
    blocks = _window_sums(sums.grid[:, :1], length)[:, 0]
    variance = float(np.mean((blocks - blocks.mean()) ** 2)) * minutes / length
    # Deviations from the sample's own mean are too small by one block in n / b.
    variance *= 1.0 / ((1.0 - sums.missed_variance) * (1.0 - 1.0 / sums.blocks))
    return math.sqrt(variance) / minutes


def _window_sums(grid: Float64, length: int) -> Float64:
    """Sum `length` rows from each row on, around the end."""
    if length == 0:
        return np.zeros_like(grid)
    around = np.concatenate([np.zeros((1, grid.shape[1])), grid, np.resize(grid, (length, grid.shape[1]))])
    running = np.cumsum(around, axis=0)
    sums: Float64 = (running[length:] - running[:-length])[: len(grid)]
    return sums


def _expanded_tails(sums: MinuteSums, level: float) -> tuple[float, float]:
    freedom = sums.blocks - 1
    deviations = float(stdtrit(freedom, 0.5 + level / 2.0)) * math.sqrt(sums.blocks / freedom)
    tail = float(ndtr(-deviations / math.sqrt(1.0 - sums.missed_variance)))
    return tail, 1.0 - tail


def _unknown(estimate: float, level: float, blocks: int) -> Interval:
    return Interval(
        estimate=estimate if math.isfinite(estimate) else float("nan"),
        low=float("nan"),
        high=float("nan"),
        level=level,
        blocks=blocks,
    )

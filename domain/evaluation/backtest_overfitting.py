"""How likely it is that choosing the best trial chose chance.

Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu 2015, "The probability of
backtest overfitting"): the periods are cut into blocks; for every choice of half of the blocks the trial with
the best Sharpe ratio there is looked up in the other half. If it is in the lower half of the trials there,
the choice was overfitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from schemas.frames import Bool, Float64

#: Blocks where there are periods enough: 12,870 ways to choose half of them.
MOST_BLOCKS = 16
#: Fewer ways to choose (70 for 8 blocks) make no probability.
FEWEST_BLOCKS = 8
FEWEST_PERIODS_PER_BLOCK = 2
#: Numbers held in memory at once.
_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfitting:
    """What cross-validation says of choosing the best trial.

    Attributes
    ----------
    probability
        Share of choices in which the best trial of one half was not better than the median of the other; NaN
        if it cannot be told.
    probability_of_loss
        Share of choices in which it lost in the other half.
    median_logit
        Median of the logit of its relative rank there; above 0 the choice carries over.
    choices, blocks
        How many halves were looked at, of how many blocks.
    reason
        Why it cannot be told; empty if it can.
    """

    probability: float
    probability_of_loss: float
    median_logit: float
    choices: int
    blocks: int
    reason: str


def probability_of_backtest_overfitting(returns: Float64, *, most_blocks: int = MOST_BLOCKS) -> Overfitting:
    """Compute the probability of backtest overfitting.

    Parameters
    ----------
    returns
        Shape (periods, trials), finite: what every trial earned in every period, all over the same periods.
    most_blocks
        Even; fewer are used if blocks would hold less than two periods.

    Raises
    ------
    ValueError
        If `returns` is not a finite matrix, or `most_blocks` is odd or below 8.
    """
    returns = np.asarray(returns, np.float64)
    if returns.ndim != 2 or not np.isfinite(returns).all():
        raise ValueError(f"returns must be a finite (periods, trials) matrix, is {returns.shape}")
    if most_blocks < FEWEST_BLOCKS or most_blocks % 2:
        raise ValueError(f"most_blocks must be even and at least {FEWEST_BLOCKS}, not {most_blocks}")
    periods, trials = returns.shape
    if trials < 2:
        return _unknown(f"{trials} trial: choosing the best needs at least 2")
    blocks = min(most_blocks, periods // FEWEST_PERIODS_PER_BLOCK // 2 * 2)
    if blocks < FEWEST_BLOCKS:
        needed = FEWEST_BLOCKS * FEWEST_PERIODS_PER_BLOCK
        return _unknown(f"{periods} periods are too few: at least {needed} are needed")
    if (returns == returns[:, :1]).all():
        return _unknown("the trials do not differ")
    return _cross_validated(returns, blocks)


def _cross_validated(returns: Float64, blocks: int) -> Overfitting:
    begins = np.array([part[0] for part in np.array_split(np.arange(len(returns)), blocks)])
    counts = np.diff(np.append(begins, len(returns))).astype(np.float64)
    sums = np.add.reduceat(returns, begins, axis=0)
    squares = np.add.reduceat(returns**2, begins, axis=0)
    halves = _halves(blocks)
    logits, earned = np.empty(len(halves)), np.empty(len(halves))
    step = max(1, _CHUNK // returns.shape[1])
    for begin in range(0, len(halves), step):
        inside = halves[begin : begin + step]
        best = np.argmax(_sharpes(inside, counts, sums, squares), axis=1)
        outside = _sharpes(~inside, counts, sums, squares)
        earned[begin : begin + len(best)] = outside[np.arange(len(best)), best]
        logits[begin : begin + len(best)] = _logits_of_rank(outside, best)
    return Overfitting(
        probability=float(np.mean(logits <= 0.0)),
        probability_of_loss=float(np.mean(earned < 0.0)),
        median_logit=float(np.median(logits)),
        choices=len(halves),
        blocks=blocks,
        reason="",
    )


def _halves(blocks: int) -> Bool:
    chosen = np.array(list(combinations(range(blocks), blocks // 2)))
    halves = np.zeros((len(chosen), blocks), np.bool_)
    np.put_along_axis(halves, chosen, True, axis=1)
    return halves


def _sharpes(chosen: Bool, counts: Float64, sums: Float64, squares: Float64) -> Float64:
    """Sharpe ratio of every trial over the chosen blocks; 0 for a trial that did nothing there."""
    weights = chosen.astype(np.float64)
    count = (weights @ counts)[:, None]
    mean, square = weights @ sums / count, weights @ squares / count
    variance = square - mean * mean
    # What is left of equal numbers after rounding is no variance.
    varies = variance > 1e-12 * square
    return np.where(varies, mean / np.sqrt(np.where(varies, variance, 1.0)), 0.0)


def _logits_of_rank(sharpes: Float64, best: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Float64:
    """Logit of the relative rank of one trial in each row, equals sharing the mean of their ranks."""
    own = np.take_along_axis(sharpes, best[:, None], axis=1)
    below = np.sum(sharpes < own, axis=1)
    rank = below + (np.sum(sharpes == own, axis=1) + 1) / 2.0
    relative = rank / (sharpes.shape[1] + 1)
    logits: Float64 = np.log(relative / (1.0 - relative))
    return logits


def _unknown(reason: str) -> Overfitting:
    return Overfitting(
        probability=math.nan,
        probability_of_loss=math.nan,
        median_logit=math.nan,
        choices=0,
        blocks=0,
        reason=reason,
    )

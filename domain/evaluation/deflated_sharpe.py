"""How sure a Sharpe ratio is, and what is left of it after everything that was tried.

Sources: Bailey and Lopez de Prado (2012), "The Sharpe ratio efficient frontier", for the probabilistic Sharpe
ratio and the minimum track record; the same (2014), "The deflated Sharpe ratio". All Sharpe ratios here are
per period (per day, say), not annualised, and returns of different periods count as independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from domain.evaluation.equity import sharpe_ratio
from schemas.frames import Float64

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeflatedSharpe:
    """What may be said of the best Sharpe ratio among many trials; NaN where returns do not vary.

    Attributes
    ----------
    sharpe
        Per period.
    periods, trials
        How many returns, and how many trials the best was chosen from.
    expected_of_chance
        The highest Sharpe ratio that so many trials without skill would have on average.
    probabilistic
        Probability that the true Sharpe ratio is above zero, had this been the only trial.
    deflated
        Probability that it is above `expected_of_chance`.
    minimum_periods
        Periods after which such a Sharpe ratio would be above zero with 95 %, as the only trial; NaN if it is
        not above zero.
    """

    sharpe: float
    periods: int
    trials: int
    expected_of_chance: float
    probabilistic: float
    deflated: float
    minimum_periods: float


def deflated_sharpe(*, returns: Float64, trials: int, sharpe_variance: float) -> DeflatedSharpe:
    """Compute the deflated Sharpe ratio of the returns of the best trial.

    Parameters
    ----------
    returns
        One a period.
    trials
        Everything that was tried, the best included.
    sharpe_variance
        Variance of the trials' Sharpe ratios, per period; not used for a single trial.
    """
    sharpe = sharpe_ratio(returns)
    skewness, kurtosis = _shape(returns)
    chance = expected_highest_sharpe(trials=trials, sharpe_variance=sharpe_variance)

    def above(reference: float) -> float:
        return probabilistic_sharpe(
            sharpe=sharpe, reference=reference, periods=len(returns), skewness=skewness, kurtosis=kurtosis
        )

    return DeflatedSharpe(
        sharpe=sharpe,
        periods=len(returns),
        trials=trials,
        expected_of_chance=chance,
        probabilistic=above(0.0),
        deflated=above(chance),
        minimum_periods=minimum_track_record(
            sharpe=sharpe, reference=0.0, skewness=skewness, kurtosis=kurtosis
        ),
    )


def probabilistic_sharpe(
    *, sharpe: float, reference: float, periods: int, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Compute the probability that the true Sharpe ratio is above the reference (2012, eq. 11).

    Parameters
    ----------
    sharpe, reference
        Per period.
    periods
        Returns that `sharpe` was computed from.
    skewness, kurtosis
        Of the returns; the normal distribution has 0 and 3.
    """
    spread = _spread(sharpe, skewness, kurtosis)
    if periods < 2 or not math.isfinite(spread) or not math.isfinite(reference):
        return float("nan")
    return _NORMAL.cdf((sharpe - reference) * math.sqrt(periods - 1) / spread)


def minimum_track_record(
    *,
    sharpe: float,
    reference: float = 0.0,
    confidence: float = 0.95,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Compute how many periods it takes to tell such a Sharpe ratio from the reference (2012, eq. 13).

    NaN if it is not above the reference.
    """
    spread = _spread(sharpe, skewness, kurtosis)
    if not math.isfinite(spread) or not sharpe > reference:
        return float("nan")
    return 1.0 + (spread * _NORMAL.inv_cdf(confidence) / (sharpe - reference)) ** 2


def expected_highest_sharpe(*, trials: int, sharpe_variance: float) -> float:
    """Compute the expected highest Sharpe ratio of independent trials whose true one is zero (2014, eq. 1).

    Trials that resemble each other, such as seeds of one recipe, count in full, which only makes the verdict
    stricter. A single trial has 0.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, not {trials}")
    if trials == 1:
        return 0.0
    if not sharpe_variance >= 0.0:
        return float("nan")
    euler = float(np.euler_gamma)
    highest = (1.0 - euler) * _NORMAL.inv_cdf(1.0 - 1.0 / trials) + euler * _NORMAL.inv_cdf(
        1.0 - 1.0 / (trials * math.e)
    )
    return math.sqrt(sharpe_variance) * highest


def _spread(sharpe: float, skewness: float, kurtosis: float) -> float:
    """Give the standard deviation of the estimate times the root of the periods (Mertens 2002)."""
    variance = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    return math.sqrt(variance) if variance > 0.0 else float("nan")


def _shape(returns: Float64) -> tuple[float, float]:
    if math.isnan(sharpe_ratio(returns)):
        return float("nan"), float("nan")
    standard = (returns - np.mean(returns)) / np.std(returns)
    return float(np.mean(standard**3)), float(np.mean(standard**4))

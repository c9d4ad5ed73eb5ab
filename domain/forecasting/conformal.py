"""Intervals that hold what they say while volatility moves: adaptive conformal quantiles, followed online.

A score says how far an outcome fell from what was stated, in units of what was expected when it was stated:

- price_direction: |actual - predicted| / (volatility * sqrt(h)), with the volatility that the rule states for
  the next `h` minutes;
- trend: |actual - predicted| / the deviation of the least-squares slope of a random walk of that volatility;
- volatility: the logarithm of actual / stated, each side for itself, since volatility jumps up further than
  it sinks.

The interval of a level holds the scores up to a quantile `q`. After every outcome

    excess += (missed - alpha) / h
    q = start * exp(STEPS * REACH_HORIZONS * sinh(excess / REACH_HORIZONS))

where `missed` is 1 if the outcome lay outside the interval *as it was stated*, and `alpha` the share that may
(one side of a volatility: half of it). Outcomes of neighbouring minutes overlap, `h` of them are about one;
so misses count in horizons. Near its start `q` moves by `STEPS` of itself for each horizon of misses; where
misses pile up, as in a market whose long moves the volatility of a minute says nothing about, it moves ever
faster. That is the integrating part of conformal PID control, saturation included (Angelopoulos, Candes and
Tibshirani 2023; about the long run see also Gibbs and Candes 2021): as `excess` does not leave its bounds,
over `n` horizons the coverage differs from its level by at most a few horizons' misses divided by `n`. The
state is two numbers a quantile, and only outcomes that were known go into it.

How the constants were chosen: `STARTS` are the quantiles of these scores over five recordings of a month or
more (2021-04, 2021-09, 2023-03 on two exchanges, 2023-07; four to six symbols each), averaged and rounded.
Those of price and trend differ by 5 % from one recording to another, so that even without any adaptation
coverage is 78 to 84 %; those of volatility by 15 %, which would leave 74 to 89 %. `STEPS` are compromises,
one for all horizons and markets: 0 leaves those errors; 0.3 holds each single day near its level but makes
the interval score 2 % worse. 0.05, and 0.15 for the volatility, hold each recording within half a point up to
an hour and cost about 0.2 and 1 %. `REACH_HORIZONS` changes nothing on the recordings; it was chosen so that
intervals that are four times too narrow are wide enough after about ten horizons.
"""

from __future__ import annotations

import math

import numpy as np

from domain.forecasting.volatility import nearest_horizon
from schemas.frames import Float64

#: The levels, and the share of outcomes that may lie outside.
LEVELS = (80, 95)
MISSES = (0.2, 0.05)
#: By type: the share of the starting quantile by which `q` would rise in one horizon of nothing but misses.
STEPS = (0.05, 0.15, 0.05)
#: From this many horizons of misses on, `q` moves faster and faster.
REACH_HORIZONS = 3.0
#: `q` stays within this many times where it started, either way: a market that stands still may wake.
MOST = 20.0
# By fitted horizon: price and trend at 80 and 95 %; volatility below at 80 and 95 %, and above at both.
STARTS: dict[int, tuple[float, float, float, float, float, float]] = {
    5: (1.32, 2.27, 0.75, 1.22, 0.52, 0.87),
    15: (1.29, 2.28, 0.41, 0.64, 0.47, 0.83),
    30: (1.26, 2.30, 0.33, 0.52, 0.46, 0.83),
    60: (1.21, 2.28, 0.32, 0.48, 0.45, 0.82),
    240: (1.17, 2.28, 0.33, 0.48, 0.46, 0.80),
    1440: (1.16, 2.18, 0.36, 0.52, 0.45, 0.76),
}


def starting_quantiles(horizons: tuple[int, ...]) -> Float64:
    """Give where the quantiles start, as (horizons, types, bounds).

    Types as in `domain.forecasting.stated`; bounds are lower and upper at 80 %, then lower and upper at 95 %.
    """
    starts = np.empty((len(horizons), 3, 4))
    for j, horizon in enumerate(horizons):
        near, far, below, far_below, above, far_above = STARTS[nearest_horizon(horizon)]
        starts[j] = (
            (near, near, far, far),
            (below, above, far_below, far_above),
            (near, near, far, far),
        )
    return starts


def largest_excess() -> Float64:
    """Give the excess at which a quantile is `MOST` times its start, in horizons, by type."""
    steps = np.array(STEPS) * REACH_HORIZONS
    bounds: Float64 = REACH_HORIZONS * np.arcsinh(math.log(MOST) / steps)
    return bounds


def expected_errors(horizons: tuple[int, ...]) -> Float64:
    """Give the deviation of a random walk's outcomes for one percent of volatility, as (horizons, types).

    The change over `h` minutes has `sqrt(h)`; the least-squares slope of `h` closes, in percent per hour,
    60 sqrt(6 (h^2 + 1) / (5 h (h^2 - 1))). A volatility's error is a ratio already (1).
    """
    minutes = np.array(horizons, np.float64)
    closes = np.maximum(minutes, 2.0)  # one close has no slope
    slope = 60.0 * np.sqrt(1.2 * (closes**2 + 1.0) / (closes * (closes**2 - 1.0)))
    return np.stack([np.sqrt(minutes), np.ones(len(minutes)), slope], axis=1)

"""Volatility and its cones: how wild the market is, and how that ranks among the last day."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.features.periods import DEFAULT_PERIODS, VOLATILITY_LONG
from domain.indicators.base.compiled import compiled
from domain.indicators.base.window import push
from schemas.frames import Float64

SAMPLE_MINUTES = 15
SAMPLES = 96  # a day of quarter hours
_WARM_UP = VOLATILITY_LONG + 1 + SAMPLES * SAMPLE_MINUTES
_BURGHARDT = "Galen Burghardt and Morton Lane, How to Tell if Options Are Cheap (1990)"

FEATURES = (
    Feature(
        name="volatility",
        unit="percent of the price per minute",
        formula="100 · sample standard deviation of close/previous close - 1 over 5 returns (the chart's "
        "volatility)",
        source="definition",
        warm_up=DEFAULT_PERIODS.volatility + 1,
    ),
    *(
        Feature(
            name=f"volatility_{n}",
            unit="percent of the price per minute",
            formula=f"100 · sample standard deviation of ln(close/previous close) over {n} returns",
            source="definition",
            warm_up=VOLATILITY_LONG + 1,
        )
        for n in (15, 60)
    ),
    *(
        Feature(
            name=f"volatility_cone_{n}",
            unit="share, 0 to 1",
            formula=f"rank of the volatility over {n} returns among its values at the first candle of "
            f"each of the last {SAMPLES} quarter hours of the clock: share below, plus half of those equal",
            source=_BURGHARDT,
            warm_up=_WARM_UP,
        )
        for n in (5, 15, 60)
    ),
)

# state: samples taken, the quarter hour last sampled, then the samples of each of the three volatilities. A
# sample taken before the volatility was warm is NaN, and so is the rank while one is among them.
_HEAD = 2
CONE_STATE = _HEAD + 3 * SAMPLES


@compiled
def rank(samples: Float64, value: float) -> float:
    """Tell the share of samples below a value, counting those equal half."""
    if not samples[0] >= 0.0 or not value >= 0.0:
        return math.nan
    below = 0
    not_above = 0
    for i in range(len(samples)):
        below += samples[i] < value
        not_above += samples[i] <= value
    return (below + not_above) / (2.0 * len(samples))


@compiled
def update(
    state: Float64, volatility: float, sigmas: Float64, candles: int, minute: int, out: Float64
) -> None:
    """Take in the volatilities at one candle, the `candles`-th; `minute` counts since 1970."""
    out[0] = 100.0 * volatility
    out[1] = sigmas[1]
    out[2] = sigmas[2]
    full = state[0] >= SAMPLES
    for i in range(3):
        samples = state[_HEAD + i * SAMPLES : _HEAD + (i + 1) * SAMPLES]
        out[3 + i] = rank(samples, sigmas[i]) if full else math.nan
    quarter = minute // SAMPLE_MINUTES
    if candles == 1 or state[1] != quarter:
        # The quarter hour in which history starts has lost its first candle.
        if candles > 1:
            state[0] += 1.0
            for i in range(3):
                push(state[_HEAD + i * SAMPLES : _HEAD + (i + 1) * SAMPLES], sigmas[i])
        state[1] = quarter

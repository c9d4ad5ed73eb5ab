"""Made-up markets whose best possible forecast is known: what moves their prices is written down here.

The log return of a symbol in minute k, in a visible regime (calm or wild) that sets its volatility s, is

    r = s·(drift + chance) - reversion·distance + echo·memory + lead·leader's memory + season

- drift: hidden, returns slowly to 0 (an autoregression); seen only through the returns;
- distance: of the log price from its own slow (exponential) average;
- memory: exponential mean of the symbol's own returns; `echo` may have another sign in each regime;
- leader's memory: decaying sum of the leader's returns through the minute before; the leader itself walks at
  random;
- season: a wave over the day.

Given the regimes all of it is linear and Gaussian, so `optimum.py` can tell exactly what is foreseeable.
Chance is independent between symbols. The regime shows in the volume of its minutes, and soon in volatility.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
DAY_MINUTES = 1_440
#: 2024-01-01T00:00Z, a Monday.
START_MS = 1_704_067_200_000
LEADER = "BTCUSDT"
#: Volume is this many times higher in wild minutes: what makes the regime visible.
WILD_VOLUME = 5.0
_VOLUME_SPREAD = 0.25

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What moves prices besides chance. By default nothing does.

    Attributes
    ----------
    volatility_pct
        Standard deviation of a calm minute's log return, percent.
    drift, drift_half_life
        Standard deviation of the hidden drift as a share of the volatility, and its half-life in minutes.
    reversion, reversion_half_life
        Share of the distance to the slow average that a minute takes back, and that average's half-life.
    echo_calm, echo_wild, echo_half_life
        How much of the memory of its own returns a minute repeats (below 0: takes back) in each regime, and
        the memory's half-life.
    lead, lead_half_life
        Share of the leader's remembered move that a minute takes over, and how soon it is forgotten.
    season, season_cycles
        Height of the daily wave as a share of the calm volatility, and waves a day.
    wild_ratio, regime_minutes
        Volatility of wild minutes over that of calm ones, and a regime's mean length; 1 for no regimes.
    """

    volatility_pct: float = 0.06
    drift: float = 0.0
    drift_half_life: float = 40.0
    reversion: float = 0.0
    reversion_half_life: float = 90.0
    echo_calm: float = 0.0
    echo_wild: float = 0.0
    echo_half_life: float = 15.0
    lead: float = 0.0
    lead_half_life: float = 20.0
    season: float = 0.0
    season_cycles: int = 1
    wild_ratio: float = 1.0
    regime_minutes: float = 480.0

    @property
    def volatility(self) -> float:
        """Of a calm minute's log return."""
        return self.volatility_pct / 100

    @property
    def has_regimes(self) -> bool:
        """Whether there are wild minutes at all."""
        return self.wild_ratio != 1.0 or self.echo_calm != self.echo_wild

    def scaled(self, strength: float) -> Effects:
        """Make all effects so many times as strong; 0 leaves chance and regimes."""
        names = ("drift", "reversion", "echo_calm", "echo_wild", "lead", "season")
        return replace(self, **{name: strength * getattr(self, name) for name in names})


#: Markets of about the same difficulty: the best forecast is right in 53 to 64 of 100 cases, at any horizon
#: of 5 to 60 minutes. In "bounce" the next minutes take back what the next hour goes on with.
MARKETS: dict[str, Effects] = {
    "hidden drift": Effects(drift=0.15, drift_half_life=60),
    "mean reversion": Effects(reversion=0.015, reversion_half_life=90),
    "bounce": Effects(echo_calm=-0.8, echo_wild=-0.8, echo_half_life=2, drift=0.16, drift_half_life=90),
    "lead and lag": Effects(lead=0.045, lead_half_life=15),
    "regimes": Effects(echo_calm=0.6, echo_wild=-1.5, echo_half_life=15, wild_ratio=2.5),
    "time of day": Effects(season=0.06),
    "mixture": Effects(
        drift=0.18,
        drift_half_life=60,
        reversion=0.003,
        lead=0.03,
        lead_half_life=15,
        echo_calm=0.3,
        echo_wild=-0.6,
        season=0.04,
        wild_ratio=2.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candles:
    """One-minute candles of several symbols, without holes.

    Attributes
    ----------
    symbols
        The leader first, if there is one.
    open_time_ms
        Shape (minutes,).
    ohlcv
        Shape (minutes, symbols, 5).
    """

    symbols: tuple[str, ...]
    open_time_ms: Int64
    ohlcv: Float64

    @property
    def close(self) -> Float64:
        """Shape (minutes, symbols)."""
        return self.ohlcv[:, :, 3]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedMarket:
    """Candles, and behind them what nobody can see.

    Attributes
    ----------
    candles
        What everybody sees. The first symbol is the leader, which walks at random.
    returns
        Log returns, shape (minutes, symbols).
    wild
        Regime of each minute, same shape; visible.
    drift
        The hidden drift of each minute in volatilities, same shape.
    """

    effects: Effects
    candles: Candles
    returns: Float64
    wild: NDArray[np.bool_]
    drift: Float64


def keep(half_life: float) -> float:
    """Tell what is left after one minute."""
    return float(0.5 ** (1.0 / half_life))


def plant(effects: Effects, *, followers: int = 6, days: float = 14, seed: int = 0) -> PlantedMarket:
    """Make a market of a leader and of symbols that the effects hold for; a seed gives the same for ever."""
    minutes = round(days * DAY_MINUTES)
    rng = np.random.default_rng(seed)
    shape = (minutes, followers + 1)
    wild = _regimes(rng, effects, shape)
    chance, steps = rng.standard_normal((2, *shape))
    drift = _autoregression(steps, keep(effects.drift_half_life)) * effects.drift
    drift[:, 0] = 0.0
    season = effects.season * np.sin(day_angle(effects, np.arange(minutes)))
    returns = _returns(
        effects.volatility * np.where(wild, effects.wild_ratio, 1.0),
        drift,
        chance,
        effects.volatility * season,
        effects.reversion,
        keep(effects.reversion_half_life),
        np.where(wild, effects.echo_wild, effects.echo_calm),
        keep(effects.echo_half_life),
        effects.lead,
        keep(effects.lead_half_life),
    )
    volatility = effects.volatility * np.where(wild, effects.wild_ratio, 1.0)
    volume = np.exp(_VOLUME_SPREAD * rng.standard_normal(shape)) * np.where(wild, WILD_VOLUME, 1.0)
    return PlantedMarket(
        effects=effects,
        candles=make_candles(rng, returns=returns, volatility=volatility, volume=volume),
        returns=returns,
        wild=wild,
        drift=drift,
    )


def day_angle(effects: Effects, minute: Int64) -> Float64:
    """Tell where in its wave the season stands, in radians; minute 0 is midnight."""
    angle: Float64 = 2 * np.pi * effects.season_cycles * (minute % DAY_MINUTES) / DAY_MINUTES
    return angle


def make_candles(
    rng: np.random.Generator, *, returns: Float64, volatility: Float64, volume: Float64
) -> Candles:
    """Draw candles around given log returns; high and low as of a Brownian motion from open to close.

    Given open and close the extremes say nothing about a drift, so they give nothing away.
    """
    minutes, symbols = returns.shape
    start = 100.0 * np.exp(rng.normal(size=symbols))
    close = start * np.exp(np.cumsum(returns, axis=0))
    opened = np.vstack([start, close[:-1]])
    reach = -2 * volatility * volatility * np.log(rng.random((2, minutes, symbols)))
    high = opened * np.exp(0.5 * (returns + np.sqrt(returns * returns + reach[0])))
    low = opened * np.exp(0.5 * (returns - np.sqrt(returns * returns + reach[1])))
    high, low = np.maximum(high, np.maximum(opened, close)), np.minimum(low, np.minimum(opened, close))
    return Candles(
        symbols=(LEADER, *(f"S{number}USDT" for number in range(1, symbols))),
        open_time_ms=START_MS + np.arange(minutes, dtype=np.int64) * MINUTE_MS,
        ohlcv=np.stack([opened, high, low, close, 1000.0 * volume], axis=-1),
    )


# Markov chain of two states with equal mean lengths, for each symbol on its own.
def _regimes(rng: np.random.Generator, effects: Effects, shape: tuple[int, int]) -> NDArray[np.bool_]:
    if not effects.has_regimes:
        return np.zeros(shape, np.bool_)
    switches = rng.random(shape) < 1.0 / effects.regime_minutes
    switches[0] = rng.random(shape[1]) < 0.5
    wild: NDArray[np.bool_] = np.cumsum(switches, axis=0) % 2 == 1
    return wild


@numba.njit(cache=True)  # type: ignore[misc]
def _autoregression(steps: Float64, kept: float) -> Float64:
    # unit variance from the first minute on
    path = np.empty_like(steps)
    path[0] = steps[0]
    fresh = math.sqrt(1.0 - kept * kept)
    for t in range(1, len(steps)):
        path[t] = kept * path[t - 1] + fresh * steps[t]
    return path


@numba.njit(cache=True)  # type: ignore[misc]
def _returns(
    volatility: Float64,
    drift: Float64,
    chance: Float64,
    season: Float64,
    reversion: float,
    average_kept: float,
    echo: Float64,
    memory_kept: float,
    lead: float,
    lead_kept: float,
) -> Float64:
    minutes, symbols = chance.shape
    returns = np.empty_like(chance)
    distance = np.zeros(symbols)
    memory = np.zeros(symbols)
    leader = 0.0
    for t in range(minutes):
        returns[t, 0] = volatility[t, 0] * chance[t, 0]
        for i in range(1, symbols):
            move = volatility[t, i] * (drift[t, i] + chance[t, i]) + season[t]
            move += echo[t, i] * memory[i] - reversion * distance[i] + lead * leader
            returns[t, i] = move
            distance[i] = average_kept * (distance[i] + move)
            memory[i] = memory_kept * memory[i] + (1.0 - memory_kept) * move
        leader = lead_kept * leader + returns[t, 0]
    return returns

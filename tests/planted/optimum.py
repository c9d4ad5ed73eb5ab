"""How often the best possible forecast is right about the direction, and what it says minute by minute.

What is observable at minute t is what Tidecast lets a symbol see: its own candles through t (with the regime)
and the leader's through t-1. From that, a scalar Kalman filter gives the law of the hidden drift; everything
else in a symbol's state is known. Given a path of regimes the return over the next h minutes is then normal,
with moments from the linear recursion below, and the probability of a rise is its mixture over the paths.
Paths with two or more switches inside one horizon are left out: they are rare where a regime is much longer
than the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from .markets import DAY_MINUTES, Effects, PlantedMarket, day_angle, keep, plant

Float64 = NDArray[np.float64]

# Places in the state: hidden drift, distance, memory, the leader's memory a minute ago, the season's wave as
# a point on a circle, and the return so far.
_DRIFT, _DISTANCE, _MEMORY, _LEADER, _SINE, _COSINE, _SO_FAR = range(7)
_SIZE = 7
# Moments at which a regime may switch, inside one horizon.
_PIECES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """Directional accuracy of the best possible forecast.

    Attributes
    ----------
    accuracy
        Mean of the greater of the probabilities of a rise and of a fall.
    standard_error
        Of `accuracy`, from the spread between days.
    oracle
        What one would reach who knows the hidden drift and the leader's newest move.
    """

    accuracy: float
    standard_error: float
    oracle: float


def best_accuracy(
    effects: Effects, horizons: tuple[int, ...], *, symbols: int = 24, days: float = 20, seed: int = 10_007
) -> dict[int, Best]:
    """Compute what is possible at each horizon (minutes), by Monte Carlo from the generator."""
    market = plant(effects, followers=symbols, days=days + 1, seed=seed)
    found = {}
    for horizon in horizons:
        # the first day fills the memories
        up, told = (
            probability_up(market, horizon, oracle=oracle)[DAY_MINUTES:, 1:] for oracle in (False, True)
        )
        by_day = np.maximum(up, 1 - up).reshape(days, -1).mean(axis=1)
        found[horizon] = Best(
            accuracy=float(by_day.mean()),
            standard_error=float(by_day.std(ddof=1) / math.sqrt(days)),
            oracle=float(np.maximum(told, 1 - told).mean()),
        )
    return found


def probability_up(market: PlantedMarket, horizon: int, *, oracle: bool = False) -> Float64:
    """Compute P(a rise over the next `horizon` minutes | what is observable), shape (minutes, symbols).

    With `oracle`, also given the hidden drift and the leader's move of the same minute.
    """
    effects = market.effects
    state, uncertainty = filtered(market)
    first_leader_variance = 1.0
    if oracle:
        kept = keep(effects.lead_half_life)
        state[:, :, _DRIFT] = market.drift
        # the state is carried on by one minute without news, so this is today's memory
        state[:-1, :, _LEADER] = state[1:, :, _LEADER] / kept
        uncertainty = first_leader_variance = 0.0
    up = np.full(market.returns.shape, 0.5)
    for regime in (0, 1) if effects.has_regimes else (0,):
        weight, mean, variance = _outlook(effects, regime, horizon, uncertainty, first_leader_variance)
        rows = market.wild == bool(regime)
        rows[:, 0] = False
        up[rows] = _mixture(state[rows], weight, mean / np.sqrt(variance)[:, None])
    return up


def filtered(market: PlantedMarket) -> tuple[Float64, float]:
    """Compute each minute's state from what is observable, and the variance of the hidden drift in it."""
    effects = market.effects
    minutes, symbols = market.returns.shape
    gain, uncertainty = kalman_gain(effects)
    angle = day_angle(effects, np.arange(minutes))
    state = np.zeros((minutes, symbols, _SIZE))
    state[:, :, _SINE] = np.sin(angle)[:, None]
    state[:, :, _COSINE] = np.cos(angle)[:, None]
    _filter(
        market.returns,
        effects.volatility * np.where(market.wild, effects.wild_ratio, 1.0),
        np.where(market.wild, effects.echo_wild, effects.echo_calm),
        effects.volatility * effects.season * np.sin(angle),
        gain,
        keep(effects.drift_half_life),
        effects.reversion,
        keep(effects.reversion_half_life),
        keep(effects.echo_half_life),
        effects.lead,
        keep(effects.lead_half_life),
        state,
    )
    return state, uncertainty


def kalman_gain(effects: Effects) -> tuple[float, float]:
    """Solve the filter's steady state: its gain, and the variance of the drift after each minute is seen."""
    kept, variance = keep(effects.drift_half_life), effects.drift**2
    fresh = variance * (1.0 - kept * kept)
    for _ in range(100_000):
        before = kept * kept * variance + fresh
        after = before / (before + 1.0)
        if abs(after - variance) < 1e-15:
            break
        variance = after
    return before / (before + 1.0), after


@numba.njit(cache=True)  # type: ignore[misc]
def _filter(
    returns: Float64,
    volatility: Float64,
    echo: Float64,
    season: Float64,
    gain: float,
    drift_kept: float,
    reversion: float,
    average_kept: float,
    memory_kept: float,
    lead: float,
    lead_kept: float,
    state: Float64,
) -> None:
    minutes, symbols = returns.shape
    for i in range(1, symbols):
        drift = distance = memory = leader = 0.0
        for t in range(minutes):
            # the leader's memory through the minute before, and what the others' minute t is moved by
            if t > 0:
                leader = lead_kept * leader + returns[t - 1, 0]
            move = returns[t, i]
            known = season[t] + echo[t, i] * memory - reversion * distance + lead * leader
            drift *= drift_kept
            drift += gain * ((move - known) / volatility[t, i] - drift)
            distance = average_kept * (distance + move)
            memory = memory_kept * memory + (1.0 - memory_kept) * move
            state[t, i, 0] = drift
            state[t, i, 1] = distance
            state[t, i, 2] = memory
            state[t, i, 3] = leader


# For each path of regimes over the horizon: its weight, by what to multiply the state to get the mean of the
# return, and the return's variance.
def _outlook(
    effects: Effects, regime: int, horizon: int, uncertainty: float, first_leader_variance: float
) -> tuple[Float64, Float64, Float64]:
    paths, weight = _paths(effects, regime, horizon)
    total = np.tile(np.eye(_SIZE), (len(paths), 1, 1))
    covariance = np.zeros((len(paths), _SIZE, _SIZE))
    covariance[:, _DRIFT, _DRIFT] = uncertainty
    steps = [_step(effects, wild) for wild in (0, 1)]
    for minute in range(horizon):
        move = np.stack([step[0] for step in steps])[paths[:, minute]]
        noise = np.stack([step[1] for step in steps])[paths[:, minute]]
        if minute == 0:
            noise = noise.copy()
            noise[:, :, 1] *= math.sqrt(first_leader_variance)
        total = move @ total
        covariance = move @ covariance @ move.transpose(0, 2, 1) + noise @ noise.transpose(0, 2, 1)
    return weight, total[:, _SO_FAR], covariance[:, _SO_FAR, _SO_FAR]


# The regimes of the coming minutes: no switch, or one. The horizon is cut into pieces, and a switch inside a
# piece is taken to come in its middle.
def _paths(effects: Effects, regime: int, horizon: int) -> tuple[NDArray[np.int64], Float64]:
    if not effects.has_regimes:
        return np.zeros((1, horizon), np.int64), np.ones(1)
    switch = 1.0 / effects.regime_minutes
    pieces = np.array_split(np.arange(horizon), min(horizon, _PIECES))
    middle = np.array([piece.mean() for piece in pieces])
    paths = np.full((len(pieces) + 1, horizon), regime)
    paths[1:][np.arange(horizon) >= middle[:, None]] = 1 - regime
    weight = switch * (1 - switch) ** (horizon - 1) * np.array([horizon, *map(len, pieces)])
    weight[0] = (1 - switch) ** horizon
    return paths, weight / weight.sum()


# One minute: the matrix that carries the state on, and the loads of the three shocks (of the drift, of the
# leader, and chance).
def _step(effects: Effects, wild: int) -> tuple[Float64, Float64]:
    volatility = effects.volatility * (effects.wild_ratio if wild else 1.0)
    drift_kept, lead_kept = keep(effects.drift_half_life), keep(effects.lead_half_life)
    average_kept, memory_kept = keep(effects.reversion_half_life), keep(effects.echo_half_life)
    turn = 2 * math.pi * effects.season_cycles / DAY_MINUTES
    height = effects.volatility * effects.season
    move, noise = np.zeros((_SIZE, _SIZE)), np.zeros((_SIZE, 3))
    # the return, as loads on the state before and on the shocks
    ret, shock = np.zeros(_SIZE), np.zeros(3)
    ret[_DRIFT] = volatility * drift_kept
    ret[_DISTANCE] = -effects.reversion
    ret[_MEMORY] = effects.echo_wild if wild else effects.echo_calm
    ret[_LEADER] = effects.lead * lead_kept
    ret[_SINE], ret[_COSINE] = height * math.cos(turn), height * math.sin(turn)
    drift_shock = effects.drift * math.sqrt(1 - drift_kept**2)
    # the leader's volatility does not depend on the symbol's regime: its mean variance stands for it
    leader_shock = effects.volatility * (
        math.sqrt(0.5 + 0.5 * effects.wild_ratio**2) if effects.has_regimes else 1.0
    )
    shock[:] = volatility * drift_shock, effects.lead * leader_shock, volatility
    move[_DRIFT, _DRIFT], noise[_DRIFT, 0] = drift_kept, drift_shock
    move[_LEADER, _LEADER], noise[_LEADER, 1] = lead_kept, leader_shock
    move[_SINE, _SINE] = move[_COSINE, _COSINE] = math.cos(turn)
    move[_SINE, _COSINE], move[_COSINE, _SINE] = math.sin(turn), -math.sin(turn)
    move[_DISTANCE] = average_kept * ret
    move[_DISTANCE, _DISTANCE] += average_kept
    noise[_DISTANCE] = average_kept * shock
    move[_MEMORY] = (1 - memory_kept) * ret
    move[_MEMORY, _MEMORY] += memory_kept
    noise[_MEMORY] = (1 - memory_kept) * shock
    move[_SO_FAR] = ret
    move[_SO_FAR, _SO_FAR] = 1.0
    noise[_SO_FAR] = shock
    return move, noise


@numba.njit(cache=True)  # type: ignore[misc]
def _mixture(state: Float64, weight: Float64, mean_in_deviations: Float64) -> Float64:
    up = np.zeros(len(state))
    for row in range(len(state)):
        for path in range(len(weight)):
            x = 0.0
            for k in range(state.shape[1]):
                x += mean_in_deviations[path, k] * state[row, k]
            up[row] += weight[path] * 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))
    return up

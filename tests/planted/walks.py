"""Markets in which nothing can be foreseen, however much they look as if: the direction is a fair coin.

Whatever is known, the sign of every coming move is drawn anew and on its own, so no forecast of the direction
is right more often than half the time. Volatility, volume and flat minutes can be foreseen; that is the trap.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from .markets import DAY_MINUTES, Candles, make_candles

Float64 = NDArray[np.float64]

VOLATILITY = 0.0006
_TAIL_DEGREES = 4.0
#: Share of the variance that all symbols have in common.
_SHARED = 0.4


def gaussian_walk(*, symbols: int = 6, days: float = 14, seed: int = 0) -> Candles:
    """Draw independent normal returns of constant volatility, and volumes that mean nothing."""
    rng = np.random.default_rng(seed)
    shape = (round(days * DAY_MINUTES), symbols)
    return make_candles(
        rng,
        returns=VOLATILITY * rng.standard_normal(shape),
        volatility=np.full(shape, VOLATILITY),
        volume=rng.lognormal(sigma=0.5, size=shape),
    )


def clustered_walk(
    *, symbols: int = 6, days: float = 14, seed: int = 0, quiet_share: float = 0.05
) -> Candles:
    """Draw what looks like a market: GARCH, fat tails, symbols that move together, the rhythm of a day.

    Parameters
    ----------
    quiet_share
        Share of the minutes in which nobody trades: flat candles without volume.
    """
    rng = np.random.default_rng(seed)
    minutes = round(days * DAY_MINUTES)
    shape = (minutes, symbols)
    common, own = _fat(rng, (minutes, 1)), _fat(rng, shape)
    shocks = math.sqrt(_SHARED) * common + math.sqrt(1 - _SHARED) * own
    quiet = rng.random(shape) < quiet_share
    angle = 2 * np.pi * (np.arange(minutes) % DAY_MINUTES) / DAY_MINUTES
    rhythm = np.exp(0.4 * np.cos(angle - 3.9))[:, None]
    returns, volatility = _garch(np.where(quiet, 0.0, shocks), VOLATILITY * np.broadcast_to(rhythm, shape))
    noise = rng.lognormal(sigma=0.5, size=shape)
    volume = np.where(quiet, 0.0, noise * rhythm**2 * (1.0 + np.abs(returns) / VOLATILITY))
    return make_candles(rng, returns=returns, volatility=np.where(quiet, 0.0, volatility), volume=volume)


# Student's t with unit variance.
def _fat(rng: np.random.Generator, shape: tuple[int, int]) -> Float64:
    return rng.standard_t(_TAIL_DEGREES, shape) * math.sqrt((_TAIL_DEGREES - 2) / _TAIL_DEGREES)


@numba.njit(cache=True)  # type: ignore[misc]
def _garch(shocks: Float64, usual: Float64) -> tuple[Float64, Float64]:
    # GARCH(1,1) around 1, T. Bollerslev (1986): half of a burst is gone after an hour
    news, kept = 0.06, 0.928
    returns, volatility = np.empty_like(shocks), np.empty_like(shocks)
    for i in range(shocks.shape[1]):
        variance = 1.0
        for t in range(len(shocks)):
            volatility[t, i] = usual[t, i] * math.sqrt(variance)
            returns[t, i] = volatility[t, i] * shocks[t, i]
            variance = (1.0 - news - kept) + variance * (kept + news * shocks[t, i] ** 2)
    return returns, volatility

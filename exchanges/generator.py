"""A made-up market that looks like crypto, the same for ever from one seed.

Every value is a function of (seed, symbol, minute). A chain over whole UTC days, from `ORIGIN_MS` on, gives
each day its opening price and its level of volatility; inside a day, 1,440 minutes are drawn at once and
bent to arrive at the next day's opening price (in the time of the variance, a Brownian bridge between two
random ends is again a Brownian motion, so the bending leaves no trace). What is in it:

- fat tails: Student-t shocks and a random volatility; clustering: volatility has a slow (days) and a fast
  (an hour) memory;
- regimes: stretches of a few hours that are trending, ranging or volatile. A trending stretch lets recent
  shocks push on, a ranging one much less, by `structure`; 0 gives an unpredictable market;
- cross-correlation: one market-wide factor moves all symbols, by each one's `beta`;
- seasonality: volume and volatility peak in the afternoon (UTC) and ebb at weekends;
- thin symbols have minutes without a trade: flat, zero volume.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exchanges.simulation.market import CANDLE_COLUMNS, DAY_MS, no_candles
from schemas.frames import MINUTE_MS, Bool, Float64

#: 2019-01-01T00:00Z, where all chains start.
ORIGIN_MS = 1_546_300_800_000
DAY_MINUTES = 1_440
#: The chain over days grows by so many at once.
CHAIN_DAYS = 512
#: Price levels pull back to their base with this half-life, so that none wanders off.
LEVEL_HALF_LIFE_DAYS = 200.0
#: Memory of the slow volatility, and spread of its logarithm.
SLOW_HALF_LIFE_DAYS = 6.0
SLOW_SPREAD = 0.35
#: Memory of the fast volatility, and spread of its logarithm.
FAST_HALF_LIFE_MINUTES = 45.0
FAST_SPREAD = 0.40
#: How long shocks go on working in a trending or ranging stretch.
PUSH_HALF_LIFE_MINUTES = 12.0
MARKET_DAILY_VOLATILITY = 0.025
TAIL_DEGREES = 5.0
#: Mean length of a regime; then for trending, ranging, volatile: weight, volatility, share of the push.
REGIME_MINUTES = 180.0
REGIME_WEIGHT = np.array([0.35, 0.5, 0.15])
REGIME_VOLATILITY = np.array([1.0, 0.8, 1.7])
REGIME_PUSH = np.array([1.0, 0.3, 0.6])


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """What makes one symbol different from another.

    Attributes
    ----------
    level
        Price around which it moves.
    decimals
        Digits after the point of its prices.
    beta
        Percent moved per percent of the market factor.
    daily_volatility
        Standard deviation of a day's own return, beside the market's.
    volume
        Units traded in a median minute.
    quiet
        Share of the minutes without a trade.
    """

    level: float
    decimals: int
    beta: float
    daily_volatility: float
    volume: float
    quiet: float = 0.0


KNOWN: dict[str, Character] = {
    "BTCUSDT": Character(level=60_000, decimals=2, beta=1.0, daily_volatility=0.007, volume=15),
    "ETHUSDT": Character(level=3_000, decimals=2, beta=1.15, daily_volatility=0.012, volume=180),
    "SOLUSDT": Character(level=150, decimals=2, beta=1.3, daily_volatility=0.022, volume=2_500),
    "XRPUSDT": Character(level=0.6, decimals=4, beta=0.9, daily_volatility=0.020, volume=300_000),
    "ADAUSDT": Character(level=0.45, decimals=4, beta=1.05, daily_volatility=0.019, volume=120_000),
    "HBARUSDT": Character(
        level=0.08, decimals=5, beta=1.0, daily_volatility=0.024, volume=200_000, quiet=0.02
    ),
}


class GeneratedMarket:
    """A seeded market without an end.

    Parameters
    ----------
    symbols
        Any number; the six majors have their usual price levels, others get one from their name.
    seed
        The same seed gives the same candles for ever.
    structure
        How much of the next minute's move a trending or ranging stretch takes from the recent shocks, as a
        correlation; 0.06 is faint but real, 0 means none.
    """

    def __init__(self, symbols: Sequence[str], *, seed: int, structure: float = 0.06) -> None:
        if not symbols:
            raise ValueError("a generated market needs at least one symbol")
        if len(set(symbols)) != len(symbols):
            raise ValueError("a symbol is named twice")
        if not 0 <= structure < 0.5:
            raise ValueError(f"structure is {structure}; it must be in [0, 0.5)")
        self._symbols = tuple(symbols)
        self._seed = seed
        self._structure = structure
        self._characters = {symbol: KNOWN.get(symbol) or _character(symbol) for symbol in symbols}
        self._chains: dict[str, _Chain] = {}
        self._factors: OrderedDict[int, _Factor] = OrderedDict()
        self._blocks: OrderedDict[tuple[str, int], Float64] = OrderedDict()
        self._most_blocks = max(64, 2 * len(symbols))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, as given."""
        return self._symbols

    @property
    def description(self) -> str:
        """Say which market this is."""
        return f"generated seed={self._seed} structure={self._structure} {','.join(self._symbols)}"

    def span(self, symbol: str) -> tuple[int, int | None]:
        """Every symbol exists from `ORIGIN_MS` on, without an end."""
        if symbol not in self._characters:
            raise KeyError(symbol)
        return ORIGIN_MS, None

    def candles(self, symbol: str, from_ms: int, to_ms: int) -> Float64:
        """Give the candles with `from_ms <= open time < to_ms`, generating the days as needed."""
        from_ms = max(-(-from_ms // MINUTE_MS) * MINUTE_MS, ORIGIN_MS)
        if to_ms <= from_ms:
            return no_candles()
        first, last = (from_ms - ORIGIN_MS) // DAY_MS, (to_ms - 1 - ORIGIN_MS) // DAY_MS
        blocks = [self._block(symbol, day) for day in range(first, last + 1)]
        start = (from_ms - ORIGIN_MS) // MINUTE_MS - first * DAY_MINUTES
        rows = -(-(to_ms - from_ms) // MINUTE_MS)
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return joined[start : start + rows]

    def _block(self, symbol: str, day: int) -> Float64:
        key = (symbol, day)
        block = self._blocks.get(key)
        if block is None:
            block = self._make_block(symbol, day)
            block.flags.writeable = False
            self._blocks[key] = block
            if len(self._blocks) > self._most_blocks:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(key)
        return block

    def _chain(self, name: str, daily_volatility: float) -> _Chain:
        chain = self._chains.get(name)
        if chain is None:
            chain = self._chains[name] = _Chain(f"{self._seed}/{name}", daily_volatility)
        return chain

    def _factor(self, day: int) -> _Factor:
        factor = self._factors.get(day)
        if factor is None:
            factor = _make_factor(self._seed, day, self._chain("*market", MARKET_DAILY_VOLATILITY))
            self._factors[day] = factor
            if len(self._factors) > 16:
                self._factors.popitem(last=False)
        return factor

    def _make_block(self, symbol: str, day: int) -> Float64:
        who = self._characters[symbol]
        rng = _rng(f"{self._seed}/{symbol}/{day}")
        factor = self._factor(day)
        own = self._chain(symbol, who.daily_volatility)
        market = self._chain("*market", MARKET_DAILY_VOLATILITY)
        begin, end = (math.log(who.level) + who.beta * market.level(d) + own.level(d) for d in (day, day + 1))
        quiet = rng.random(DAY_MINUTES) < who.quiet
        scale_own = who.daily_volatility * math.exp(own.slow(day)) * factor.shape * _fast(rng, own, day)
        scale_market = who.beta * factor.scale
        sigma = np.hypot(scale_own, scale_market) / math.sqrt(DAY_MINUTES)
        shock = (scale_market * factor.shock + scale_own * _student(rng)) / np.hypot(scale_own, scale_market)
        push = _smoothed(shock, PUSH_HALF_LIFE_MINUTES)
        regime = _regimes(_rng(f"{self._seed}/{symbol}/{day}/regime"), factor.regime)
        shock[1:] += self._structure * REGIME_PUSH[regime[1:]] * push[:-1]
        sigma = np.where(quiet, 0.0, sigma)
        closes = _bridge(begin, end, sigma * shock, sigma)
        block = np.empty((DAY_MINUTES, CANDLE_COLUMNS))
        block[:, 0] = ORIGIN_MS + (day * DAY_MINUTES + np.arange(DAY_MINUTES)) * MINUTE_MS
        block[:, 1:5] = _prices(rng, begin, closes, sigma, who.decimals, quiet)
        block[:, 5] = _volumes(rng, who, factor, shock, quiet)
        return block


class _Chain:
    """Log level and log volatility at the start of each day, grown from the origin on demand."""

    def __init__(self, name: str, daily_volatility: float) -> None:
        self._rng = _rng(f"{name}/days")
        self._daily_volatility = daily_volatility
        self._levels = np.zeros(1)
        self._slow = SLOW_SPREAD * self._rng.standard_normal(1)
        self._fast = self._rng.standard_normal(1)

    def level(self, day: int) -> float:
        self._grow(day)
        return float(self._levels[day])

    def slow(self, day: int) -> float:
        self._grow(day)
        return float(self._slow[day])

    def fast(self, day: int) -> float:
        self._grow(day)
        return float(self._fast[day])

    # Days are drawn in lots of fixed size, so that the values do not depend on how far was asked.
    def _grow(self, day: int) -> None:
        pull = 0.5 ** (1 / LEVEL_HALF_LIFE_DAYS)
        keep = 0.5 ** (1 / SLOW_HALF_LIFE_DAYS)
        while len(self._levels) <= day:
            moves, fresh, fast = self._rng.standard_normal((3, CHAIN_DAYS))
            slow = _carried(SLOW_SPREAD * math.sqrt(1 - keep * keep) * fresh, keep, self._slow[-1])
            before = np.concatenate([self._slow[-1:], slow[:-1]])
            steps = self._daily_volatility * np.exp(before) * moves
            self._levels = np.concatenate([self._levels, _carried(steps, pull, self._levels[-1])])
            self._slow = np.concatenate([self._slow, slow])
            self._fast = np.concatenate([self._fast, fast])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factor:
    """What all symbols share on one day, a value per minute."""

    shape: Float64  # relative volatility by time of day, weekend and market-wide regime
    scale: Float64  # daily volatility of the market factor
    shock: Float64  # standard shocks of the market factor
    regime: np.ndarray[tuple[int], np.dtype[np.int64]]


def _make_factor(seed: int, day: int, chain: _Chain) -> _Factor:
    rng = _rng(f"{seed}/*market/{day}")
    regime = _draw_regimes(rng)
    shape = _season(day, 0.35) * REGIME_VOLATILITY[regime]
    scale = MARKET_DAILY_VOLATILITY * math.exp(chain.slow(day)) * shape * _fast(rng, chain, day)
    return _Factor(shape=shape, scale=scale, shock=_student(rng), regime=regime)


# A generator of its own for every name: no value depends on what else was drawn.
def _rng(name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def _character(symbol: str) -> Character:
    rng = _rng(f"character/{symbol}")
    level = float(10 ** rng.uniform(-2, 2.5))
    decimals = max(2, 5 - math.floor(math.log10(level)))
    return Character(
        level=level,
        decimals=decimals,
        beta=float(rng.uniform(0.7, 1.4)),
        daily_volatility=float(rng.uniform(0.012, 0.03)),
        volume=float(rng.uniform(20_000, 200_000) / level),
        quiet=float(rng.choice([0.0, 0.0, 0.0, 0.02])),
    )


# Unit variance; a Student-t draw is a normal one of random size.
def _student(rng: np.random.Generator) -> Float64:
    return rng.standard_t(TAIL_DEGREES, DAY_MINUTES) * math.sqrt((TAIL_DEGREES - 2) / TAIL_DEGREES)


# y[t] = keep * y[t-1] + x[t], as one scan: safe while keep**1440 is far from underflow.
def _scan(x: Float64, keep: float) -> Float64:
    weights = keep ** np.arange(len(x), dtype=np.float64)
    return weights * np.cumsum(x / weights)


# The same, going on from an earlier value.
def _carried(x: Float64, keep: float, before: float) -> Float64:
    return _scan(x, keep) + before * keep ** np.arange(1, len(x) + 1)


# Memory of recent shocks, unit variance once full. The scan starts anew twice, or its weights would vanish.
def _smoothed(x: Float64, half_life: float) -> Float64:
    keep = 0.5 ** (1 / half_life)
    out, last = [], 0.0
    for part in np.split(x, 3):
        out.append(_carried(part, keep, last))
        last = float(out[-1][-1])
    return np.concatenate(out) * math.sqrt(1 - keep * keep)


# Fast volatility: a mean-reverting path that meets the values drawn for both midnights; days join smoothly.
def _fast(rng: np.random.Generator, chain: _Chain, day: int) -> Float64:
    keep = 0.5 ** (1 / FAST_HALF_LIFE_MINUTES)
    steps = np.arange(1, DAY_MINUTES + 1, dtype=np.float64)
    path = _scan(math.sqrt(1 - keep * keep) * rng.standard_normal(DAY_MINUTES), keep)
    path += chain.fast(day) * keep**steps
    path += (chain.fast(day + 1) - path[-1]) * keep ** (DAY_MINUTES - steps)
    return np.exp(FAST_SPREAD * path - FAST_SPREAD**2)


def _draw_regimes(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    lengths = 1 + rng.exponential(REGIME_MINUTES, DAY_MINUTES // 30).astype(np.int64)
    lengths[-1] += DAY_MINUTES
    kinds = rng.choice(3, size=len(lengths), p=REGIME_WEIGHT)
    return np.repeat(kinds, lengths)[:DAY_MINUTES]


# A symbol follows the market's regime, apart from a stretch of its own now and then.
def _regimes(
    rng: np.random.Generator, shared: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    own = _draw_regimes(rng)
    alone = np.repeat(rng.random(DAY_MINUTES // 180) < 0.3, 180)
    return np.where(alone, own, shared)


def _season(day: int, depth: float) -> Float64:
    hour = np.arange(DAY_MINUTES) / 60
    wave = np.cos((hour - 15) / 24 * 2 * np.pi) + 0.35 * np.cos((hour - 9) / 12 * 2 * np.pi)
    weekend = 0.75 if (day + 1) % 7 in (5, 6) else 1.0  # the origin was a Tuesday
    shape: Float64 = weekend * np.exp(depth * wave)
    return shape


def _bridge(begin: float, end: float, moves: Float64, sigma: Float64) -> Float64:
    path = np.cumsum(moves)
    time = np.cumsum(sigma * sigma)
    closes: Float64 = begin + path + (end - begin - path[-1]) * (time / time[-1])
    closes[-1] = end
    return closes


# High and low have the law of the extremes of a Brownian motion between open and close.
def _prices(
    rng: np.random.Generator, begin: float, closes: Float64, sigma: Float64, decimals: int, quiet: Bool
) -> Float64:
    tick = 10.0**-decimals
    close = np.round(np.exp(closes), decimals)
    before = np.concatenate([[round(math.exp(begin), decimals)], close[:-1]])
    nudge = np.where(quiet, 0, rng.integers(-1, 2, DAY_MINUTES))
    opened = np.round(before + nudge * tick, decimals)
    move = np.log(close / opened)
    spread = -2 * sigma * sigma * np.log(1 - rng.random((2, DAY_MINUTES)))
    up, down = (
        0.5 * (move + np.sqrt(move * move + spread[0])),
        0.5 * (move - np.sqrt(move * move + spread[1])),
    )
    high = np.maximum(np.round(opened * np.exp(up), decimals), np.maximum(opened, close))
    low = np.minimum(np.round(opened * np.exp(down), decimals), np.minimum(opened, close))
    low = np.maximum(low, tick)
    return np.column_stack([opened, high, low, close])


def _volumes(
    rng: np.random.Generator, who: Character, factor: _Factor, shock: Float64, quiet: Bool
) -> Float64:
    noise = 0.5 * _smoothed(rng.standard_normal(DAY_MINUTES), 20.0) + 0.5 * rng.standard_normal(DAY_MINUTES)
    size = who.volume * factor.shape**1.5 * np.exp(noise + 0.45 * np.minimum(np.abs(shock), 6.0))
    digits = max(1, 5 - max(0, math.floor(math.log10(who.volume))))
    traded: Float64 = np.maximum(np.round(size, digits), 10.0**-digits)
    traded[quiet] = 0.0
    return traded

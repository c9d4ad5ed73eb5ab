"""How likely a signal's trade ends at its take-profit: a rule of thumb, corrected by what became of its like.

The rule: if prices wander like a Brownian motion whose drift is what the confidence says and whose spread is
what the recent range says, the take-profit is touched within the horizon with probability

    Phi((m - u) / s) + exp(2 m u / s^2) Phi((-u - m) / s)

(m: drift, s: spread over the horizon, u: distance, all in percent; reflection principle), and before a stop
at distance d with about (1 - exp(-2 m d / s^2)) / (1 - exp(-2 m (u + d) / s^2)) (gambler's ruin). The rule is
the product of the two.

The correction: every stated direction, traded or not, is followed like a trade, by the same candles and
levels. Of those whose rule said about the same, the share that ended at the take-profit is what is stated for
the next, made to rise with the rule (pooling neighbours that do not) and drawn towards the rule while little
is known.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from domain.trading.signals import RANGE_PER_DEVIATION
from schemas.frames import Float64, Int8, Int64

#: Steps of the rule that are told apart.
STEPS = 20
#: Outcomes of neighbouring minutes overlap: so many horizons of them weigh as much as the rule itself.
PRIOR_HORIZONS = 5
#: At so many horizons of outcomes a step forgets half.
MEMORY_HORIZONS = 2_000
_DEVIATIONS_SURE = 6.0


class TakeProfitRates:
    """Follows the stated directions of one strategy, and says how often their like paid.

    Parameters
    ----------
    symbols
        How many.
    horizon_minutes
        How long a trade may last.
    slippage_bps
        Of the entry's fill.
    """

    def __init__(self, *, symbols: int, horizon_minutes: int, slippage_bps: float) -> None:
        self._horizon = horizon_minutes
        self._slippage = slippage_bps / 10_000.0
        #: (step, [ended at the take-profit, ended])
        self.counts = np.zeros((STEPS, 2), np.int64)
        places = (symbols, horizon_minutes + 1)
        self.side = np.zeros(places, np.int8)
        self.step = np.zeros(places, np.int8)
        self.entered = np.zeros(places, np.int64)
        #: (symbol, place, [take-profit, stop])
        self.levels = np.zeros((*places, 2))
        self.expiry = np.zeros(places, np.int64)
        #: What was stated at the last candle and waits for the next: (symbol, [side, step, expiry])
        self.waiting = np.zeros((symbols, 3), np.int64)
        #: (symbol, [take-profit, stop]) distances in percent of what waits
        self.distances = np.zeros((symbols, 2))

    def advance(
        self,
        *,
        symbol_index: Int64,
        minute: Int64,
        ohlc: Float64,
        side: Int8,
        confidence: Float64,
        atr_pct: Float64,
        distances_pct: Float64,
    ) -> Float64:
        """Move what is followed by candles, and say of each row's stated direction how likely it pays.

        Parameters
        ----------
        symbol_index, minute
            The candles, in order per symbol.
        ohlc
            Shape (rows, 4).
        side
            1 for a stated rise, -1 for a fall, 0 where nothing is stated that may be acted on.
        confidence
            Probability that the stated side is right, in 0..1.
        atr_pct
            Average true range at the row.
        distances_pct
            Shape (rows, 2): of take-profit and stop from an entry now.

        Returns
        -------
        Probability, one a row; NaN where no side is stated.
        """
        likelihood = np.full(len(minute), np.nan)
        _advance(
            symbol_index,
            minute,
            np.ascontiguousarray(ohlc, np.float64),
            side,
            confidence,
            atr_pct,
            np.ascontiguousarray(distances_pct, np.float64),
            self._horizon,
            self._slippage,
            self.counts,
            self.side,
            self.step,
            self.entered,
            self.levels,
            self.expiry,
            self.waiting,
            self.distances,
            likelihood,
        )
        return likelihood

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        """Hand out the state."""
        return {name: getattr(self, name) for name in _STATE}

    def take(self, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> None:
        """Go on from the state of `arrays`."""
        for name in _STATE:
            getattr(self, name)[...] = arrays[name]


def rule_of_thumb(
    confidence: float, atr_pct: float, profit_pct: float, stop_pct: float, horizon: int
) -> float:
    """Say how likely the take-profit is touched first and in time, see the module.

    Parameters
    ----------
    confidence
        Probability that the direction is right, in 0..1.
    atr_pct
        Average true range of one-minute candles.
    profit_pct, stop_pct
        Distances of the take-profit and the stop.
    horizon
        Minutes.
    """
    said: float = _rule(confidence, atr_pct, profit_pct, stop_pct, horizon)
    return said


def _normal(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))


# Bisection on a monotone function: slow and sure, and no table of coefficients.
def _normal_quantile(probability: float) -> float:
    low, high = -_DEVIATIONS_SURE, _DEVIATIONS_SURE
    for _ in range(40):
        middle = 0.5 * (low + high)
        if _cdf(middle) < probability:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _rule_rule(confidence: float, atr_pct: float, profit: float, stop: float, horizon: int) -> float:
    spread = atr_pct / RANGE_PER_DEVIATION * math.sqrt(horizon)
    if spread <= 0.0:
        return 0.0
    drift = _quantile(confidence) * spread
    tilt = 2.0 * drift / (spread * spread)
    in_time: float = _cdf((drift - profit) / spread)
    reflected: float = _cdf((-profit - drift) / spread)
    if reflected > 0.0:
        in_time += math.exp(min(tilt * profit, 700.0)) * reflected
    if abs(tilt * (profit + stop)) < 1e-9:
        first = stop / (profit + stop)
    else:
        first = math.expm1(-tilt * stop) / math.expm1(-tilt * (profit + stop))
    return min(max(in_time * first, 0.0), 1.0)


# Of each step the share that paid, drawn towards the step's middle; neighbours that fall are pooled.
def _calibrated_rule(counts: Int64, step: int, weight: float) -> float:
    value, mass, last = np.empty(STEPS), np.empty(STEPS), np.empty(STEPS, np.int64)
    blocks = 0
    for k in range(STEPS):
        total = counts[k, 1] + weight
        value[blocks] = (counts[k, 0] + (k + 0.5) / STEPS * weight) / total
        # a step that nothing came of does not hold its neighbours down
        mass[blocks] = counts[k, 1] + 1e-6
        last[blocks] = k
        blocks += 1
        while blocks > 1 and value[blocks - 2] > value[blocks - 1]:
            both = mass[blocks - 2] + mass[blocks - 1]
            value[blocks - 2] = (
                value[blocks - 2] * mass[blocks - 2] + value[blocks - 1] * mass[blocks - 1]
            ) / both
            mass[blocks - 2] = both
            last[blocks - 2] = last[blocks - 1]
            blocks -= 1
    for block in range(blocks):
        if step <= last[block]:
            return float(value[block])
    return float(value[blocks - 1])


# 1 the take-profit was reached, -1 it will not be any more, 0 it goes on; in the order of `trade.advance`.
def _outcome_rule(
    side: int, profit: float, stop: float, expiry: int, entered: int, minute: int, ohlc: Float64
) -> int:
    if minute > entered:
        if side * (ohlc[0] - stop) <= 0.0:
            return -1
        if side * (ohlc[0] - profit) >= 0.0:
            return 1
        if minute >= expiry:
            return -1
    best = ohlc[1] if side > 0 else ohlc[2]
    worst = ohlc[2] if side > 0 else ohlc[1]
    if side * (worst - stop) <= 0.0:
        return -1
    if side * (best - profit) >= 0.0:
        return 1
    return -1 if minute + 1 >= expiry else 0


def _follow_rule(
    s: int,
    place: int,
    minute: int,
    ohlc: Float64,
    horizon: int,
    counts: Int64,
    open_side: Int8,
    open_step: Int8,
    open_entered: Int64,
    open_levels: Float64,
    open_expiry: Int64,
) -> None:
    became = _outcome(
        open_side[s, place],
        open_levels[s, place, 0],
        open_levels[s, place, 1],
        open_expiry[s, place],
        open_entered[s, place],
        minute,
        ohlc,
    )
    if became == 0:
        return
    step = open_step[s, place]
    counts[step, 0] += became > 0
    counts[step, 1] += 1
    if counts[step, 1] >= MEMORY_HORIZONS * horizon:
        counts[step, 0] //= 2
        counts[step, 1] //= 2
    open_side[s, place] = 0


def _advance_rule(
    symbol_index: Int64,
    minute: Int64,
    ohlc: Float64,
    side: Int8,
    confidence: Float64,
    atr_pct: Float64,
    distances_pct: Float64,
    horizon: int,
    slippage: float,
    counts: Int64,
    open_side: Int8,
    open_step: Int8,
    open_entered: Int64,
    open_levels: Float64,
    open_expiry: Int64,
    waiting: Int64,
    waiting_distances: Float64,
    out: Float64,
) -> None:
    weight = float(PRIOR_HORIZONS * horizon)
    places = horizon + 1
    for i in range(len(minute)):
        s, m = symbol_index[i], minute[i]
        for place in range(places):
            if open_side[s, place] != 0:
                _follow(
                    s,
                    place,
                    m,
                    ohlc[i],
                    horizon,
                    counts,
                    open_side,
                    open_step,
                    open_entered,
                    open_levels,
                    open_expiry,
                )
        if waiting[s, 0] != 0 and m < waiting[s, 2]:
            place = m % places
            way = waiting[s, 0]
            entry = ohlc[i, 0] * (1.0 + way * slippage)
            open_side[s, place] = way
            open_step[s, place] = waiting[s, 1]
            open_entered[s, place] = m
            open_expiry[s, place] = waiting[s, 2]
            open_levels[s, place, 0] = entry * (1.0 + way * waiting_distances[s, 0] / 100.0)
            open_levels[s, place, 1] = entry * max(1.0 - way * waiting_distances[s, 1] / 100.0, 0.0)
            _follow(
                s,
                place,
                m,
                ohlc[i],
                horizon,
                counts,
                open_side,
                open_step,
                open_entered,
                open_levels,
                open_expiry,
            )
        waiting[s, 0] = 0
        if side[i] != 0:
            said = _rule(confidence[i], atr_pct[i], distances_pct[i, 0], distances_pct[i, 1], horizon)
            step = min(int(said * STEPS), STEPS - 1)
            out[i] = _calibrated(counts, step, weight)
            waiting[s, 0] = side[i]
            waiting[s, 1] = step
            waiting[s, 2] = m + 1 + horizon
            waiting_distances[s, 0] = distances_pct[i, 0]
            waiting_distances[s, 1] = distances_pct[i, 1]


_cdf = njit(cache=True)(_normal)
_quantile = njit(cache=True)(_normal_quantile)
_rule = njit(cache=True)(_rule_rule)
_calibrated = njit(cache=True)(_calibrated_rule)
_outcome = njit(cache=True)(_outcome_rule)
_follow = njit(cache=True)(_follow_rule)
_advance = njit(cache=True)(_advance_rule)

_STATE = ("counts", "side", "step", "entered", "levels", "expiry", "waiting", "distances")

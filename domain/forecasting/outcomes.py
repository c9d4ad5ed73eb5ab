"""The forecasts that wait for their outcome, and how often their like came true.

A forecast made at minute `m` for `h` minutes is settled by the candle of minute `m + h` of its symbol. If
that minute is absent for good, the forecast has no outcome and counts in no score. The forecasts of one
symbol and horizon that are open at the same time are at most `h`, one a minute: they live in a ring of `h`
places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from domain.forecasting.confidence import VOLATILITY_TOLERANCE
from domain.forecasting.regime import REGIMES
from schemas.frames import Bool, Float32, Float64, Int8, Int32, Int64

NEVER = -1
#: In the ring of signs: no forecast here.
EMPTY = 127
#: Stands for "made in an earlier call".
EARLIER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Forecasts whose target minute is absent for good, one entry each.

    Attributes
    ----------
    symbol_index, horizon_index, target_minute
        Which forecast.
    source
        The row of this call that made it, or `EARLIER`.
    """

    symbol_index: Int64
    horizon_index: Int64
    target_minute: Int64
    source: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What some candles settled, and what was known when each of them came.

    Attributes
    ----------
    issued
        One entry a row: whether forecasts are made at it.
    settles
        Shape (rows, horizons): whether the row is the target minute of a forecast.
    source
        Shape (rows, horizons): the row of this call that made that forecast, or `EARLIER`.
    volatility_hits, volatility_scored, trend_hits, trend_scored, no_change_hits, no_change_scored
        Shape (rows, horizons): counts for the row's symbol and regime, the row's own outcomes included.
    absent
        Forecasts that will have no outcome.
    """

    issued: Bool
    settles: Bool
    source: Int64
    volatility_hits: Int64
    volatility_scored: Int64
    trend_hits: Int64
    trend_scored: Int64
    no_change_hits: Int64
    no_change_scored: Int64
    absent: Absent


class OpenForecasts:
    """Open forecasts and counts of every symbol.

    Parameters
    ----------
    symbols
        How many.
    horizons
        Minutes ahead.
    cap
        By horizon: at this many scored outcomes both counts are halved.
    every_minutes
        Forecasts are made at event times that are multiples of this.
    """

    def __init__(self, *, symbols: int, horizons: tuple[int, ...], cap: Int64, every_minutes: int) -> None:
        self._horizons = np.array(horizons, np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(self._horizons)[:-1]]).astype(np.int64)
        self._cap = cap
        self._every = every_minutes
        places = int(self._horizons.sum())
        self.last_minute = np.full(symbols, NEVER, np.int64)
        self.started = np.zeros(symbols, np.bool_)
        self.trend_sign = np.full((symbols, places), EMPTY, np.int8)
        self.regime = np.zeros((symbols, places), np.int8)
        self.volatility = np.zeros((symbols, places), np.float32)
        #: (symbol, horizon, regime, [volatility hits, scored, trend hits, scored])
        self.counts = np.zeros((symbols, len(horizons), len(REGIMES), 4), np.int64)
        #: (symbol, horizon, [hits, scored])
        self.no_change = np.zeros((symbols, len(horizons), 2), np.int64)
        self._source = np.full((symbols, places), EARLIER, np.int32)

    def advance(
        self,
        *,
        symbol_index: Int64,
        minute: Int64,
        may_start: Bool,
        change_pct: Float64,
        volatility_pct: Float64,
        slope_pct_per_hour: Float64,
        stated_volatility_pct: Float64,
        stated_slope_pct_per_hour: Float64,
        regime: Int8,
        complete_to_minute: int,
    ) -> Settled:
        """Settle what candles settle, and remember the forecasts made at them.

        Parameters
        ----------
        symbol_index, minute
            The candles, in order per symbol.
        may_start
            Whether the symbol's first forecast may be made at this row.
        change_pct, volatility_pct, slope_pct_per_hour
            Shape (rows, horizons): what happened over the horizon that ends with the row.
        stated_volatility_pct, stated_slope_pct_per_hour
            Shape (rows, horizons): what is forecast at the row.
        regime
            Of the row.
        complete_to_minute
            Up to this minute no further candle comes.
        """
        rows, n = len(minute), len(self._horizons)
        sign = np.sign(stated_slope_pct_per_hour).astype(np.int8)
        counts = np.zeros((rows, n, 6), np.int64)
        issued = np.zeros(rows, np.bool_)
        settles = np.zeros((rows, n), np.bool_)
        source = np.full((rows, n), EARLIER, np.int64)
        room = _absent_room(symbol_index, minute, self.last_minute.copy(), self._horizons, complete_to_minute)
        absent = np.empty((room, 4), np.int64)
        found = _advance(
            symbol_index,
            minute,
            may_start,
            change_pct,
            volatility_pct,
            slope_pct_per_hour,
            stated_volatility_pct.astype(np.float32),
            sign,
            regime,
            complete_to_minute,
            self._horizons,
            self._offsets,
            self._cap,
            self._every,
            self.last_minute,
            self.started,
            self.trend_sign,
            self.regime,
            self.volatility,
            self._source,
            self.counts,
            self.no_change,
            issued,
            settles,
            source,
            counts,
            absent,
        )
        self._source[self._source != EARLIER] = EARLIER
        absent = absent[:found]
        return Settled(
            issued=issued,
            settles=settles,
            source=source,
            volatility_hits=counts[:, :, 0],
            volatility_scored=counts[:, :, 1],
            trend_hits=counts[:, :, 2],
            trend_scored=counts[:, :, 3],
            no_change_hits=counts[:, :, 4],
            no_change_scored=counts[:, :, 5],
            absent=Absent(
                symbol_index=absent[:, 0],
                horizon_index=absent[:, 1],
                target_minute=absent[:, 2],
                source=absent[:, 3],
            ),
        )

    @property
    def is_open(self) -> Bool:
        """Tell for each symbol and place whether a forecast waits there for its outcome."""
        waits: Bool = self.trend_sign != EMPTY
        return waits

    def open_count(self) -> int:
        """Count the forecasts that wait for their outcome."""
        return int(np.count_nonzero(self.is_open))

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        """Hand out the state."""
        return {name: getattr(self, name) for name in _STATE}

    def take(self, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> None:
        """Go on from the state of `arrays`."""
        for name in _STATE:
            getattr(self, name)[...] = arrays[name]
        self._source[...] = EARLIER


# How many forecasts may lose their outcome at most: those whose target falls into a gap.
def _absent_room_rule(
    symbol_index: Int64, minute: Int64, last_minute: Int64, horizons: Int64, complete_to: int
) -> int:
    room = 0
    for i in range(len(minute)):
        s = symbol_index[i]
        if last_minute[s] != NEVER:
            for h in horizons:
                room += min(minute[i] - last_minute[s] - 1, h)
        last_minute[s] = minute[i]
    for last in last_minute:
        if last != NEVER and last < complete_to:
            for h in horizons:
                room += min(complete_to - last, h)
    return room


# Row by row, in the given order: absent minutes since the symbol's last one, then the outcomes that the row
# brings, then what is known is read, then the row's own forecasts go into the places that became free.
# At the end the minutes up to `complete_to` that brought no candle count as absent.
def _advance_rule(
    symbol_index: Int64,
    minute: Int64,
    may_start: Bool,
    change: Float64,
    volatility: Float64,
    slope: Float64,
    stated_volatility: Float32,
    stated_sign: Int8,
    regime: Int8,
    complete_to: int,
    horizons: Int64,
    offsets: Int64,
    cap: Int64,
    every: int,
    last_minute: Int64,
    started: Bool,
    ring_sign: Int8,
    ring_regime: Int8,
    ring_volatility: Float32,
    ring_source: Int32,
    counts: Int64,
    no_change: Int64,
    out_issued: Bool,
    out_settles: Bool,
    out_source: Int64,
    out_counts: Int64,
    out_absent: Int64,
) -> int:
    found = 0
    rows, symbols = len(minute), len(last_minute)
    for i in range(rows + symbols):
        if i < rows:
            s, m = symbol_index[i], minute[i]
        else:
            s = i - rows
            m = complete_to + 1
            if last_minute[s] == NEVER or last_minute[s] >= complete_to:
                continue
        if last_minute[s] != NEVER:
            for j in range(len(horizons)):
                h = horizons[j]
                for target in range(last_minute[s] + 1, min(m, last_minute[s] + 1 + h)):
                    place = offsets[j] + target % h
                    if ring_sign[s, place] != EMPTY:
                        out_absent[found, 0] = s
                        out_absent[found, 1] = j
                        out_absent[found, 2] = target
                        out_absent[found, 3] = ring_source[s, place]
                        found += 1
                        ring_sign[s, place] = EMPTY
        if i >= rows:
            last_minute[s] = complete_to
            continue
        last_minute[s] = m
        started[s] = started[s] or may_start[i]
        issue = started[s] and (m + 1) % every == 0
        out_issued[i] = issue
        for j in range(len(horizons)):
            place = offsets[j] + m % horizons[j]
            if ring_sign[s, place] != EMPTY:
                out_settles[i, j] = True
                out_source[i, j] = ring_source[s, place]
                score = counts[s, j, ring_regime[s, place]]
                if not np.isnan(volatility[i, j]):
                    stated = float(ring_volatility[s, place])
                    score[1] += 1
                    if abs(volatility[i, j] - stated) <= VOLATILITY_TOLERANCE * stated:
                        score[0] += 1
                    if score[1] >= cap[j]:
                        score[0] //= 2
                        score[1] //= 2
                if not np.isnan(slope[i, j]):
                    score[3] += 1
                    if np.sign(slope[i, j]) == ring_sign[s, place]:
                        score[2] += 1
                    if score[3] >= cap[j]:
                        score[2] //= 2
                        score[3] //= 2
                if not np.isnan(change[i, j]):
                    no_change[s, j, 1] += 1
                    if change[i, j] == 0.0:
                        no_change[s, j, 0] += 1
                    if no_change[s, j, 1] >= cap[j]:
                        no_change[s, j, 0] //= 2
                        no_change[s, j, 1] //= 2
            for k in range(4):
                out_counts[i, j, k] = counts[s, j, regime[i], k]
            out_counts[i, j, 4] = no_change[s, j, 0]
            out_counts[i, j, 5] = no_change[s, j, 1]
            ring_sign[s, place] = stated_sign[i, j] if issue else EMPTY
            ring_regime[s, place] = regime[i]
            ring_volatility[s, place] = stated_volatility[i, j]
            ring_source[s, place] = i
    return found


_absent_room = njit(cache=True)(_absent_room_rule)
_advance = njit(cache=True)(_advance_rule)

_STATE = ("last_minute", "started", "trend_sign", "regime", "volatility", "counts", "no_change")

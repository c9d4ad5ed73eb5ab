"""Single candles that stand out: spikes, bursts of volume, a price that stands still, a candle said again.

Judged symbol by symbol as the candles come, each against what was usual just before it, never by itself:

*spike*: the candle's furthest point from the close before, over the usual such move. Usual is the larger of
two running means (an hour and a day), into which no move counts with more than three times the usual; so one
spike neither hides the next nor makes calm look wild. High and low count, because a bad tick often leaves no
other mark.

*burst*: the logarithm of the volume, less its running mean, over its usual deviation from that mean, bounded
in the same way.

*frozen*: a traded close that has not moved for so many minutes. Told once.

*repeated*: a traded candle whose five numbers are those of the one before, some times in a row. Told once.

After a spike or a burst there is no second one of the same kind for a quarter of an hour, unless it is half
as high again: one event is one finding.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import inf, log, nan, sqrt
from typing import Any

import numpy as np

from schemas.frames import Bool, Float64, Int64

KINDS = ("spike", "burst", "frozen", "repeated")
NEVER = -1
HOUR, DAY, BURST_MEMORY = 60.0, 1440.0, 240.0
#: Candles of a symbol before its moves and volumes are judged.
WARM_UP = 120
MOST_USUAL = 3.0
#: Share of the price that usual moves count as at least: below it a move is a tick or two.
LEAST_MOVE = 0.0003
LEAST_DEVIATION = 0.3
QUIET_MINUTES, HIGHER_BY = 15, 1.5
#: Identical candles with a volume, the first included, before it is told.
REPEATS = 4
#: Mean absolute deviation of a normal distribution, in standard deviations.
_TO_DEVIATION = 1.2533


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomalies:
    """What was found, one entry each.

    Attributes
    ----------
    row
        Which candle.
    kind
        Position in `KINDS`.
    value, limit
        The score or the count of minutes, and what it was compared with.
    """

    row: Int64
    kind: Int64
    value: Float64
    limit: Float64


@dataclass(slots=True)
class _Symbol:
    """What is usual of one symbol, and what was told of it; minutes and counts are whole numbers."""

    last_minute: float = NEVER
    changed: float = NEVER
    open: float = nan
    high: float = nan
    low: float = nan
    close: float = nan
    volume: float = nan
    count: float = 0
    repeats: float = 1
    hour_move: float = 0.0
    day_move: float = 0.0
    moves: float = 0
    log_volume: float = 0.0
    deviation: float = LEAST_DEVIATION
    volumes: float = 0
    spike_at: float = -inf
    spike_height: float = 0.0
    burst_at: float = -inf
    burst_height: float = 0.0


class CandleWatch:
    """Remembers of each symbol what is usual.

    Parameters
    ----------
    symbols
        How many.
    spike_score, burst_score
        Beyond these a move or a volume is told.
    frozen_minutes
        Minutes for which a traded close may stand still.
    """

    def __init__(self, *, symbols: int, spike_score: float, burst_score: float, frozen_minutes: int) -> None:
        self._limits = (spike_score, burst_score, float(frozen_minutes), float(REPEATS))
        self._known = [_Symbol() for _ in range(symbols)]

    def advance(self, position: Int64, minute: Int64, ohlcv: Float64, quiet: Bool) -> Anomalies:
        """Judge candles, in order per symbol.

        Parameters
        ----------
        position, minute
            Which candles.
        ohlcv
            Shape (candles, 5). One that contradicts itself is left out.
        quiet
            Nothing was traded in that minute, and that is known.
        """
        sane = np.isfinite(ohlcv).all(axis=1) & (ohlcv[:, :4] > 0.0).all(axis=1) & (ohlcv[:, 4] >= 0.0)
        found: list[tuple[int, int, float]] = []
        columns = (sane.tolist(), position.tolist(), minute.tolist(), ohlcv.tolist(), quiet.tolist())
        for row, (is_sane, place, at, candle, is_quiet) in enumerate(zip(*columns, strict=True)):
            if is_sane:
                scores = self._candle(self._known[place], at, candle, is_quiet)
                found += [(row, kind, value) for kind, value in scores]
        return Anomalies(
            row=np.array([row for row, *_ in found], np.int64),
            kind=np.array([kind for _, kind, _ in found], np.int64),
            value=np.array([value for *_, value in found], np.float64),
            limit=np.array([self._limits[kind] for _, kind, _ in found], np.float64),
        )

    def _candle(self, one: _Symbol, minute: int, candle: list[float], quiet: bool) -> list[tuple[int, float]]:
        open_, high, low, close, volume = candle
        found = []
        if one.count and not quiet:
            found += self._stands_still(one, minute, candle)
            gap = minute - one.last_minute
            spike = self._spike(one, max(log(high / one.close), log(one.close / low)) / sqrt(gap))
            burst = self._burst(one, log(volume)) if volume > 0.0 else 0.0
            if one.count >= WARM_UP:
                found += self._news(one, minute, spike, burst)
        else:
            one.changed, one.repeats = minute, 1
        one.open, one.high, one.low, one.close, one.volume = open_, high, low, close, volume
        one.last_minute = minute
        one.count += 1
        return found

    def _stands_still(self, one: _Symbol, minute: int, candle: list[float]) -> list[tuple[int, float]]:
        found = []
        if candle[3] != one.close:
            one.changed = minute
        # Told at the candle that reaches the limit, which a gap may step over.
        elif one.last_minute - one.changed < self._limits[2] <= minute - one.changed:
            found.append((2, float(minute - one.changed)))
        same = candle[4] > 0.0 and candle == [one.open, one.high, one.low, one.close, one.volume]
        one.repeats = one.repeats + 1 if same else 1
        if one.repeats == REPEATS:
            found.append((3, float(REPEATS)))
        return found

    def _spike(self, one: _Symbol, move: float) -> float:
        usual = max(one.hour_move, one.day_move, LEAST_MOVE)
        one.moves += 1
        bounded = min(move, MOST_USUAL * usual)
        one.hour_move += (bounded - one.hour_move) / min(one.moves, HOUR)
        one.day_move += (bounded - one.day_move) / min(one.moves, DAY)
        return move / usual

    def _burst(self, one: _Symbol, log_volume: float) -> float:
        usual = max(one.deviation, LEAST_DEVIATION)
        one.volumes += 1
        off = log_volume - one.log_volume if one.volumes > 1 else 0.0
        if one.volumes == 1:
            one.log_volume = log_volume
        bounded = min(max(off, -MOST_USUAL * usual), MOST_USUAL * usual)
        memory = min(one.volumes, BURST_MEMORY)
        one.log_volume += bounded / memory
        one.deviation += (abs(bounded) - one.deviation) / memory
        return off / (_TO_DEVIATION * usual)

    def _news(self, one: _Symbol, minute: int, spike: float, burst: float) -> list[tuple[int, float]]:
        found = []
        if spike > self._limits[0] and (
            minute - one.spike_at > QUIET_MINUTES or spike > HIGHER_BY * one.spike_height
        ):
            one.spike_at, one.spike_height = minute, spike
            found.append((0, spike))
        if burst > self._limits[1] and (
            minute - one.burst_at > QUIET_MINUTES or burst > HIGHER_BY * one.burst_height
        ):
            one.burst_at, one.burst_height = minute, burst
            found.append((1, burst))
        return found

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Hand out the state."""
        return {"known": np.array([astuple(one) for one in self._known], np.float64)}

    def take(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Go on from the state of `arrays`."""
        self._known = [_Symbol(*row) for row in arrays["known"].tolist()]

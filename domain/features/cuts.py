"""Histories that end early: where to cut a market, and what to put behind the cut instead.

The places are chosen so that leaks of different reach and under different conditions show: at gaps, around
midnight and the full hour, at the largest candles, in quiet minutes, soon after the start, and spread evenly
over the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from schemas.frames import MINUTE_MS, Float64, Int64

_DAY_MINUTES = 1_440
_GOLDEN = 0.6180339887498949
#: Cuts in what is the warm-up of most features: there a filled start shows.
_EARLY = np.array([9, 4, 29, 59, 14, 1, 19, 99])
_VOLUME, _CLOSE = 4, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Candles of one symbol.

    Attributes
    ----------
    open_time_ms
        Shape (candles,), rising, whole minutes.
    ohlcv
        Shape (candles, 5): open, high, low, close, volume.
    """

    open_time_ms: Int64
    ohlcv: Float64

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def first(self, count: int) -> History:
        """Give a copy of the oldest candles, which nobody else holds."""
        return History(open_time_ms=self.open_time_ms[:count].copy(), ohlcv=self.ohlcv[:count].copy())


#: Candles by symbol.
Market = Mapping[str, History]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An early end: `symbol` has its oldest `kept` candles, the others what came before the last of them."""

    symbol: str
    kept: int


def choose_cuts(market: Market, *, count: int, least: int) -> tuple[Cut, ...]:
    """Choose places to cut, each of a different kind for as long as there are kinds.

    Parameters
    ----------
    market
        Candles by symbol.
    count
        Cuts wanted; fewer only where the histories are too short.
    least
        Candles that a cut keeps at least.

    Returns
    -------
    By symbol and place, none twice.
    """
    symbols = list(market)
    kinds = {name: _places(history, least, turn) for turn, (name, history) in enumerate(market.items())}
    queues = [
        [Cut(symbol=symbol, kept=int(last) + 1) for last in kinds[symbol][number]]
        for shift in range(len(symbols))
        for number in range(len(kinds[symbols[0]]))
        for symbol in [symbols[(number + shift) % len(symbols)]]
    ]
    # One of each kind first, each kind on another symbol.
    turns = chain.from_iterable(zip_longest(*queues))
    chosen = list(dict.fromkeys(cut for cut in turns if cut is not None))[:count]
    return tuple(sorted(chosen, key=lambda cut: (symbols.index(cut.symbol), cut.kept)))


def cuts_of_every_minute(market: Market, *, least: int) -> tuple[Cut, ...]:
    """Cut at every minute of the day that the market has, the symbols taking turns.

    Parameters
    ----------
    market, least
        As in `choose_cuts`.

    Returns
    -------
    By minute of the day; each at the last time that it comes, when features are warm.
    """
    cuts = []
    last = {name: _last_of_each_minute(history, least) for name, history in market.items()}
    symbols = list(market)
    for minute in range(_DAY_MINUTES):
        turn = minute % len(symbols)
        there = [name for name in (*symbols[turn:], *symbols[:turn]) if last[name][minute] >= 0]
        if there:
            cuts.append(Cut(symbol=there[0], kept=int(last[there[0]][minute]) + 1))
    return tuple(cuts)


def _last_of_each_minute(history: History, least: int) -> Int64:
    """Find the candle that comes last of each minute of the day; -1 where there is none."""
    rows = np.arange(max(0, least - 1), max(0, len(history) - 1))
    found = np.full(_DAY_MINUTES, -1, np.int64)
    # Of several values for one place, the last one stays.
    found[history.open_time_ms[rows] // MINUTE_MS % _DAY_MINUTES] = rows
    return found


def cut_market(market: Market, cut: Cut, *, same_minute: bool = False) -> dict[str, History]:
    """End a market early.

    Parameters
    ----------
    market, cut
        What to cut, and where.
    same_minute
        Whether the other symbols' candle of the cut's last minute is in, too. Live it may not be.

    Returns
    -------
    The symbols that have candles left.
    """
    end = int(market[cut.symbol].open_time_ms[cut.kept - 1])
    kept = {
        name: int(np.searchsorted(history.open_time_ms, end, side="right" if same_minute else "left"))
        for name, history in market.items()
    } | {cut.symbol: cut.kept}
    return {name: history.first(kept[name]) for name, history in market.items() if kept[name]}


def with_other_future(market: Market, past: Market) -> dict[str, History]:
    """Let a market go on after `past` as wildly as none does: a third to three times the price in turn."""
    changed = {}
    for name, history in market.items():
        known = len(past[name]) if name in past else 0
        other = history.first(len(history))
        wave = np.sin(2.0 * np.pi * _GOLDEN * np.arange(1, len(history) - known + 1))
        other.ohlcv[known:, :_VOLUME] *= np.exp(1.1 * wave)[:, None]
        other.ohlcv[known:, _VOLUME] *= 10.0 + 10.0 * wave
        changed[name] = other
    return changed


def _places(history: History, least: int, turn: int) -> list[Int64]:
    """List, kind by kind, the numbers of candles that may come last; each kind in the order of its use.

    `turn` has each symbol begin with another of the early ones.
    """
    events = list(_events(history))
    inner = max(0, len(history) - 1 - least)
    evenly = least + (inner * ((np.arange(1, 201) * _GOLDEN) % 1.0)).astype(np.int64)
    kinds = [np.roll(_EARLY, -turn).astype(np.int64), *events, evenly]
    return [kind[(kind >= least - 1) & (kind < len(history) - 1)] for kind in kinds]


def _events(history: History) -> Iterator[Int64]:
    minutes = history.open_time_ms // MINUTE_MS
    volume = history.ohlcv[:, _VOLUME]
    moves = np.abs(np.diff(np.log(history.ohlcv[:, _CLOSE]), prepend=np.nan))
    before_gap = np.flatnonzero(np.diff(minutes) > 1)
    before_midnight = np.flatnonzero(np.diff(minutes // _DAY_MINUTES) > 0)
    surges = np.argsort(-volume, kind="stable")[:8]
    jumps = np.argsort(-moves, kind="stable")[:8]
    yield before_midnight
    yield before_gap + 1
    yield _spread(np.flatnonzero(volume == 0.0))
    yield surges
    yield _spread(np.flatnonzero(minutes % 60 == 0))
    yield before_gap
    yield jumps
    yield before_midnight + 1
    yield surges - 1
    yield _spread(np.flatnonzero(minutes % 60 == 59))
    yield jumps - 1


def _spread(places: Int64) -> Int64:
    """Put places into an order in which the first few lie far apart."""
    order = np.argsort((np.arange(1, len(places) + 1) * _GOLDEN) % 1.0, kind="stable")
    return places[order]

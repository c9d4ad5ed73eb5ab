"""What of a market is visible at a virtual time: closed candles, the minute in progress, trades, a ticker.

The minute in progress is made of its trades so far, and the trades of a whole minute add up to its candle,
so every answer of the exchange, at whatever moment, belongs to the same story.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from exchanges.simulation.market import DAY_MS, Market, no_candles
from schemas.frames import MINUTE_MS, Float64

#: Open time in milliseconds, open, high, low, close, volume.
Row = tuple[int, float, float, float, float, float]
TRADES_A_MINUTE = 12
#: Half of the distance between bid and ask, as a part of the price.
HALF_SPREAD = 0.5e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade; `number` grows with time within a symbol."""

    number: int
    time_ms: int
    price: float
    size: float
    is_buy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticker:
    """The last 24 hours of a symbol in short."""

    symbol: str
    time_ms: int
    open: float
    high: float
    low: float
    last: float
    volume: float
    quote_volume: float
    bid: float
    ask: float
    size: float


class Tape:
    """Shows a market up to a virtual time.

    Parameters
    ----------
    market
        Where the candles come from.
    first_ms
        Nothing before this minute is served.
    """

    def __init__(self, market: Market, *, first_ms: int) -> None:
        self.market = market
        self.first_ms = first_ms
        self._known = frozenset(market.symbols)
        self._days: dict[str, tuple[int, Float64]] = {}
        self._day_stats: dict[str, tuple[int, tuple[float, float, float, float, float]]] = {}
        self._trades: dict[str, tuple[int, list[Trade]]] = {}
        self._revised: dict[tuple[str, int], Row] = {}
        self._halts: list[tuple[int, int]] = []

    # --- which symbols there are ---

    def is_listed(self, symbol: str, now_ms: int) -> bool:
        """Whether the exchange knows the symbol by now."""
        return symbol in self._known and self.market.span(symbol)[0] <= now_ms

    def is_trading(self, symbol: str, now_ms: int) -> bool:
        """Whether the symbol is listed and its last minute is not over."""
        last = self.market.span(symbol)[1]
        return self.is_listed(symbol, now_ms) and (last is None or now_ms < last + MINUTE_MS)

    def listed(self, now_ms: int) -> list[str]:
        """List the symbols that the exchange knows by now, in the market's order."""
        return [symbol for symbol in self.market.symbols if self.is_listed(symbol, now_ms)]

    # --- candles ---

    def row(self, symbol: str, minute_ms: int) -> Row | None:
        """Give the final candle of one minute, whether or not it is over; None where there is none."""
        day = minute_ms - minute_ms % DAY_MS
        held = self._days.get(symbol)
        if held is None or held[0] != day:
            held = self._days[symbol] = (day, self._day_block(symbol, day))
        values = held[1][(minute_ms - day) // MINUTE_MS].tolist()
        if values[0] != values[0] or minute_ms < self.first_ms or self._is_halted(minute_ms):
            return None
        return (int(values[0]), *values[1:])

    def closed(self, symbol: str, from_ms: int, to_ms: int, now_ms: int) -> list[Row]:
        """Give the candles with `from_ms <= open time < to_ms` that are over."""
        to_ms = min(to_ms, now_ms - now_ms % MINUTE_MS)
        from_ms = max(from_ms, self.first_ms)
        if to_ms <= from_ms:
            return []
        rows: list[Row] = [
            (int(row[0]), *row[1:]) for row in self.market.candles(symbol, from_ms, to_ms).tolist()
        ]
        if self._halts:
            rows = [row for row in rows if not self._is_halted(row[0])]
        if self._revised:
            rows = [self._revised.get((symbol, row[0]), row) for row in rows]
        return rows

    def visible(self, symbol: str, from_ms: int, to_ms: int, now_ms: int) -> list[Row]:
        """Give the closed candles and, at the end, the one in progress."""
        rows = self.closed(symbol, from_ms, to_ms, now_ms)
        minute = now_ms - now_ms % MINUTE_MS
        if from_ms <= minute < to_ms:
            partial = self.partial(symbol, now_ms)
            if partial is not None:
                rows.append(partial)
        return rows

    def first_rows(self, symbol: str, from_ms: int, to_ms: int, now_ms: int, limit: int) -> list[Row]:
        """Give the first visible candles from a time on, over holes of any length."""
        from_ms = max(from_ms, self.first_ms, self.market.span(symbol)[0])
        rows: list[Row] = []
        while len(rows) < limit and from_ms < to_ms:
            stop = min(from_ms + limit * MINUTE_MS, to_ms)
            rows += self.visible(symbol, from_ms, stop, now_ms)
            from_ms = stop
        return rows[:limit]

    def last_rows(self, symbol: str, from_ms: int | None, to_ms: int, now_ms: int, limit: int) -> list[Row]:
        """Give the last visible candles before a time, over holes of any length."""
        floor = max(self.first_ms, self.market.span(symbol)[0], from_ms or self.first_ms)
        rows: list[Row] = []
        while len(rows) < limit and to_ms > floor:
            start = max(to_ms - limit * MINUTE_MS, floor)
            rows = self.visible(symbol, start, to_ms, now_ms) + rows
            to_ms = start
        return rows[-limit:]

    def partial(self, symbol: str, now_ms: int) -> Row | None:
        """Give the candle in progress: its trades so far, or flat at the last close before the first."""
        minute = now_ms - now_ms % MINUTE_MS
        row = self.row(symbol, minute)
        if row is None:
            return None
        trades = [trade for trade in self.trades(symbol, minute) if trade.time_ms <= now_ms]
        if trades:
            prices = [trade.price for trade in trades]
            size = round(sum(trade.size for trade in trades), 10)
            return (minute, prices[0], max(prices), min(prices), prices[-1], size)
        before = self.row(symbol, minute - MINUTE_MS)
        price = row[1] if before is None else before[4]
        return (minute, price, price, price, price, 0.0)

    # --- trades and ticker ---

    def trades(self, symbol: str, minute_ms: int) -> list[Trade]:
        """Give the trades of a whole minute; their sizes and extremes make its candle."""
        held = self._trades.get(symbol)
        if held is None or held[0] != minute_ms:
            row = self.row(symbol, minute_ms)
            made = [] if row is None or row[5] <= 0 else _make_trades(symbol, row)
            held = self._trades[symbol] = (minute_ms, made)
        return held[1]

    def recent_trades(self, symbol: str, now_ms: int, limit: int) -> list[Trade]:
        """Give the newest trades up to now, oldest first; of the last hour at most."""
        found: list[Trade] = []
        minute = now_ms - now_ms % MINUTE_MS
        while len(found) < limit and minute > now_ms - 60 * MINUTE_MS:
            found = [t for t in self.trades(symbol, minute) if t.time_ms <= now_ms] + found
            minute -= MINUTE_MS
        return found[-limit:]

    def ticker(self, symbol: str, now_ms: int) -> Ticker | None:
        """Sum up the last 24 hours; None before the first candle."""
        minute = now_ms - now_ms % MINUTE_MS
        held = self._day_stats.get(symbol)
        if held is None or held[0] != minute:
            held = self._day_stats[symbol] = (minute, self._stats(symbol, minute))
        opened, high, low, volume, quote = held[1]
        partial = self.partial(symbol, now_ms)
        last = partial[4] if partial else self.last_price(symbol, now_ms)
        if last is None:
            return None
        if partial is not None:
            high, low = max(high, partial[2]), min(low, partial[3])
            volume, quote = volume + partial[5], quote + partial[5] * partial[4]
        return Ticker(
            symbol=symbol,
            time_ms=now_ms,
            open=last if opened != opened else opened,
            high=max(high, last),
            low=min(low, last),
            last=last,
            volume=volume,
            quote_volume=quote,
            bid=float(f"{last * (1 - HALF_SPREAD):.8g}"),
            ask=float(f"{last * (1 + HALF_SPREAD):.8g}"),
            size=max(volume / 10_000, 1e-6),
        )

    def last_price(self, symbol: str, now_ms: int) -> float | None:
        """Give the newest close before the minute in progress, looking back a day."""
        minute = now_ms - now_ms % MINUTE_MS
        last = self.market.span(symbol)[1]
        newest = minute if last is None else min(minute, last + MINUTE_MS)
        rows = self.market.candles(symbol, max(newest - DAY_MS, self.first_ms), newest)
        return float(rows[-1, 4]) if len(rows) else None

    # --- what faults change ---

    def revise(self, symbol: str, row: Row) -> None:
        """Serve this candle in place of the true one, until `restore`."""
        self._revised[symbol, row[0]] = row

    def restore(self, symbol: str, minute_ms: int) -> None:
        """Serve the true candle again."""
        self._revised.pop((symbol, minute_ms), None)

    def halt(self, from_ms: int, to_ms: int) -> None:
        """Take the minutes out of the market, for every symbol and for ever."""
        self._halts.append((from_ms, to_ms))

    def truth(self, symbol: str, from_ms: int, to_ms: int) -> list[Row]:
        """Give the final candles as they are once all revisions are known, over or not."""
        rows = self.market.candles(symbol, max(from_ms, self.first_ms), to_ms).tolist()
        return [(int(row[0]), *row[1:]) for row in rows if not self._is_halted(int(row[0]))]

    def _is_halted(self, minute_ms: int) -> bool:
        return any(first <= minute_ms < last for first, last in self._halts)

    # One row per minute of the day, NaN where the market has none.
    def _day_block(self, symbol: str, day: int) -> Float64:
        rows = self.market.candles(symbol, day, day + DAY_MS)
        if len(rows) == DAY_MS // MINUTE_MS:
            return rows
        block = np.full((DAY_MS // MINUTE_MS, 6), np.nan)
        block[((rows[:, 0] - day) // MINUTE_MS).astype(np.int64)] = rows
        return block

    def _stats(self, symbol: str, minute: int) -> tuple[float, float, float, float, float]:
        start = max(minute - DAY_MS, self.first_ms)
        rows = self.market.candles(symbol, start, minute) if minute > start else no_candles()
        if not len(rows):
            return (float("nan"), 0.0, float("inf"), 0.0, 0.0)
        return (
            float(rows[0, 1]),
            float(rows[:, 2].max()),
            float(rows[:, 3].min()),
            float(rows[:, 5].sum()),
            float((rows[:, 5] * rows[:, 4]).sum()),
        )


# Times, prices and sizes are drawn from the symbol and the minute alone.
def _make_trades(symbol: str, row: Row) -> list[Trade]:
    minute_ms = row[0]
    draw = random.Random(zlib.crc32(symbol.encode()) ^ (minute_ms // MINUTE_MS) << 20)  # noqa: S311
    prices = _path(row, draw)
    times = sorted(draw.sample(range(200, MINUTE_MS - 100), len(prices)))
    sizes = _shares(row[5], len(prices), draw)
    first = minute_ms // MINUTE_MS * (TRADES_A_MINUTE + 1)
    before = row[1]
    trades = []
    for place, (offset, price, size) in enumerate(zip(times, prices, sizes, strict=True)):
        trade = Trade(
            number=first + place, time_ms=minute_ms + offset, price=price, size=size, is_buy=price >= before
        )
        trades.append(trade)
        before = price
    return trades


# Open, both extremes, close, and steps between them, all inside the candle.
def _path(row: Row, draw: random.Random) -> list[float]:
    _, opened, high, low, close, _ = row
    corners = [opened, low, high, close] if close >= opened else [opened, high, low, close]
    between = (TRADES_A_MINUTE - len(corners)) // (len(corners) - 1)
    path = [corners[0]]
    for start, stop in pairwise(corners):
        for _ in range(between):
            price = float(f"{start + (stop - start) * draw.random():.7g}")
            path.append(min(max(price, low), high))
        path.append(stop)
    return path


# Sizes that add up to the volume: whole hundred-millionths, and the rest in the last one.
def _shares(volume: float, count: int, draw: random.Random) -> list[float]:
    weights = [0.2 + draw.random() for _ in range(count)]
    total = sum(weights)
    sizes = [round(volume * weight / total, 8) for weight in weights[:-1]]
    rest = round(volume - sum(sizes), 8)
    if rest <= 0 or min(sizes) <= 0:
        return [volume / count] * count
    return [*sizes, rest]

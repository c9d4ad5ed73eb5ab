"""Frames that no sane exchange sends, and that one has sent before."""

from __future__ import annotations

import random
from dataclasses import replace

from exchanges.simulation.protocols.base import Kind, Topic, WireProtocol
from exchanges.simulation.tape import Row, Trade
from schemas.frames import MINUTE_MS

TEXTS = (
    '{"e":"kline","k":{',
    "[1,2,3]",
    "hello",
    "<html><body>503 Service Temporarily Unavailable</body></html>",
    "{}",
    "null",
    '{"e":"kline","k":{"t":"soon","o":"nan","h":null}}',
    '{"type":"error","message":"rate limit exceeded"}',
    "\u0000\ufffd",
)
#: Price, size and time in milliseconds of trades that never happened.
BAD_TRADES = ((-1.0, 1.0, 0), (1e12, 1.0, 0), (float("nan"), 1.0, 0), (1.0, -5.0, 4_102_444_800_000))


def bad_rows(row: Row) -> list[Row]:
    """Make candles that cannot be true out of one that is."""
    minute, opened, high, low, close, volume = row
    return [
        (minute, -opened, high, low, close, volume),
        (minute, opened, low / 2, high, close, volume),
        (minute, opened * 1_000, high * 1_000, low * 1_000, close * 1_000, volume),
        (minute, opened, high, low, close, -1.0),
        (minute, opened, high, low, 0.0, volume),
        (minute + 1_440 * MINUTE_MS, opened, high, low, close, volume),
        (minute + 17, opened, high, low, close, volume),
        (minute, float("nan"), high, low, close, volume),
    ]


def nonsense(protocol: WireProtocol, topic: Topic, row: Row | None, draw: random.Random) -> str:
    """Write one nonsensical frame for a topic."""
    if topic.kind is Kind.TRADE and draw.random() < 0.5:
        price, size, time_ms = draw.choice(BAD_TRADES)
        trade = Trade(number=1, time_ms=time_ms, price=price, size=size, is_buy=True)
        return protocol.trades(topic, [trade])[0]
    if row is None or topic.kind is not Kind.KLINE or draw.random() < 0.5:
        return draw.choice(TEXTS)
    bad = draw.choice(bad_rows(row))
    if draw.random() < 0.2:
        symbol = "NOSUCHUSDT"
        topic = replace(topic, symbol=symbol, name=topic.name.replace(topic.symbol, symbol))
        bad = row
    return protocol.kline(topic, bad, closed=True, event_ms=row[0] + MINUTE_MS)

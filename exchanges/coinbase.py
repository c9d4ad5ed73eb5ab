"""Coinbase Advanced: no candle stream of one minute, so the history is polled once each minute is over.

The history leaves out minutes without trades (`domain/market/quiet.py` says what becomes of them). The stream
gives trades, for the live price and as a sign of life, and heartbeats, without which it is closed when the
market is quiet. Ten public requests a second for each address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from exchanges.connection import FrameFault, Subscribe, Tick, Update

_CANDLE_FIELDS = {"start", "open", "high", "low", "close", "volume"}


class _Coinbase:
    name = "coinbase"
    page_rows = 300
    rate_limit_ms = 34
    chunk = 100
    has_candle_stream = False
    omits_quiet = True

    def options(self) -> dict[str, Any]:
        return {}

    def point_at(self, exchange: Any, base_url: str) -> None:
        host = base_url.split("://", 1)[-1].rstrip("/")
        exchange.urls["api"]["rest"] = f"http://{host}"
        exchange.urls["api"]["ws"] = f"ws://{host}/cb"

    def read(self, message: Mapping[str, Any]) -> Sequence[Update | Tick] | None:
        channel = message.get("channel")
        if channel not in ("market_trades", "ticker"):
            return None
        try:
            ticks: list[Tick] = []
            for event in message["events"]:
                if channel == "market_trades":
                    ticks += [
                        Tick(str(trade["product_id"]), float(trade["price"]), _time_ms(trade["time"]))
                        for trade in event["trades"]
                    ]
                else:
                    at = _time_ms(message["timestamp"])
                    ticks += [
                        Tick(str(ticker["product_id"]), float(ticker["price"]), at)
                        for ticker in event["tickers"]
                    ]
            return ticks
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FrameFault("malformed", f"no {channel} frame: {error!r}") from error

    def subscriptions(self, exchange: Any, pairs: Sequence[str], *, fast: bool) -> list[Subscribe]:
        url = exchange.urls["api"]["ws"]
        beat = {"type": "subscribe", "channel": "heartbeats"}
        chunks = [list(pairs[at : at + self.chunk]) for at in range(0, len(pairs), self.chunk)]
        channel = "market_trades"
        if fast:
            # One ticker a minute moves a simulated exchange at full speed, with far less than all its trades.
            channel, chunks = "ticker", [list(pairs[:1])]
        return [
            partial(exchange.watch, url, "heartbeats", beat, "heartbeats"),
            *(partial(exchange.subscribe_multiple, channel, False, chunk) for chunk in chunks),
        ]

    def is_good_answer(self, url: str, answer: Any) -> bool:
        if not isinstance(answer, dict):
            return False
        if "/candles" in url:
            rows = answer.get("candles")
            return isinstance(rows, list) and all(
                isinstance(row, dict) and row.keys() >= _CANDLE_FIELDS for row in rows
            )
        if "/brokerage/market/products" in url:
            return isinstance(answer.get("products"), list)
        return "data" in answer


def _time_ms(text: Any) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return round(at.timestamp() * 1000)


PLUGIN = _Coinbase()

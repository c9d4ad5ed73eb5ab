"""Binance.US: closed minutes are flagged on the stream by `k.x`.

Weights (docs.binance.us): 1,200 a minute for each address, a history request weighs 1. ccxt bills it 0.4, so
the distance between requests is set to 150 ms of ccxt's weight. At most 1,024 streams a connection, and long
subscription messages fail silently: 200 symbols in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from domain.market.candle import candle_of
from exchanges.connection import FrameFault, Subscribe, Tick, Update


class _BinanceUs:
    name = "binanceus"
    page_rows = 1_000
    rate_limit_ms = 150
    chunk = 200
    has_candle_stream = True
    omits_quiet = False

    def options(self) -> dict[str, Any]:
        return {"defaultType": "spot"}

    def point_at(self, exchange: Any, base_url: str) -> None:
        host = base_url.split("://", 1)[-1].rstrip("/")
        for scope in ("public", "private", "v3"):
            exchange.urls["api"][scope] = f"http://{host}/api/v3"
        # ccxt tells spot from futures by this path.
        exchange.urls["api"]["ws"]["spot"] = f"ws://{host}/stream/ws"

    def read(self, message: Mapping[str, Any]) -> Sequence[Update | Tick] | None:
        event = message.get("e")
        try:
            if event == "kline":
                kline = message["k"]
                if kline["i"] != "1m":
                    raise FrameFault("wrong_symbol", f"interval {kline['i']!r} was not asked for")
                candle = candle_of(kline["t"], *(kline[field] for field in "ohlcv"))
                return (Update(_text(kline["s"]), candle, kline["x"] is True, _clock(message)),)
            if event == "trade":
                return (Tick(_text(message["s"]), float(message["p"]), int(message["T"])),)
        except FrameFault:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FrameFault("malformed", f"no {event} frame: {error!r}") from error
        return None

    def subscriptions(self, exchange: Any, pairs: Sequence[str], *, fast: bool) -> list[Subscribe]:
        return [
            partial(exchange.watch_ohlcv_for_symbols, [[pair, "1m"] for pair in pairs[at : at + self.chunk]])
            for at in range(0, len(pairs), self.chunk)
        ]

    def is_good_answer(self, url: str, answer: Any) -> bool:
        if "/klines" in url:
            return isinstance(answer, list) and all(isinstance(row, list) and len(row) >= 6 for row in answer)
        if "/exchangeInfo" in url:
            return isinstance(answer, dict) and isinstance(answer.get("symbols"), list)
        if url.split("?", 1)[0].endswith("/time"):
            return isinstance(answer, dict) and isinstance(answer.get("serverTime"), int)
        return isinstance(answer, (dict, list))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no market")
    return value


def _clock(message: Mapping[str, Any]) -> int | None:
    at = message.get("E")
    return at if isinstance(at, int) else None


PLUGIN = _BinanceUs()

"""Bybit, spot: closed minutes are flagged on the stream by `confirm`.

At most 10 topics in one subscription message, which ccxt does not cut up by itself. 600 requests in 5 seconds
for each address; ccxt's own distance of 100 ms keeps far below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from domain.market.candle import candle_of
from exchanges.connection import FrameFault, Subscribe, Tick, Update

_FIELDS = ("open", "high", "low", "close", "volume")


class _Bybit:
    name = "bybit"
    page_rows = 1_000
    rate_limit_ms = 20
    chunk = 10
    has_candle_stream = True
    omits_quiet = False

    def options(self) -> dict[str, Any]:
        return {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}

    def point_at(self, exchange: Any, base_url: str) -> None:
        host = base_url.split("://", 1)[-1].rstrip("/")
        exchange.urls["api"]["public"] = f"http://{host}"
        # ccxt tells spot from futures by this path.
        exchange.urls["api"]["ws"]["public"]["spot"] = f"ws://{host}/v5/public/spot"

    def read(self, message: Mapping[str, Any]) -> Sequence[Update | Tick] | None:
        topic = message.get("topic")
        if not isinstance(topic, str):
            return None
        try:
            if topic.startswith("kline."):
                _, interval, market_id = topic.split(".")
                if interval != "1":
                    raise FrameFault("wrong_symbol", f"interval {interval!r} was not asked for")
                at = message.get("ts")
                clock = at if isinstance(at, int) else None
                return [
                    Update(
                        market_id,
                        candle_of(row["start"], *(row[field] for field in _FIELDS)),
                        row["confirm"] is True,
                        clock,
                    )
                    for row in message["data"]
                ]
            if topic.startswith("publicTrade."):
                return [Tick(str(row["s"]), float(row["p"]), int(row["T"])) for row in message["data"]]
        except FrameFault:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FrameFault("malformed", f"no {topic} frame: {error!r}") from error
        return None

    def subscriptions(self, exchange: Any, pairs: Sequence[str], *, fast: bool) -> list[Subscribe]:
        return [
            partial(exchange.watch_ohlcv_for_symbols, [[pair, "1m"] for pair in pairs[at : at + self.chunk]])
            for at in range(0, len(pairs), self.chunk)
        ]

    def is_good_answer(self, url: str, answer: Any) -> bool:
        if not isinstance(answer, dict) or answer.get("retCode") != 0:
            return False
        if "/market/kline" in url or "/instruments-info" in url:
            result = answer.get("result")
            rows = result.get("list") if isinstance(result, dict) else None
            if not isinstance(rows, list):
                return False
            return "/instruments" in url or all(isinstance(row, list) and len(row) >= 6 for row in rows)
        if "/market/time" in url:
            return isinstance(answer.get("time"), int)
        return True


PLUGIN = _Bybit()

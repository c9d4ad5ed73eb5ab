"""The public market data of Binance.US: REST under /api/v3, websocket under /stream/ws and /ws."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import WSCloseCode

from exchanges.simulation.limits import Verdict, WeightLimit
from exchanges.simulation.numbers import decimal
from exchanges.simulation.protocols.base import (
    Conversation,
    Handler,
    Kind,
    Query,
    Reply,
    Topic,
    WireProtocol,
    json_reply,
    whole_number,
)
from exchanges.simulation.symbols import split_symbol
from exchanges.simulation.tape import Row, Ticker, Trade
from schemas.frames import MINUTE_MS

WEIGHT_A_MINUTE = 1_200
#: Refusals in a row before the address is banned.
STRIKES = 20
DEFAULT_ROWS, MOST_ROWS = 500, 1_000
MOST_STREAMS = 1_024
#: Stream names by the part after the @.
KINDS = {
    "kline_1m": Kind.KLINE,
    "trade": Kind.TRADE,
    "aggTrade": Kind.TRADE,
    "miniTicker": Kind.TICKER,
    "ticker": Kind.TICKER,
    "bookTicker": Kind.BOOK,
}
WEIGHTS = {"exchangeInfo": 10, "trades": 1, "klines": 1, "depth": 1, "ping": 1, "time": 1}


class _RefusedError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.reply = json_reply({"code": code, "msg": text}, status=400)


class BinanceProtocol(WireProtocol):
    """Speaks as Binance.US does."""

    name = "binance"
    messages_a_second = 5
    socket_paths = ("/stream/ws", "/stream/ws/{n}", "/ws", "/ws/{n}")

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by path."""
        handlers: dict[str, Handler] = {
            "ping": lambda _, __: json_reply({}),
            "time": lambda _, __: json_reply({"serverTime": self.clock.now_ms()}),
            "exchangeInfo": self._exchange_info,
            "klines": self._klines,
            "trades": self._trades,
            "aggTrades": self._grouped_trades,
            "depth": self._depth,
            "ticker/24hr": self._day_tickers,
            "ticker/price": self._prices,
            "ticker/bookTicker": self._book_tickers,
        }
        return {f"/api/v3/{path}": _refusing(handler) for path, handler in handlers.items()}

    # --- limits ---

    def make_limit(self) -> WeightLimit:
        """1,200 weight a minute; who goes on after 429 is banned for two minutes."""
        return WeightLimit(weight=WEIGHT_A_MINUTE, window_s=60, strikes=STRIKES, ban_s=120)

    def weight(self, path: str, query: Query) -> int:
        """Tell what a request costs; tickers of all symbols are dear."""
        tail = path.removeprefix("/api/v3/")
        if tail.startswith("ticker/"):
            if "symbol" in query:
                return 1
            return 40 if tail == "ticker/24hr" else 2
        return WEIGHTS.get(tail, 1)

    def limit_headers(self, verdict: Verdict, limit: WeightLimit) -> dict[str, str]:
        """Tell the used weight."""
        return {"X-MBX-USED-WEIGHT": str(verdict.used), "X-MBX-USED-WEIGHT-1M": str(verdict.used)}

    def refusal(self, verdict: Verdict) -> Reply:
        """Answer 429 or, banned, 418."""
        text = (
            f"Too much request weight used; current limit is {WEIGHT_A_MINUTE} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        if verdict.status == 418:
            until = self.clock.now_ms() + verdict.retry_after_s * 1_000
            text = f"Way too much request weight used; IP banned until {until}."
        return json_reply(
            {"code": -1003, "msg": text},
            status=verdict.status,
            headers={"Retry-After": str(verdict.retry_after_s)},
        )

    # --- REST ---

    def _exchange_info(self, _: Any, query: Query) -> Reply:
        now = self.clock.now_ms()
        only = [self._symbol(query)] if "symbol" in query else self.tape.listed(now)
        limit = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": WEIGHT_A_MINUTE,
        }
        symbols = [self._symbol_info(symbol, now) for symbol in only]
        return json_reply(
            {
                "timezone": "UTC",
                "serverTime": now,
                "rateLimits": [limit],
                "exchangeFilters": [],
                "symbols": symbols,
            }
        )

    def _symbol_info(self, symbol: str, now_ms: int) -> dict[str, Any]:
        base, quote = split_symbol(symbol)
        step = "0.00000001"
        return {
            "symbol": symbol,
            "status": "TRADING" if self.tape.is_trading(symbol, now_ms) else "BREAK",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": step, "maxPrice": "10000000", "tickSize": step},
                {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000000", "stepSize": step},
            ],
            "permissions": ["SPOT"],
        }

    def _klines(self, _: Any, query: Query) -> Reply:
        symbol = self._symbol(query)
        if query.get("interval") != "1m":
            if "interval" not in query:
                raise _RefusedError(
                    -1102,
                    "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.",
                )
            raise _RefusedError(-1120, "Invalid interval.")
        limit = self._limit(query)
        start, end = whole_number(query, "startTime"), whole_number(query, "endTime")
        now = self.clock.now_ms()
        to_ms = now + 1 if end is None else min(end, now) + 1
        if start is None:
            rows = self.tape.last_rows(symbol, None, to_ms, now, limit)
        else:
            rows = self.tape.first_rows(symbol, start, to_ms, now, limit)
        return Reply(body=b"[" + b",".join(_kline_row(row) for row in rows) + b"]")

    def _trades(self, _: Any, query: Query) -> Reply:
        trades = self.tape.recent_trades(self._symbol(query), self.clock.now_ms(), self._limit(query))
        return json_reply(
            [
                {
                    "id": trade.number,
                    "price": decimal(trade.price),
                    "qty": decimal(trade.size),
                    "quoteQty": decimal(round(trade.price * trade.size, 8)),
                    "time": trade.time_ms,
                    "isBuyerMaker": not trade.is_buy,
                    "isBestMatch": True,
                }
                for trade in trades
            ]
        )

    def _grouped_trades(self, _: Any, query: Query) -> Reply:
        trades = self.tape.recent_trades(self._symbol(query), self.clock.now_ms(), self._limit(query))
        return json_reply(
            [
                {
                    "a": trade.number,
                    "p": decimal(trade.price),
                    "q": decimal(trade.size),
                    "f": trade.number,
                    "l": trade.number,
                    "T": trade.time_ms,
                    "m": not trade.is_buy,
                    "M": True,
                }
                for trade in trades
            ]
        )

    def _depth(self, _: Any, query: Query) -> Reply:
        now = self.clock.now_ms()
        found = self.tape.ticker(self._symbol(query), now)
        bids = [[decimal(found.bid), decimal(found.size)]] if found else []
        asks = [[decimal(found.ask), decimal(found.size)]] if found else []
        return json_reply({"lastUpdateId": now, "bids": bids, "asks": asks})

    def _day_tickers(self, _: Any, query: Query) -> Reply:
        return self._each(query, lambda ticker: {"symbol": ticker.symbol, **_day_ticker(ticker)})

    def _prices(self, _: Any, query: Query) -> Reply:
        return self._each(query, lambda ticker: {"symbol": ticker.symbol, "price": decimal(ticker.last)})

    def _book_tickers(self, _: Any, query: Query) -> Reply:
        return self._each(
            query,
            lambda ticker: {
                "symbol": ticker.symbol,
                "bidPrice": decimal(ticker.bid),
                "bidQty": decimal(ticker.size),
                "askPrice": decimal(ticker.ask),
                "askQty": decimal(ticker.size),
            },
        )

    def _each(self, query: Query, write: Any) -> Reply:
        now = self.clock.now_ms()
        if "symbol" in query:
            ticker = self.tape.ticker(self._symbol(query), now)
            return json_reply(write(ticker) if ticker else {})
        found = [self.tape.ticker(symbol, now) for symbol in self.tape.listed(now)]
        return json_reply([write(ticker) for ticker in found if ticker])

    def _symbol(self, query: Query) -> str:
        if "symbol" not in query:
            raise _RefusedError(
                -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            )
        if not self.tape.is_listed(query["symbol"], self.clock.now_ms()):
            raise _RefusedError(-1121, "Invalid symbol.")
        return query["symbol"]

    def _limit(self, query: Query) -> int:
        limit = whole_number(query, "limit", DEFAULT_ROWS)
        if limit is None or limit < 1:
            raise _RefusedError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(limit, MOST_ROWS)

    # --- websocket ---

    def hear(self, said: Conversation, message: str) -> None:
        """Obey SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS."""
        try:
            asked = orjson.loads(message)
            method, number = asked["method"], asked.get("id")
            names = asked.get("params", [])
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            said.replies.append('{"error":{"code":3,"msg":"Invalid JSON"}}')
            return
        if method == "LIST_SUBSCRIPTIONS":
            held = [name for topics in said.topics.by_kind.values() for name in topics]
            said.replies.append(_answer(number, held))
            return
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE") or not isinstance(names, list):
            said.replies.append(_refused(number, 2, "Invalid request: unknown method or parameters"))
            return
        for name in names:
            topic = self._topic(str(name))
            if topic is None:
                continue  # the real one accepts any stream name and never sends anything
            if method == "SUBSCRIBE":
                said.topics.add(topic)
            else:
                said.topics.remove(topic)
        if said.topics.count() > MOST_STREAMS:
            said.close_code = WSCloseCode.POLICY_VIOLATION
            return
        said.replies.append(_answer(number, None))

    def _topic(self, name: str) -> Topic | None:
        market, _, stream = name.partition("@")
        kind, symbol = KINDS.get(stream), market.upper()
        if kind is None or symbol not in self.tape.market.symbols:
            return None
        return Topic(kind, name, symbol)

    def kline(self, topic: Topic, row: Row, *, closed: bool, event_ms: int) -> str:
        """Write a kline event; `x` says whether the minute is closed."""
        minute, opened, high, low, close, volume = row
        first = minute // MINUTE_MS * 13
        return (
            f'{{"e":"kline","E":{event_ms},"s":"{topic.symbol}","k":{{"t":{minute},"T":{minute + 59_999},'
            f'"s":"{topic.symbol}","i":"1m","f":{first},"L":{first + 11},"o":"{decimal(opened)}",'
            f'"c":"{decimal(close)}","h":"{decimal(high)}","l":"{decimal(low)}","v":"{decimal(volume)}",'
            f'"n":{12 if volume else 0},"x":{"true" if closed else "false"},"q":"{volume * close:.8f}",'
            f'"V":"{volume / 2:.8f}","Q":"{volume * close / 2:.8f}","B":"0"}}}}'
        )

    def trades(self, topic: Topic, trades: list[Trade]) -> list[str]:
        """Write one event per trade."""
        event, key = ("aggTrade", "a") if topic.name.endswith("@aggTrade") else ("trade", "t")
        return [
            f'{{"e":"{event}","E":{t.time_ms},"s":"{topic.symbol}","{key}":{t.number},"p":"{decimal(t.price)}",'
            f'"q":"{decimal(t.size)}","T":{t.time_ms},"m":{"false" if t.is_buy else "true"},"M":true}}'
            for t in trades
        ]

    def ticker(self, topic: Topic, ticker: Ticker) -> str:
        """Write a miniTicker, ticker or bookTicker event."""
        bid, ask, size = decimal(ticker.bid), decimal(ticker.ask), decimal(ticker.size)
        if topic.kind is Kind.BOOK:
            return (
                f'{{"u":{ticker.time_ms},"s":"{ticker.symbol}","b":"{bid}","B":"{size}",'
                f'"a":"{ask}","A":"{size}"}}'
            )
        mini = topic.name.endswith("@miniTicker")
        event = "24hrMiniTicker" if mini else "24hrTicker"
        start = f'{{"e":"{event}","E":{ticker.time_ms},"s":"{ticker.symbol}",'
        middle = (
            f'"c":"{decimal(ticker.last)}","o":"{decimal(ticker.open)}","h":"{decimal(ticker.high)}",'
            f'"l":"{decimal(ticker.low)}","v":"{ticker.volume:.8f}","q":"{ticker.quote_volume:.8f}"'
        )
        if mini:
            return start + middle + "}"
        change = ticker.last - ticker.open
        return (
            start + middle + f',"p":"{change:.8f}","P":"{change / ticker.open * 100:.3f}",'
            f'"w":"{ticker.last:.8f}","Q":"{size}","b":"{bid}","B":"{size}","a":"{ask}","A":"{size}",'
            f'"O":{ticker.time_ms - 86_400_000},"C":{ticker.time_ms},"F":0,"L":0,"n":0}}'
        )


def _refusing(handler: Handler) -> Handler:
    def answer(parts: Any, query: Query) -> Reply:
        try:
            return handler(parts, query)
        except _RefusedError as refused:
            return refused.reply
        except ValueError as error:
            return json_reply(
                {"code": -1100, "msg": f"Illegal characters found in parameter '{error}'."}, status=400
            )

    return answer


def _kline_row(row: Row) -> bytes:
    minute, opened, high, low, close, volume = row
    return (
        f'[{minute},"{decimal(opened)}","{decimal(high)}","{decimal(low)}","{decimal(close)}",'
        f'"{decimal(volume)}",{minute + 59_999},"{volume * close:.8f}",{12 if volume else 0},'
        f'"{volume / 2:.8f}","{volume * close / 2:.8f}","0"]'
    ).encode()


def _day_ticker(ticker: Ticker) -> dict[str, Any]:
    change = ticker.last - ticker.open
    return {
        "priceChange": f"{change:.8f}",
        "priceChangePercent": f"{change / ticker.open * 100:.3f}",
        "lastPrice": decimal(ticker.last),
        "bidPrice": decimal(ticker.bid),
        "bidQty": decimal(ticker.size),
        "askPrice": decimal(ticker.ask),
        "askQty": decimal(ticker.size),
        "openPrice": decimal(ticker.open),
        "highPrice": decimal(ticker.high),
        "lowPrice": decimal(ticker.low),
        "volume": f"{ticker.volume:.8f}",
        "quoteVolume": f"{ticker.quote_volume:.8f}",
        "openTime": ticker.time_ms - 86_400_000,
        "closeTime": ticker.time_ms,
    }


def _answer(number: Any, result: Any) -> str:
    return orjson.dumps({"result": result, "id": number}).decode()


def _refused(number: Any, code: int, text: str) -> str:
    return orjson.dumps({"error": {"code": code, "msg": text}, "id": number}).decode()

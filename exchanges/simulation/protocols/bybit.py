"""The public market data of Bybit v5, spot: REST under /v5/market, websocket /v5/public/spot."""

from __future__ import annotations

from typing import Any

import orjson

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

REQUESTS, WINDOW_S = 600, 5.0
DEFAULT_ROWS, MOST_ROWS = 200, 1_000
#: A spot subscription names at most so many topics; a connection may have any number of them.
MOST_ARGS = 10
KINDS = {
    "kline.1": Kind.KLINE,
    "publicTrade": Kind.TRADE,
    "tickers": Kind.TICKER,
    "orderbook.1": Kind.BOOK,  # the top, at whatever depth
    "orderbook.50": Kind.BOOK,
    "orderbook.200": Kind.BOOK,
}
BAD_PARAMETER = 10_001
TOO_MANY = 10_006


class _RefusedError(Exception):
    pass


class BybitProtocol(WireProtocol):
    """Speaks as Bybit's spot market does."""

    name = "bybit"
    socket_paths = ("/v5/public/spot",)

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by path."""
        handlers: dict[str, Handler] = {
            "time": self._time,
            "instruments-info": self._instruments,
            "kline": self._klines,
            "tickers": self._tickers,
            "recent-trade": self._recent,
            "orderbook": self._book,
        }
        return {f"/v5/market/{path}": self._refusing(handler) for path, handler in handlers.items()}

    # --- limits ---

    def make_limit(self) -> WeightLimit:
        """600 requests in 5 seconds."""
        return WeightLimit(weight=REQUESTS, window_s=WINDOW_S)

    def weight(self, path: str, query: Query) -> int:
        """Every request counts as one."""
        return 1

    def limit_headers(self, verdict: Verdict, limit: WeightLimit) -> dict[str, str]:
        """Tell what is left."""
        reset = self.clock.now_ms() + verdict.retry_after_s * 1_000
        return {
            "X-Bapi-Limit": str(limit.weight),
            "X-Bapi-Limit-Status": str(max(0, limit.weight - verdict.used)),
            "X-Bapi-Limit-Reset-Timestamp": str(reset),
        }

    def refusal(self, verdict: Verdict) -> Reply:
        """Answer 403, which is Bybit's way to say too many."""
        body = self._envelope({}, code=TOO_MANY, text="access too frequent")
        return json_reply(body, status=403, headers={"Retry-After": str(verdict.retry_after_s)})

    # --- REST ---

    def _envelope(self, result: Any, *, code: int = 0, text: str = "OK") -> dict[str, Any]:
        now = self.clock.now_ms()
        return {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": now}

    # Mistakes in a request are answered with status 200 and a code.
    def _refusing(self, handler: Handler) -> Handler:
        def answer(parts: Any, query: Query) -> Reply:
            try:
                return handler(parts, query)
            except _RefusedError as refused:
                text = str(refused)
            except ValueError as error:
                text = f"Request parameter error: {error}"
            return json_reply(self._envelope({}, code=BAD_PARAMETER, text=text))

        return answer

    def _time(self, _: Any, __: Query) -> Reply:
        now = self.clock.now_ms()
        return json_reply(self._envelope({"timeSecond": str(now // 1_000), "timeNano": str(now * 1_000_000)}))

    def _instruments(self, _: Any, query: Query) -> Reply:
        now = self.clock.now_ms()
        names: list[str] = []
        if query.get("category") == "spot":
            names = [self._symbol(query)] if "symbol" in query else self.tape.listed(now)
        return self._list(query, [self._instrument(symbol, now) for symbol in names])

    def _instrument(self, symbol: str, now_ms: int) -> dict[str, Any]:
        base, quote = split_symbol(symbol)
        step = "0.00000001"
        return {
            "symbol": symbol,
            "baseCoin": base,
            "quoteCoin": quote,
            "innovation": "0",
            "status": "Trading" if self.tape.is_trading(symbol, now_ms) else "Closed",
            "marginTrading": "none",
            "lotSizeFilter": {
                "basePrecision": step,
                "quotePrecision": step,
                "minOrderQty": step,
                "maxOrderQty": "1000000000",
            },
            "priceFilter": {"tickSize": step},
        }

    def _klines(self, _: Any, query: Query) -> Reply:
        symbol = self._spot_symbol(query)
        if query.get("interval") != "1":
            raise _RefusedError("Invalid period!")
        limit = whole_number(query, "limit", DEFAULT_ROWS)
        if limit is None or limit < 1:
            raise _RefusedError("Invalid limit")
        limit = min(limit, MOST_ROWS)
        start, end = whole_number(query, "start"), whole_number(query, "end")
        now = self.clock.now_ms()
        to_ms = now + 1 if end is None else min(end, now) + 1
        if start is not None and end is None:
            rows = self.tape.first_rows(symbol, start, to_ms, now, limit)
        else:
            rows = self.tape.last_rows(symbol, start, to_ms, now, limit)
        rows.reverse()
        listed = [
            [str(row[0]), *(decimal(value) for value in row[1:]), f"{row[4] * row[5]:.8f}"] for row in rows
        ]
        return json_reply(self._envelope({"category": "spot", "symbol": symbol, "list": listed}))

    def _tickers(self, _: Any, query: Query) -> Reply:
        now = self.clock.now_ms()
        names = [self._spot_symbol(query)] if "symbol" in query else self.tape.listed(now)
        if query.get("category") != "spot":
            names = []
        found = [self.tape.ticker(symbol, now) for symbol in names]
        return self._list(query, [{**_day(t), **_quote(t)} for t in found if t])

    def _recent(self, _: Any, query: Query) -> Reply:
        symbol = self._spot_symbol(query)
        limit = min(whole_number(query, "limit", 60) or 60, 60)
        trades = self.tape.recent_trades(symbol, self.clock.now_ms(), limit)
        return self._list(
            query,
            [
                {
                    "execId": str(trade.number),
                    "symbol": symbol,
                    "price": decimal(trade.price),
                    "size": decimal(trade.size),
                    "side": "Buy" if trade.is_buy else "Sell",
                    "time": str(trade.time_ms),
                    "isBlockTrade": False,
                }
                for trade in reversed(trades)
            ],
        )

    def _book(self, _: Any, query: Query) -> Reply:
        now = self.clock.now_ms()
        symbol = self._spot_symbol(query)
        ticker = self.tape.ticker(symbol, now)
        return json_reply(self._envelope(_book_of(ticker) if ticker else {"s": symbol, "b": [], "a": []}))

    def _list(self, query: Query, items: list[Any]) -> Reply:
        return json_reply(self._envelope({"category": query.get("category", ""), "list": items}))

    def _spot_symbol(self, query: Query) -> str:
        if query.get("category", "spot") != "spot":
            raise _RefusedError("category invalid; only spot is traded here")
        return self._symbol(query)

    def _symbol(self, query: Query) -> str:
        symbol = query.get("symbol", "")
        if not self.tape.is_listed(symbol, self.clock.now_ms()):
            raise _RefusedError("Not supported symbols")
        return symbol

    # --- websocket ---

    def hear(self, said: Conversation, message: str) -> None:
        """Obey ping, subscribe and unsubscribe."""
        try:
            asked = orjson.loads(message)
            operation, args = asked["op"], asked.get("args", [])
            request = asked.get("req_id")
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            said.replies.append(_answer(False, "Invalid request", "", None))
            return
        if operation == "ping":
            said.replies.append(_answer(True, "pong", "ping", request))
            return
        topics = [self._topic(str(name)) for name in args] if isinstance(args, list) else [None]
        problem = ""
        if operation not in ("subscribe", "unsubscribe"):
            problem = f"Invalid op:{operation}"
        elif len(topics) > MOST_ARGS:
            problem = f"args size >{MOST_ARGS}"
        elif None in topics:
            problem = f"error:handler not found,topic:{args}"
        change = said.topics.add if operation == "subscribe" else said.topics.remove
        for topic in topics:
            if topic is not None and not problem:
                change(topic)
        said.replies.append(_answer(not problem, problem, str(operation), request))

    def _topic(self, name: str) -> Topic | None:
        stream, _, symbol = name.rpartition(".")
        kind = KINDS.get(stream)
        if kind is None or symbol not in self.tape.market.symbols:
            return None
        return Topic(kind, name, symbol)

    def kline(self, topic: Topic, row: Row, *, closed: bool, event_ms: int) -> str:
        """Write a kline message; `confirm` says whether the minute is closed."""
        minute, opened, high, low, close, volume = row
        return (
            f'{{"topic":"{topic.name}","data":[{{"start":{minute},"end":{minute + MINUTE_MS - 1},'
            f'"interval":"1","open":"{decimal(opened)}","close":"{decimal(close)}","high":"{decimal(high)}",'
            f'"low":"{decimal(low)}","volume":"{decimal(volume)}","turnover":"{volume * close:.8f}",'
            f'"confirm":{"true" if closed else "false"},"timestamp":{event_ms}}}],"ts":{event_ms},'
            f'"type":"snapshot"}}'
        )

    def trades(self, topic: Topic, trades: list[Trade]) -> list[str]:
        """Write all trades into one message."""
        items = ",".join(
            f'{{"T":{t.time_ms},"s":"{topic.symbol}","S":"{"Buy" if t.is_buy else "Sell"}",'
            f'"v":"{decimal(t.size)}","p":"{decimal(t.price)}","L":"ZeroTick","i":"{t.number}","BT":false}}'
            for t in trades
        )
        return [f'{{"topic":"{topic.name}","type":"snapshot","ts":{trades[-1].time_ms},"data":[{items}]}}']

    def ticker(self, topic: Topic, ticker: Ticker) -> str:
        """Write a ticker or the top of the book, always as a snapshot."""
        data = _book_of(ticker) if topic.kind is Kind.BOOK else _day(ticker)
        return orjson.dumps(
            {
                "topic": topic.name,
                "ts": ticker.time_ms,
                "type": "snapshot",
                "cs": ticker.time_ms,
                "data": data,
            }
        ).decode()


def _day(ticker: Ticker) -> dict[str, str]:
    return {
        "symbol": ticker.symbol,
        "lastPrice": decimal(ticker.last),
        "highPrice24h": decimal(ticker.high),
        "lowPrice24h": decimal(ticker.low),
        "prevPrice24h": decimal(ticker.open),
        "volume24h": f"{ticker.volume:.8f}",
        "turnover24h": f"{ticker.quote_volume:.8f}",
        "price24hPcnt": f"{(ticker.last - ticker.open) / ticker.open:.6f}",
        "usdIndexPrice": decimal(ticker.last),
    }


def _quote(ticker: Ticker) -> dict[str, str]:
    return {
        "bid1Price": decimal(ticker.bid),
        "bid1Size": decimal(ticker.size),
        "ask1Price": decimal(ticker.ask),
        "ask1Size": decimal(ticker.size),
    }


def _book_of(ticker: Ticker) -> dict[str, Any]:
    return {
        "s": ticker.symbol,
        "b": [[decimal(ticker.bid), decimal(ticker.size)]],
        "a": [[decimal(ticker.ask), decimal(ticker.size)]],
        "ts": ticker.time_ms,
        "u": ticker.time_ms,
        "seq": ticker.time_ms,
    }


def _answer(success: bool, text: str, operation: str, request: Any) -> str:
    body = {"success": success, "ret_msg": text, "conn_id": "simulated", "op": operation}
    if request is not None:
        body["req_id"] = str(request)
    return orjson.dumps(body).decode()

"""The public market data of Coinbase Advanced: REST /v2 and /api/v3/brokerage/market, websocket /cb.

As the real one: no candle stream of minutes; candles over REST leave out minutes without a trade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from exchanges.simulation.limits import Verdict, WeightLimit
from exchanges.simulation.numbers import decimal, iso_time
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
from exchanges.simulation.symbols import dashed, split_symbol
from exchanges.simulation.tape import Ticker, Trade

REQUESTS_A_SECOND = 10
MOST_CANDLES = 350
MOST_TRADES = 1_000
KINDS = {
    "market_trades": Kind.TRADE,
    "ticker": Kind.TICKER,
    "ticker_batch": Kind.TICKER,
    "level2": Kind.BOOK,
    "heartbeats": Kind.BEAT,
}
MARKET = "/api/v3/brokerage/market"


class _RefusedError(Exception):
    def __init__(self, status: int, error: str, details: str) -> None:
        super().__init__(details)
        body = {"error": error, "error_details": details, "message": details}
        self.reply = json_reply(body, status=status)


class CoinbaseProtocol(WireProtocol):
    """Speaks as Coinbase Advanced does."""

    name = "coinbase"
    messages_a_second = 8
    socket_paths = ("/cb",)

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by path."""
        handlers: dict[str, Handler] = {
            "/v2/time": self._time,
            "/v2/currencies": self._currencies,
            "/v2/currencies/crypto": self._crypto_currencies,
            "/v2/exchange-rates": lambda _, __: json_reply({"data": {"currency": "USD", "rates": {}}}),
            "/api/v3/brokerage/time": self._brokerage_time,
            f"{MARKET}/products": self._products,
            f"{MARKET}/products/{{product}}": self._product,
            f"{MARKET}/products/{{product}}/candles": self._candles,
            f"{MARKET}/products/{{product}}/ticker": self._ticker,
            f"{MARKET}/product_book": self._book,
        }
        return {path: _refusing(handler) for path, handler in handlers.items()}

    # --- limits ---

    def make_limit(self) -> WeightLimit:
        """Ten requests a second."""
        return WeightLimit(weight=REQUESTS_A_SECOND, window_s=1.0)

    def weight(self, path: str, query: Query) -> int:
        """Every request counts as one."""
        return 1

    def limit_headers(self, verdict: Verdict, limit: WeightLimit) -> dict[str, str]:
        """Tell what is left."""
        left = max(0, limit.weight - verdict.used)
        return {"X-RateLimit-Limit": str(limit.weight), "X-RateLimit-Remaining": str(left)}

    def refusal(self, verdict: Verdict) -> Reply:
        """Answer 429."""
        refused = _RefusedError(429, "rate_limit_exceeded", "Too many requests").reply
        return Reply(
            body=refused.body,
            status=verdict.status,
            headers={"Retry-After": str(verdict.retry_after_s)},
        )

    # --- REST ---

    def _time(self, _: Any, __: Query) -> Reply:
        now = self.clock.now_ms()
        return json_reply({"data": {"iso": iso_time(now), "epoch": now // 1_000}})

    def _brokerage_time(self, _: Any, __: Query) -> Reply:
        now = self.clock.now_ms()
        return json_reply({"iso": iso_time(now), "epochSeconds": str(now // 1_000), "epochMillis": str(now)})

    def _coins(self) -> list[tuple[str, str]]:
        return [split_symbol(symbol) for symbol in self.tape.listed(self.clock.now_ms())]

    def _currencies(self, _: Any, __: Query) -> Reply:
        quotes = dict.fromkeys(quote for _, quote in self._coins())
        fiat = [{"id": quote, "name": quote, "min_size": "0.01"} for quote in quotes if len(quote) == 3]
        return json_reply({"data": fiat})

    def _crypto_currencies(self, _: Any, __: Query) -> Reply:
        coins = dict.fromkeys(base for base, _ in self._coins())
        return json_reply(
            {
                "data": [
                    {"code": coin, "name": coin, "type": "crypto", "exponent": 8, "sort_index": place}
                    for place, coin in enumerate(coins)
                ]
            }
        )

    def _products(self, _: Any, query: Query) -> Reply:
        now = self.clock.now_ms()
        names = self.tape.listed(now) if query.get("product_type", "SPOT") == "SPOT" else []
        products = [self._product_info(symbol, now) for symbol in names]
        return json_reply({"products": products, "num_products": len(products)})

    def _product(self, parts: Mapping[str, str], _: Query) -> Reply:
        return json_reply(self._product_info(self._symbol(parts["product"]), self.clock.now_ms()))

    def _product_info(self, symbol: str, now_ms: int) -> dict[str, Any]:
        base, quote = split_symbol(symbol)
        trading = self.tape.is_trading(symbol, now_ms)
        step = "0.00000001"
        return {
            "product_id": f"{base}-{quote}",
            "base_currency_id": base,
            "quote_currency_id": quote,
            "base_name": base,
            "quote_name": quote,
            "base_increment": step,
            "quote_increment": step,
            "price_increment": step,
            "base_min_size": step,
            "base_max_size": "1000000000",
            "quote_min_size": "0.01",
            "quote_max_size": "100000000",
            "status": "online" if trading else "delisted",
            "trading_disabled": not trading,
            "is_disabled": not trading,
            "view_only": False,
            "product_type": "SPOT",
        }

    def _candles(self, parts: Mapping[str, str], query: Query) -> Reply:
        symbol = self._symbol(parts["product"])
        if query.get("granularity") != "ONE_MINUTE":
            raise _RefusedError(400, "INVALID_ARGUMENT", "granularity is not supported; use ONE_MINUTE")
        start, end = whole_number(query, "start"), whole_number(query, "end")
        if start is None or end is None:
            raise _RefusedError(400, "INVALID_ARGUMENT", "start and end are required")
        if (end - start) // 60 > MOST_CANDLES:
            details = f"number of candles requested should be less than {MOST_CANDLES}"
            raise _RefusedError(400, "INVALID_ARGUMENT", details)
        now = self.clock.now_ms()
        rows = self.tape.visible(symbol, start * 1_000, min(end * 1_000, now) + 1, now)
        candles = [
            {
                "start": str(minute // 1_000),
                "low": decimal(low),
                "high": decimal(high),
                "open": decimal(opened),
                "close": decimal(close),
                "volume": decimal(volume),
            }
            for minute, opened, high, low, close, volume in reversed(rows)
            if volume > 0
        ]
        return json_reply({"candles": candles})

    def _ticker(self, parts: Mapping[str, str], query: Query) -> Reply:
        symbol = self._symbol(parts["product"])
        now = self.clock.now_ms()
        limit = min(whole_number(query, "limit", 100) or 100, MOST_TRADES)
        trades = self.tape.recent_trades(symbol, now, limit)
        ticker = self.tape.ticker(symbol, now)
        return json_reply(
            {
                "trades": [_trade(dashed(symbol), trade) for trade in reversed(trades)],
                "best_bid": decimal(ticker.bid) if ticker else "",
                "best_ask": decimal(ticker.ask) if ticker else "",
            }
        )

    def _book(self, _: Any, query: Query) -> Reply:
        symbol = self._symbol(query.get("product_id", ""))
        now = self.clock.now_ms()
        ticker = self.tape.ticker(symbol, now)
        bids = [{"price": decimal(ticker.bid), "size": decimal(ticker.size)}] if ticker else []
        asks = [{"price": decimal(ticker.ask), "size": decimal(ticker.size)}] if ticker else []
        book = {"product_id": dashed(symbol), "bids": bids, "asks": asks, "time": iso_time(now)}
        return json_reply({"pricebook": book})

    def _symbol(self, product: str) -> str:
        symbol = product.replace("-", "")
        if "-" not in product or not self.tape.is_listed(symbol, self.clock.now_ms()):
            raise _RefusedError(404, "NOT_FOUND", "valid product_id is required")
        return symbol

    # --- websocket ---

    def hear(self, said: Conversation, message: str) -> None:
        """Obey subscribe and unsubscribe; trades start with a snapshot of the recent ones."""
        try:
            asked = orjson.loads(message)
            wanted, channel = asked["type"], asked["channel"]
            products = asked.get("product_ids", [])
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            said.replies.append(_error("failed to parse the message"))
            return
        kind = KINDS.get(channel)
        if wanted not in ("subscribe", "unsubscribe") or kind is None or not isinstance(products, list):
            said.replies.append(_error(f"{wanted} of channel {channel} is not possible"))
            return
        names = [""] if kind is Kind.BEAT else [str(product) for product in products]
        symbols = [name.replace("-", "") for name in names]
        unknown = [
            name
            for name, symbol in zip(names, symbols, strict=True)
            if kind is not Kind.BEAT and symbol not in self.tape.market.symbols
        ]
        if unknown:
            said.replies.append(_error(f"{', '.join(unknown)} is not a valid product"))
            return
        topics = [
            Topic(kind, f"{channel}:{name}", symbol) for name, symbol in zip(names, symbols, strict=True)
        ]
        for topic in topics:
            (said.topics.add if wanted == "subscribe" else said.topics.remove)(topic)
        said.replies.append(self._subscribed(said))
        if kind is Kind.TRADE and wanted == "subscribe":
            said.replies += [text for topic in topics for text in self._snapshot(topic)]

    def _subscribed(self, said: Conversation) -> str:
        held: dict[str, list[str]] = {}
        for topics in said.topics.by_kind.values():
            for name in topics:
                channel, _, product = name.partition(":")
                held.setdefault(channel, []).append(product or "heartbeats")
        return self._message("subscriptions", self.clock.now_ms(), {"subscriptions": held})

    def _snapshot(self, topic: Topic) -> list[str]:
        now = self.clock.now_ms()
        recent = self.tape.recent_trades(topic.symbol, now, 50)
        if not recent:
            return []
        return [self._trades_message(topic, recent, now, "snapshot")]

    def trades(self, topic: Topic, trades: list[Trade]) -> list[str]:
        """Write all trades into one message, newest first."""
        return [self._trades_message(topic, trades, trades[-1].time_ms, "update")]

    def _trades_message(self, topic: Topic, trades: list[Trade], now_ms: int, kind: str) -> str:
        product = topic.name.partition(":")[2]
        items = [_trade(product, trade) for trade in reversed(trades)]
        return self._message("market_trades", now_ms, {"type": kind, "trades": items})

    def ticker(self, topic: Topic, ticker: Ticker) -> str:
        """Write a ticker, or the top of the book as a snapshot."""
        channel, _, product = topic.name.partition(":")
        if topic.kind is Kind.BOOK:
            return self._message("l2_data", ticker.time_ms, _book_event(product, ticker))
        day = {
            "type": "ticker",
            "product_id": product,
            "price": decimal(ticker.last),
            "volume_24_h": f"{ticker.volume:.8f}",
            "low_24_h": decimal(ticker.low),
            "high_24_h": decimal(ticker.high),
            "price_percent_chg_24_h": f"{(ticker.last - ticker.open) / ticker.open * 100:.8f}",
            "best_bid": decimal(ticker.bid),
            "best_bid_quantity": decimal(ticker.size),
            "best_ask": decimal(ticker.ask),
            "best_ask_quantity": decimal(ticker.size),
        }
        return self._message(channel, ticker.time_ms, {"type": "update", "tickers": [day]})

    def beat(self, now_ms: int, count: int) -> str:
        """Write a heartbeat with the virtual time."""
        return self._message(
            "heartbeats", now_ms, {"current_time": iso_time(now_ms), "heartbeat_counter": count}
        )

    # Messages of one connection are numbered; the number goes in when it is known whom they go to.
    def prepared(self, text: str, said: Conversation) -> str:
        """Give a message its number within the connection."""
        if not text.startswith('{"channel"'):
            return text
        number, said.sequence = said.sequence, said.sequence + 1
        return f'{{"sequence_num":{number},{text[1:]}'

    def _message(self, channel: str, now_ms: int, event: dict[str, Any]) -> str:
        return orjson.dumps(
            {"channel": channel, "client_id": "", "timestamp": iso_time(now_ms), "events": [event]}
        ).decode()


def _refusing(handler: Handler) -> Handler:
    def answer(parts: Any, query: Query) -> Reply:
        try:
            return handler(parts, query)
        except _RefusedError as refused:
            return refused.reply
        except ValueError as error:
            return _RefusedError(400, "INVALID_ARGUMENT", f"{error} is malformed").reply

    return answer


def _trade(product: str, trade: Trade) -> dict[str, str]:
    return {
        "trade_id": str(trade.number),
        "product_id": product,
        "price": decimal(trade.price),
        "size": decimal(trade.size),
        "side": "BUY" if trade.is_buy else "SELL",
        "time": iso_time(trade.time_ms),
    }


def _book_event(product: str, ticker: Ticker) -> dict[str, Any]:
    levels = (("bid", ticker.bid), ("offer", ticker.ask))
    return {
        "type": "snapshot",
        "product_id": product,
        "updates": [
            {
                "side": side,
                "event_time": iso_time(ticker.time_ms),
                "price_level": decimal(price),
                "new_quantity": decimal(ticker.size),
            }
            for side, price in levels
        ],
    }


def _error(text: str) -> str:
    return orjson.dumps({"type": "error", "message": text}).decode()

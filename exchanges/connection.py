"""An exchange as the feed sees it: ccxt's classes, guarded, and what a plug-in adds to them.

ccxt's receive loop dies silently when a frame makes it raise, its candle caches drop wake-ups and grow for
ever, and its history calls take a truncated answer for an empty one. So every raw frame passes here first:
candles and trades are read by the plug-in and never reach ccxt; the rest goes to ccxt under a guard that
turns an exception into a reconnect. Every answer over REST is checked for its shape before ccxt reads it.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import ccxt
import ccxt.pro
import orjson
from aiohttp import WSMsgType

from domain.market.candle import Candle, FaultKind

#: Every exchange that has a plug-in: the name of its file in this folder.
EXCHANGES = ("binanceus", "bybit", "coinbase")
#: Between two requests to a simulated exchange.
SIMULATED_RATE_LIMIT_MS = 1

Subscribe = Callable[[], Awaitable[Any]]


class Update(NamedTuple):
    """A candle in a frame: the exchange's id of the market, and its clock where the frame tells it."""

    market_id: str
    candle: Candle
    closed: bool
    exchange_ms: int | None


class Tick(NamedTuple):
    """The price of a trade in a frame."""

    market_id: str
    price: float
    exchange_ms: int


Heard = Update | Tick


class FrameFault(ValueError):  # noqa: N818 - what happened to the frame, not to the program
    """A frame that cannot be used; the stream goes on."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind


class BadAnswerError(ccxt.NetworkError):  # type: ignore[misc]
    """An answer over REST that is not what was asked for; ask again."""


class ExchangePlugin(Protocol):
    """What one file of this folder says about its exchange, in a constant `PLUGIN`.

    Attributes
    ----------
    name
        As in `EXCHANGES`, and the class in ccxt.
    page_rows
        Candles the history gives at most for one request.
    rate_limit_ms
        Milliseconds between two requests of weight one.
    chunk
        Symbols in one subscription message at most.
    has_candle_stream
        The stream flags closed minutes. Otherwise the history alone gives candles.
    omits_quiet
        The history leaves out minutes without trades.
    """

    name: str
    page_rows: int
    rate_limit_ms: int
    chunk: int
    has_candle_stream: bool
    omits_quiet: bool

    def options(self) -> dict[str, Any]:
        """Give ccxt's options for public spot data."""
        ...

    def point_at(self, exchange: Any, base_url: str) -> None:
        """Replace the exchange's addresses by those of a simulated one."""
        ...

    def read(self, message: Mapping[str, Any]) -> Sequence[Heard] | None:
        """Read the candles or trades of a frame; None if it is about something else.

        Raises
        ------
        FrameFault
            If it claims to hold some, and does not.
        """
        ...

    def subscriptions(self, exchange: Any, pairs: Sequence[str], *, fast: bool) -> list[Subscribe]:
        """Give the subscriptions, each a call that ends when the connection does.

        `fast` asks for no more than what moves a simulated exchange at full speed.
        """
        ...

    def is_good_answer(self, url: str, answer: Any) -> bool:
        """Tell whether a parsed answer has the shape that its address promises."""
        ...


class Listener(Protocol):
    """Hears every frame of a connection before ccxt does."""

    def on_data(self, data: str | bytes) -> bool:
        """Take a text or binary frame; True if ccxt need not see it."""
        ...

    def on_pong(self) -> None:
        """Learn that a ping was answered."""
        ...


def load_plugin(name: str) -> ExchangePlugin:
    """Find an exchange's plug-in by its name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in EXCHANGES:
        raise ValueError(f"exchange {name!r} is not known; there are {', '.join(EXCHANGES)}")
    return cast(ExchangePlugin, importlib.import_module(f"exchanges.{name}").PLUGIN)


class _Guard:
    """Stands between ccxt's base class and one exchange's class, see the module."""

    plugin: ExchangePlugin
    listener: Listener

    def client(self, url: str) -> Any:
        client = super().client(url)  # type: ignore[misc]
        if not hasattr(client, "guarded"):
            client.guarded = True
            client.dropped = False
            inner = client.handle_message
            client.handle_message = lambda message: _heard(self.listener, client, inner, message)
        return client

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        try:
            answer = await super().fetch(url, method, headers, body)  # type: ignore[misc]
        except (ccxt.DDoSProtection, ccxt.RateLimitExceeded) as error:
            # Raised in the same breath as the headers were kept, so they belong to this answer.
            error.retry_after_s = _retry_after_s(self.last_response_headers)  # type: ignore[attr-defined]
            raise
        if not self.plugin.is_good_answer(url, answer):
            raise BadAnswerError(f"{self.plugin.name} answered {url} with {_short(answer)}")
        return answer


def _heard(listener: Listener, client: Any, inner: Callable[[Any], None], message: Any) -> None:
    try:
        if client.dropped:
            # Connected after the feed had given it up: nobody would ever close it.
            client.on_error(ccxt.NetworkError("late connection"))
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            if not listener.on_data(message.data):
                inner(message)
        else:
            if message.type == WSMsgType.PONG:
                listener.on_pong()
            inner(message)
    except Exception as error:  # noqa: BLE001 - whatever ccxt makes of a frame, the answer is to connect again
        client.on_error(ccxt.NetworkError(f"a frame could not be handled: {error!r}"))


def make_exchange(
    plugin: ExchangePlugin,
    *,
    listener: Listener,
    base_url: str | None,
    request_timeout_s: float,
    keep_alive_s: float,
) -> Any:
    """Make ccxt's exchange with the guard in it; it connects on first use, inside a running loop."""
    guarded = type(f"Guarded{plugin.name}", (_Guard, getattr(ccxt.pro, plugin.name)), {})
    options = plugin.options()
    # Candles and trades bypass ccxt's caches; whatever still gets there stays small.
    options |= {"OHLCVLimit": 5, "tradesLimit": 100, "maxRetriesOnFailure": 0}
    options["ws"] = {**options.get("ws", {}), "keepAlive": round(keep_alive_s * 1000)}
    exchange = guarded(
        {
            "enableRateLimit": True,
            "rateLimit": plugin.rate_limit_ms if base_url is None else SIMULATED_RATE_LIMIT_MS,
            "timeout": round(request_timeout_s * 1000),
            "options": options,
        }
    )
    exchange.plugin = plugin
    exchange.listener = listener
    exchange.enableLastHttpResponse = False
    if base_url is not None:
        plugin.point_at(exchange, base_url)
    return exchange


def drop_connections(exchange: Any, reason: str) -> None:
    """Close every websocket of an exchange; its subscriptions end with an error."""
    for client in list((exchange.clients or {}).values()):
        client.dropped = True
        client.on_error(ccxt.NetworkError(reason))


def parse_frame(data: str | bytes) -> Mapping[str, Any]:
    """Read a frame as a JSON object.

    Raises
    ------
    FrameFault
        If it is none.
    """
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise FrameFault("malformed", f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise FrameFault("malformed", f"a JSON {type(message).__name__}, expected an object")
    return message


def _retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    for name, value in (headers or {}).items():
        if name.lower() == "retry-after":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 200 else f"{text[:200]}..."

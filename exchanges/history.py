"""The exchange's history over REST: pages of candles, asked politely and for as long as it takes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ccxt

from domain.market.candle import Candle, FaultKind, candle_of, fault_of
from exchanges.connection import BadAnswerError, ExchangePlugin
from exchanges.feed_settings import FeedSettings
from schemas.frames import MINUTE_MS

T = TypeVar("T")
#: How long to stay away after a refusal that does not say.
_UNSAID_WAIT_S = {"limit": 2.0, "ban": 120.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the history said of some minutes.

    Attributes
    ----------
    rows
        Valid candles, sorted and unique.
    covered_to_ms
        It has no other minute from the first asked up to and including this one.
    bad
        What it sent that is no candle: the row as it came, the kind of fault, the reason.
    """

    rows: list[Candle]
    covered_to_ms: int
    bad: list[tuple[list[Any], FaultKind, str]]


class Backoff:
    """Waits longer after every failure, by a random part so that not all come back at once."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self.failures = 0

    def failed(self) -> float:
        """Count a failure and give the seconds to wait."""
        full_s = min(self._most_s, self._first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return full_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing

    def worked(self) -> None:
        """Start anew."""
        self.failures = 0


class History:
    """Asks one exchange, keeping its limits.

    Parameters
    ----------
    exchange
        ccxt's exchange.
    plugin
        Knows its page size.
    settings
        Back-off.
    newest_ms
        Tells past which open minute no row can be true.
    on_failure
        Is told every failed request: what was asked, and why it failed.
    count
        Counts requests.
    """

    def __init__(
        self,
        *,
        exchange: Any,
        plugin: ExchangePlugin,
        settings: FeedSettings,
        newest_ms: Callable[[], int],
        on_failure: Callable[[str, Exception], None],
        count: Callable[[str, int], None],
    ) -> None:
        self._exchange = exchange
        self._plugin = plugin
        self._settings = settings
        self._newest_ms = newest_ms
        self._on_failure = on_failure
        self._count = count
        self._closed_until_s = 0.0
        self.page_rows = min(settings.page_rows, plugin.page_rows)
        self.answered_s = time.monotonic()

    async def markets(self) -> dict[str, Any]:
        """Load what is listed, until it works; ccxt would keep an empty answer for ever."""

        async def load() -> dict[str, Any]:
            markets: dict[str, Any] = await self._exchange.load_markets(True)
            if not markets:
                raise BadAnswerError(f"{self._plugin.name} lists no market")
            return markets

        return await self.insist(lambda: self._once("the list of markets", load))

    async def time_ms(self) -> int:
        """Ask for the exchange's time once."""

        async def ask() -> int:
            at = await self._exchange.fetch_time()
            if not isinstance(at, int) or at < 0:
                raise BadAnswerError(f"{self._plugin.name} says its time is {at!r}")
            return at

        return await self._once("the time", ask)

    async def candles(self, pair: str, from_ms: int, minutes: int) -> Answer:
        """Ask for the candles from a minute on, once; a minute ahead of the exchange's clock is no candle."""
        limit = max(1, min(minutes, self.page_rows))

        async def ask() -> list[Any]:
            rows = await self._exchange.fetch_ohlcv(pair, "1m", since=from_ms, limit=limit)
            if not isinstance(rows, list):
                raise BadAnswerError(f"{self._plugin.name} sent {type(rows).__name__} for candles")
            return rows

        rows = await self._once(f"candles of {pair}", ask)
        answer = _read(rows, from_ms, self._newest_ms())
        last_ms = from_ms + (limit - 1) * MINUTE_MS
        if answer.rows:
            last_ms = max(last_ms, answer.rows[-1].open_time_ms)
        return Answer(rows=answer.rows, covered_to_ms=last_ms, bad=answer.bad)

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Make a call that asks once, again and again until it works."""
        backoff = Backoff(self._settings.retry_first_s, self._settings.retry_most_s)
        while True:
            try:
                return await ask()
            except BadAnswerError:
                await asyncio.sleep(backoff.failed())

    async def _once(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Send one request; every failure comes out as `BadAnswerError`."""
        while (wait_s := self._closed_until_s - time.monotonic()) > 0:  # noqa: ASYNC110 - the time may move
            await asyncio.sleep(wait_s)
        self._count("rest_requests", 1)
        try:
            result = await ask()
        except Exception as error:
            # ccxt raises its own errors, but also whatever its parsers meet in a strange answer.
            self._count("rest_errors", 1)
            self._stay_away(error)
            self._on_failure(what, error)
            raise BadAnswerError(f"{what}: {error!r}") from error
        self.answered_s = time.monotonic()
        return result

    def _stay_away(self, error: Exception) -> None:
        if not isinstance(error, (ccxt.DDoSProtection, ccxt.RateLimitExceeded)):
            return
        said_s = getattr(error, "retry_after_s", None)
        if said_s is None:
            said_s = _UNSAID_WAIT_S["ban" if "418" in str(error) else "limit"]
        # All requests wait: going on in spite of a refusal is what gets an address banned.
        until_s = time.monotonic() + said_s + random.uniform(0.0, 0.1)  # noqa: S311
        self._closed_until_s = max(self._closed_until_s, until_s)


def _read(rows: list[Any], from_ms: int, newest_ms: int) -> Answer:
    good: dict[int, Candle] = {}
    bad: list[tuple[list[Any], FaultKind, str]] = []
    for row in rows:
        try:
            candle = candle_of(row[0], *row[1:6])
        except (ValueError, TypeError, OverflowError, LookupError) as error:
            bad.append((row, "malformed", str(error)))
            continue
        kind = fault_of(candle)
        if kind is None and candle.open_time_ms < from_ms:
            continue
        if kind is None and candle.open_time_ms > newest_ms:
            kind = "future"
        if kind is None and good.setdefault(candle.open_time_ms, candle) != candle:
            kind = "malformed"  # two versions of one minute
        if kind is not None:
            bad.append((row, kind, "the history holds a candle that cannot be"))
    return Answer(rows=[good[t] for t in sorted(good)], covered_to_ms=from_ms, bad=bad)

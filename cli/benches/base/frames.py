"""A second listener on the simulated exchange, which notes when each closed candle is on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp
import orjson

#: The exchange takes so many names in one message, and so many messages a second.
_NAMES, _PAUSE_S = 200, 0.25


class FrameWatch:
    """Listens to candles as any client does.

    It is connected before the feed is, and served in the order of connection, so what it notes is a little
    before the feed has the same frame, never after it.

    Parameters
    ----------
    url
        Of the simulated exchange.
    symbols
        Whose candles.
    """

    def __init__(self, url: str, symbols: Sequence[str]) -> None:
        self._url = url.replace("http://", "ws://", 1) + "/stream/ws"
        self._symbols = symbols
        #: By symbol and open minute in milliseconds: `time.monotonic()` at the arrival of the closed candle.
        self.seen: dict[tuple[str, int], float] = {}
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled; while the exchange is away, knock."""
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.ws_connect(self._url) as socket:
                    await self._subscribe(socket)
                    await self._listen(socket)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.01)

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        for start in range(0, len(self._symbols), _NAMES):
            names = [f"{symbol.lower()}@kline_1m" for symbol in self._symbols[start : start + _NAMES]]
            await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": start + 1})
            if start:
                await asyncio.sleep(_PAUSE_S)
        self.listening.set()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            now = time.monotonic()
            if message.type is aiohttp.WSMsgType.TEXT and '"x":true' in message.data:
                candle = orjson.loads(message.data)["k"]
                self.seen.setdefault((candle["s"], candle["t"]), now)

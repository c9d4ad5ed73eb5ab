"""Keeps an exchange's websocket subscribed: connects again after every loss, for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from exchanges.connection import Subscribe, drop_connections
from exchanges.history import Backoff

#: A connection that held for so long was a good one: the next loss is answered at once.
_GOOD_AFTER_S = 10.0


class LiveStream:
    """Holds the subscriptions of one exchange.

    Parameters
    ----------
    exchange
        ccxt's exchange.
    subscriptions
        Gives what to subscribe to, asked at every connection.
    backoff
        Between connections.
    on_loss
        Is told why a connection ended.
    """

    def __init__(
        self,
        *,
        exchange: Any,
        subscriptions: Callable[[], list[Subscribe]],
        backoff: Backoff,
        on_loss: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._subscriptions = subscriptions
        self._backoff = backoff
        self._on_loss = on_loss

    async def run(self) -> None:
        """Subscribe, wait for the loss, and start again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            since_s = loop.time()
            reason = await self._hold()
            self._on_loss(reason)
            if loop.time() - since_s > _GOOD_AFTER_S:
                self._backoff.worked()
            await asyncio.sleep(self._backoff.failed())

    def reconnect(self, reason: str) -> None:
        """Give the present connection up."""
        drop_connections(self._exchange, reason)

    async def _hold(self) -> str:
        """Keep all subscriptions up and tell why the first of them ended."""
        held = {asyncio.ensure_future(_wait(each)): each for each in self._subscriptions()}
        try:
            while True:
                done, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    reason = future.result()
                    if reason is not None:
                        return reason
                    # A message that ccxt delivered; nobody reads it, so wait for the next.
                    each = held.pop(future)
                    held[asyncio.ensure_future(_wait(each))] = each
        finally:
            for future in held:
                future.cancel()
            await asyncio.gather(*held, return_exceptions=True)
            drop_connections(self._exchange, "connecting again")


async def _wait(subscribe: Subscribe) -> str | None:
    """Wait for a message (None), or for the reason why none will come."""
    try:
        await subscribe()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # ccxt cancels what waits on a connection that it closes.
        return "closed"
    except Exception as error:  # noqa: BLE001 - any failure of a subscription means: connect again
        return repr(error)
    return None

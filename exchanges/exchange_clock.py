"""The exchange's clock: every decision about closed minutes goes by it, never by this machine's."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

#: A simulated exchange may be this far ahead of the time that was last asked for.
MOST_AHEAD_MS = 7 * 86_400_000
#: A real one cannot be further ahead than a slow request and a coarse clock make it.
_REAL_AHEAD_MS = 120_000
#: A simulated clock that has not moved for so long waits for us: nothing is on its way.
STANDS_AFTER_S = 0.5


class ExchangeClock:
    """Tells what time it is at the exchange.

    Parameters
    ----------
    ask
        Asks the exchange.
    virtual
        A simulated exchange, whose clock jumps, stands or runs at any speed: it is never extrapolated, but
        its frames bring it forward. A real one runs like ours, and its frames are not needed for that.
    """

    def __init__(self, ask: Callable[[], Awaitable[int]], *, virtual: bool) -> None:
        self._ask = ask
        self._virtual = virtual
        self._asked_ms: int | None = None
        self._asked_s = 0.0
        self._moved_s = 0.0
        self._hint_ms = 0
        self.skew_s = 0.0

    @property
    def is_known(self) -> bool:
        """Tell whether the exchange has been asked at all."""
        return self._asked_ms is not None

    @property
    def sure_ms(self) -> int:
        """The exchange's time, or a little earlier: answers of its history are at least as new."""
        if self._asked_ms is None:
            return 0
        if self._virtual:
            return self._asked_ms
        return self._asked_ms + int((time.monotonic() - self._asked_s) * 1000)

    @property
    def now_ms(self) -> int:
        """The newest time seen, on frames too."""
        return max(self.sure_ms, self._hint_ms)

    @property
    def latest_ms(self) -> int:
        """A time that the exchange cannot have passed yet: what says otherwise is nonsense."""
        return self.sure_ms + (MOST_AHEAD_MS if self._virtual else _REAL_AHEAD_MS)

    @property
    def stands(self) -> bool:
        """Tell whether a simulated exchange has stopped, at its end or to wait for us."""
        return self._virtual and self.is_known and time.monotonic() - self._moved_s > STANDS_AFTER_S

    def hint(self, exchange_ms: int) -> None:
        """Learn the time on a frame."""
        if self._virtual and self._hint_ms < exchange_ms < self.latest_ms:
            self._hint_ms = exchange_ms
            self._moved_s = time.monotonic()

    async def refresh(self) -> None:
        """Ask the exchange."""
        hint_before = self._hint_ms
        sent_s = time.time()
        asked_ms = await self._ask()
        self.skew_s = asked_ms / 1000 - (sent_s + time.time()) / 2
        # Counted from the arrival of the answer: our word on the exchange's time is never ahead of the truth.
        self._asked_s = time.monotonic()
        if asked_ms != self._asked_ms:
            self._moved_s = self._asked_s
        self._asked_ms = asked_ms
        if self._hint_ms == hint_before:
            # Either the frames have stopped, or one has lied.
            self._hint_ms = asked_ms

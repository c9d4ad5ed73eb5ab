"""Rate limits as the exchanges keep them: a weight per window of wall time, and a ban for the stubborn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the limit says about one request.

    Attributes
    ----------
    status
        200, 429, or 418 once banned.
    used
        Weight used in the window, this request included.
    retry_after_s
        Whole seconds to wait; 0 when allowed.
    """

    status: int
    used: int
    retry_after_s: int


class WeightLimit:
    """Allows a weight per fixed window; going on after a refusal leads to a ban.

    Parameters
    ----------
    weight
        Allowed in a window.
    window_s
        Length of a window in wall seconds.
    strikes
        Refused requests in a row before a ban; None: never banned.
    ban_s
        Length of a ban.
    wall
        Seconds that only go forward.
    """

    def __init__(
        self,
        *,
        weight: int,
        window_s: float,
        strikes: int | None = None,
        ban_s: float = 120.0,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.weight = weight
        self.window_s = window_s
        self._strikes = strikes
        self._ban_s = ban_s
        self._wall = wall
        self._window = -1
        self._used = 0
        self._refused = 0
        self._banned_until_s = -math.inf

    def ask(self, weight: int) -> Verdict:
        """Charge a request, or refuse it."""
        now = self._wall()
        if now < self._banned_until_s:
            return Verdict(status=418, used=self._used, retry_after_s=_whole(self._banned_until_s - now))
        window = int(now // self.window_s)
        if window != self._window:
            self._window, self._used, self._refused = window, 0, 0
        self._used += weight
        if self._used <= self.weight:
            return Verdict(status=200, used=self._used, retry_after_s=0)
        self._refused += 1
        if self._strikes is not None and self._refused > self._strikes:
            self._banned_until_s = now + self._ban_s
            return Verdict(status=418, used=self._used, retry_after_s=_whole(self._ban_s))
        wait_s = (window + 1) * self.window_s - now
        return Verdict(status=429, used=self._used, retry_after_s=_whole(wait_s))


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))

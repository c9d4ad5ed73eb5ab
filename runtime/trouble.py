"""What is wrong with a worker that runs: it parks events, stands still, falls behind, or keeps starting over.

A worker can do any of these for hours while every process is up and every answer comes at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from schemas.frames import MINUTE_MS

#: Standing still: not moved for so long, while the input went on by so much event time.
STILL_S, STILL_MS = 60.0, 2 * MINUTE_MS
#: Falling behind: the lag grew at every look of so long a time, by more than this in all.
GROWING_S, GROWING_MS, _LOOK_S = 300.0, 5 * MINUTE_MS, 30.0
#: Starting over: so often in so long a time.
OVER_TIMES, OVER_S = 3, 60.0


@dataclass(slots=True, kw_only=True)
class Trouble:
    """Watches one worker; every time is seconds of a clock that only goes forward.

    Attributes
    ----------
    parked
        Events that were parked in the last hour.
    """

    parked: int = 0
    _place: Hashable = None
    _since_s: float = 0.0
    _newest_ms: int = 0
    _still_s: float | None = None
    _went_on_ms: int = 0
    _lags: deque[tuple[float, int]] = field(default_factory=deque)
    _over: deque[tuple[float, str]] = field(default_factory=deque)

    def measured(self, now_s: float, *, place: Hashable, newest_ms: int, lag_ms: int, excused: bool) -> None:
        """Take a measurement.

        Parameters
        ----------
        now_s
            When.
        place
            Where the worker stands in its input: equal while it does not move.
        newest_ms
            How far its input has come.
        lag_ms
            How far it is behind.
        excused
            Whether it has to wait, for example for a training in a replay.
        """
        if place != self._place or excused or self._since_s == 0.0:
            self._place, self._since_s, self._newest_ms = place, now_s, newest_ms
        self._went_on_ms = newest_ms - self._newest_ms
        still = now_s - self._since_s >= STILL_S and self._went_on_ms >= STILL_MS
        self._still_s = now_s - self._since_s if still else None
        if excused or (self._lags and lag_ms < self._lags[-1][1]):
            self._lags.clear()
        if not self._lags or now_s - self._lags[-1][0] >= _LOOK_S:
            if self._lags and lag_ms == self._lags[-1][1]:
                self._lags.clear()
            self._lags.append((now_s, lag_ms))
        while now_s - self._lags[0][0] > GROWING_S + _LOOK_S:
            self._lags.popleft()

    def started_over(self, now_s: float, reason: str) -> None:
        """Take that the work was begun again from what is committed."""
        self._over.append((now_s, reason))

    def problems(self, now_s: float) -> list[str]:
        """Say what is wrong now, in words for an operator; nothing if nothing is."""
        said = []
        if self._still_s is not None:
            minutes = self._went_on_ms // MINUTE_MS
            said.append(
                f"has not moved for {self._still_s:.0f} s while its input went on by {minutes} minutes"
            )
        elif self._is_falling_behind():
            grew_s = (self._lags[-1][1] - self._lags[0][1]) / 1000
            over_s = self._lags[-1][0] - self._lags[0][0]
            said.append(f"falls behind: its lag grew by {grew_s:.0f} s in {over_s:.0f} s")
        while self._over and now_s - self._over[0][0] > OVER_S:
            self._over.popleft()
        if len(self._over) >= OVER_TIMES:
            reason = self._over[-1][1]
            said.append(f"started over {len(self._over)} times in a minute, last for {reason}")
        if self.parked:
            events = "1 event" if self.parked == 1 else f"{self.parked} events"
            said.append(f"{events} parked in the last hour: see `tidecast dead-letters list`")
        return said

    def _is_falling_behind(self) -> bool:
        if len(self._lags) < 2 or self._lags[-1][0] - self._lags[0][0] < GROWING_S:
            return False
        return self._lags[-1][1] - self._lags[0][1] >= GROWING_MS

"""A virtual clock that never runs ahead of what was sent.

Time is cut into boundaries. The pump sends everything that happens up to the next boundary, then lets the
clock cross it; until then the clock stands just before it, however late it is by the wall. So nothing read
over REST is ever newer than what the websocket has already said.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.frames import MINUTE_MS

#: A speed that means: as fast as the client acknowledges.
MAX_SPEED = math.inf
#: A pump later than this many wall seconds lets the market wait instead of catching up.
CATCH_UP_S = 5.0
#: Steps a minute at a finite speed; each divides a minute evenly.
STEP_COUNTS = (60, 30, 20, 15, 12, 10, 6, 5, 4, 3, 2, 1)
#: A step is at least this long by the wall.
SHORTEST_STEP_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMark:
    """Where a clock stands; enough to go on from there after a restart.

    Attributes
    ----------
    market
        Description of the market that the clock belongs to.
    first_ms
        Start of the history that the exchange serves.
    start_ms
        Virtual time at birth.
    now_ms
        Virtual time now.
    acknowledged_ms
        Newest open minute that the client has acknowledged.
    """

    market: str
    first_ms: int
    start_ms: int
    now_ms: int
    acknowledged_ms: int

    def save(self, path: Path) -> None:
        """Write the mark beside its file and rename it, so that a reader never sees half of it."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        os.replace(beside, path)  # noqa: PTH105 - replace() of a path is the same call

    @classmethod
    def load(cls, path: Path) -> ClockMark | None:
        """Read a mark back; None where there is none yet."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ValueError(f"clock file {path} is damaged ({error}); delete it to start anew") from error


class VirtualClock:
    """Virtual time in milliseconds at speed N, or as fast as the client acknowledges.

    Parameters
    ----------
    now_ms
        Virtual time at the start; rounded down to a whole minute at maximum speed.
    speed
        Virtual seconds per wall second, or `MAX_SPEED`.
    end_ms
        The clock stops here; None: never.
    acknowledged_ms
        Open minute that counts as acknowledged at the start.
    window_minutes
        At maximum speed the clock goes at most this far beyond the acknowledged minute.
    wall
        Seconds that only go forward.
    """

    def __init__(
        self,
        *,
        now_ms: int,
        speed: float,
        end_ms: int | None,
        acknowledged_ms: int,
        window_minutes: int = 1_500,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        if window_minutes < 1:
            raise ValueError(f"window_minutes is {window_minutes}; it must be at least 1")
        self.end_ms = end_ms
        self.acknowledged_ms = acknowledged_ms
        self.window_minutes = window_minutes
        self._wall = wall
        self._floor_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        self.set_speed(speed)

    @property
    def speed(self) -> float:
        """Virtual seconds per wall second; `MAX_SPEED` means as fast as the client takes."""
        return self._speed

    @property
    def is_max(self) -> bool:
        """Whether the clock goes as fast as the client acknowledges."""
        return math.isinf(self._speed)

    @property
    def crossed_ms(self) -> int:
        """The boundary crossed last."""
        return self._floor_ms

    @property
    def ended(self) -> bool:
        """Whether the market is over."""
        return self.end_ms is not None and self._floor_ms >= self.end_ms

    @property
    def step_ms(self) -> int:
        """Virtual time between two boundaries."""
        steps = 1.0 if self.is_max else 60 / self._speed / SHORTEST_STEP_S
        return MINUTE_MS // next((count for count in STEP_COUNTS if count <= steps), 1)

    def set_speed(self, speed: float) -> None:
        """Go on from now at another speed."""
        if not speed > 0:
            raise ValueError(f"speed is {speed}; it must be above 0, or max")
        if hasattr(self, "_speed"):
            self._floor_ms = self.now_ms()
        self._speed = float(speed)
        self._anchor_at(self._floor_ms)

    def now_ms(self) -> int:
        """Tell the virtual time; at most one millisecond before the boundary not yet crossed."""
        if self.is_max:
            return self._floor_ms
        return max(self._floor_ms, min(self.due_ms(), self.next_boundary_ms() - 1))

    def next_boundary_ms(self) -> int:
        """Tell the boundary that the pump has to cross next."""
        step = self.step_ms
        boundary = (self._floor_ms // step + 1) * step
        return boundary if self.end_ms is None else min(boundary, max(self.end_ms, self._floor_ms))

    def due_ms(self) -> int:
        """Tell how far the clock may go by now."""
        if self.is_max:
            due = self.acknowledged_ms + MINUTE_MS + self.window_minutes * MINUTE_MS
        else:
            due = self._anchor_ms + round((self._wall() - self._anchor_s) * 1_000 * self._speed)
        return due if self.end_ms is None else min(due, self.end_ms)

    def wait_s(self) -> float | None:
        """Tell the wall seconds until the next boundary is due; None: not before something changes."""
        boundary = self.next_boundary_ms()
        if self.ended or self.is_max:
            return None if self.ended or boundary > self.due_ms() else 0.0
        return max(0.0, (boundary - self.due_ms()) / 1_000 / self._speed)

    def cross(self, boundary_ms: int) -> None:
        """Let the time pass the boundary: everything up to it was sent."""
        self._floor_ms = boundary_ms
        if not self.is_max:
            lag_s = self._wall() - self._anchor_s - (boundary_ms - self._anchor_ms) / 1_000 / self._speed
            if lag_s > CATCH_UP_S:
                self._anchor_at(boundary_ms)

    def acknowledge(self, open_time_ms: int) -> None:
        """Note that the client has every candle up to this open minute.

        At maximum speed a clock that is behind that minute jumps to its end: the clock file of an exchange
        that was killed is a little old, and the client must not live through those minutes twice.
        """
        self.acknowledged_ms = max(self.acknowledged_ms, open_time_ms)
        over_ms = open_time_ms - open_time_ms % MINUTE_MS + MINUTE_MS
        if self.is_max and over_ms > self._floor_ms:
            self._floor_ms = over_ms if self.end_ms is None else min(over_ms, self.end_ms)

    def _anchor_at(self, virtual_ms: int) -> None:
        self._anchor_ms = virtual_ms
        self._anchor_s = self._wall()

"""Faults that the simulated exchange commits on demand, each from a seed of its own.

A switch is on while it has a probability; it goes off after `count` strikes or `duration_s` wall seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Every switch, and what it does.
SWITCHES: dict[str, str] = {
    "cut": "abort the connection in place of a frame; while on with a duration, refuse new ones with 503",
    "silence": "keep the connection and answer its pings, but send no market data (lost, not delayed)",
    "duplicates": "send a frame twice",
    "disorder": "hold a frame back and send it after the next three",
    "revisions": "close a minute with other values and correct it a minute later, over REST and websocket",
    "missing": "drop a frame",
    "halt": "leave out minutes: they never exist, for any symbol (one strike is one minute)",
    "truncated": "send the first half of a frame",
    "garbage": "send a nonsensical frame before the true one",
    "429": "answer REST with 429 and Retry-After",
    "418": "answer REST with 418 and Retry-After",
    "5xx": "answer REST with 500, 502, 503 or 504",
    "slow": "answer REST after `delay_s`",
    "truncated_rest": "answer REST with the first half of the body and status 200",
    "cut_rest": "announce the whole body, send half of it, and close",
}


class BadFaultError(ValueError):
    """A request names a switch or a value that does not exist."""


@dataclass(slots=True, kw_only=True)
class Switch:
    """One fault that is on.

    Attributes
    ----------
    probability
        Chance at each occasion (frame, candle or request).
    count
        Strikes left, None for any number.
    until_s
        Wall time at which it goes off, None for never.
    delay_s
        How slow a slow answer is; how long a Retry-After asks to wait.
    draw
        Where the chances come from; also picks the form of a fault that has several.
    """

    probability: float
    count: int | None
    until_s: float | None
    delay_s: float
    draw: random.Random = field(repr=False)


class Faults:
    """All switches and how often each has struck.

    Parameters
    ----------
    wall
        Seconds that only go forward.
    """

    def __init__(self, wall: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._on: dict[str, Switch] = {}
        self.counts: dict[str, int] = dict.fromkeys(SWITCHES, 0)

    @property
    def quiet(self) -> bool:
        """Whether no switch is on, so that frames need not be looked at."""
        return not self._on

    def set(self, wanted: Mapping[str, Any]) -> None:
        """Turn switches on or off.

        Parameters
        ----------
        wanted
            Per switch an object with any of `probability` (1), `count`, `duration_s`, `delay_s` (1), `seed`
            (0); false, null or probability 0 turns it off. The key `all: false` turns everything off first.
        """
        if "all" in wanted:
            if wanted["all"]:
                raise BadFaultError("all can only be false")
            self._on.clear()
        for name, options in wanted.items():
            if name != "all":
                self._set_one(name, options)

    def _set_one(self, name: str, options: Any) -> None:
        if name not in SWITCHES:
            raise BadFaultError(f"no fault is called {name!r}; there are {', '.join(SWITCHES)}")
        if options in (None, False):
            self._on.pop(name, None)
            return
        options = {} if options is True else options
        allowed = {"probability", "count", "duration_s", "delay_s", "seed"}
        if not isinstance(options, Mapping) or not set(options) <= allowed:
            raise BadFaultError(f"{name}: options are {', '.join(sorted(allowed))}, not {options!r}")
        numbers = {key: value for key, value in options.items() if value is not None}
        if any(isinstance(v, bool) or not isinstance(v, int | float) or v < 0 for v in numbers.values()):
            raise BadFaultError(f"{name}: every option is a number from 0 up, not {options!r}")
        duration = numbers.get("duration_s")
        switch = Switch(
            probability=float(numbers.get("probability", 1.0)),
            count=int(numbers["count"]) if "count" in numbers else None,
            until_s=None if duration is None else self._wall() + duration,
            delay_s=float(numbers.get("delay_s", 1.0)),
            draw=random.Random(int(numbers.get("seed", 0))),  # noqa: S311 - repeatable on purpose
        )
        if switch.probability > 0 and switch.count != 0:
            self._on[name] = switch
        else:
            self._on.pop(name, None)

    def strike(self, name: str) -> Switch | None:
        """Decide whether the fault happens on this occasion, count it, and give its switch if so."""
        switch = self._live(name)
        if switch is None or (switch.probability < 1 and switch.draw.random() >= switch.probability):
            return None
        self.counts[name] += 1
        if switch.count is not None:
            switch.count -= 1
            if switch.count <= 0:
                self._on.pop(name, None)
        return switch

    def lasts(self, name: str) -> bool:
        """Whether a switch is on for a stretch of time."""
        switch = self._live(name)
        return switch is not None and switch.until_s is not None

    def active(self) -> list[str]:
        """List the switches that are on."""
        return [name for name in SWITCHES if self._live(name) is not None]

    def _live(self, name: str) -> Switch | None:
        switch = self._on.get(name)
        if switch is not None and switch.until_s is not None and self._wall() >= switch.until_s:
            self._on.pop(name, None)
            return None
        return switch

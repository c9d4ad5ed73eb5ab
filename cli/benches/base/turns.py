"""Pieces of work, one after the other and again, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of each time that a piece of work was done.

    Attributes
    ----------
    wall
        By the wall.
    processor
        Of all threads of this process.
    """

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        """The usual one."""
        return median(self.wall)

    @property
    def processor_s(self) -> float:
        """The usual one."""
        return median(self.processor)


def in_turn(works: Mapping[str, Callable[[], object]], turns: int) -> dict[str, Spent]:
    """Do every piece of work so many times, in turn."""
    spent = {name: Spent() for name in works}
    for _ in range(turns):
        for name, work in works.items():
            began, worked = time.perf_counter(), time.process_time()
            work()
            spent[name].processor.append(time.process_time() - worked)
            spent[name].wall.append(time.perf_counter() - began)
    return spent

"""The last minutes of every symbol, and the grid that the checks see when minutes are complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.quality.grid import NEVER, QualityGrid
from schemas.frames import Bool, Int64

#: Bounds the size of one grid; a longer span is looked at in pieces.
MOST_MINUTES = 1440


@dataclass(frozen=True, slots=True)
class Seen:
    """What matters of some candles, one entry a row."""

    position: Int64
    minute: Int64
    complete: Bool
    invalid: Bool
    changed: Bool

    def kept(self, chosen: Bool) -> Seen:
        """Keep the chosen rows."""
        return Seen(*(getattr(self, name)[chosen] for name in SEEN_COLUMNS))

    def joined(self, other: Seen) -> Seen:
        """Put the rows of `other` behind these."""
        return Seen(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in SEEN_COLUMNS))


SEEN_COLUMNS = ("position", "minute", "complete", "invalid", "changed")


class RecentMinutes:
    """Gathers candles until their minutes are complete, and hands out grids of complete minutes.

    Parameters
    ----------
    symbols
        How many.
    lookback_minutes
        How many judged minutes each grid begins with.
    """

    def __init__(self, *, symbols: int, lookback_minutes: int) -> None:
        self._lookback = lookback_minutes
        self.done_to = NEVER
        self._waiting = Seen(
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.bool_),
            np.empty(0, np.bool_),
            np.empty(0, np.bool_),
        )
        #: present, complete, invalid over the lookback
        self._past = np.zeros((3, 0, symbols), np.bool_)
        #: first minute, first complete minute, last present minute, last changed minute
        self._marks = np.full((4, symbols), NEVER, np.int64)

    def add(self, seen: Seen) -> None:
        """Take in candles; those of minutes that were judged already come too late to count."""
        self._waiting = self._waiting.joined(seen.kept(seen.minute > self.done_to))

    def next_grid(self, complete_to_minute: int) -> QualityGrid | None:
        """Hand out the next complete minutes, at most a day of them; None when there are no more."""
        if self.done_to == NEVER:
            if not len(self._waiting.minute):
                return None
            self.done_to = int(self._waiting.minute.min()) - 1
            if self.done_to >= complete_to_minute:
                # Earlier candles of other symbols may still come.
                self.done_to = NEVER
                return None
        if complete_to_minute <= self.done_to:
            return None
        return self._grid(self.done_to + 1, min(complete_to_minute, self.done_to + MOST_MINUTES))

    def _grid(self, first: int, last: int) -> QualityGrid:
        in_span = self._waiting.minute <= last
        seen = self._waiting.kept(in_span)
        self._waiting = self._waiting.kept(~in_span)
        before = self._past.shape[1]
        minute = np.arange(first - before, last + 1)
        fresh = np.zeros((4, last - first + 1, self._marks.shape[1]), np.bool_)
        at = seen.minute - first
        for k, flags in enumerate((np.ones(len(at), np.bool_), seen.complete, seen.invalid, seen.changed)):
            fresh[k, at, seen.position] = flags
        new = minute[before:]
        first_present, first_complete, last_present, last_change = self._marks
        firsts = [_earliest(first_present, fresh[0], new), _earliest(first_complete, fresh[1], new)]
        lasts = [_latest(last_present, fresh[0], new), _latest(last_change, fresh[3], new)]
        flags = np.concatenate([self._past, fresh[:3]], axis=1)
        context = [np.full((before, len(first_present)), NEVER, np.int64)]
        grid = QualityGrid(
            minute=minute,
            lookback=before,
            expected=(firsts[0] != NEVER) & (minute[:, None] >= firsts[0]),
            expected_complete=(firsts[1] != NEVER) & (minute[:, None] >= firsts[1]),
            present=flags[0],
            complete=flags[1],
            invalid=flags[2],
            last_present=np.concatenate([*context, lasts[0]]),
            last_change=np.concatenate([*context, lasts[1]]),
        )
        self._past = flags[:, max(flags.shape[1] - self._lookback, 0) :].copy()
        self._marks = np.stack([*firsts, lasts[0][-1], lasts[1][-1]])
        self.done_to = last
        return grid

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Hand out the state."""
        waiting = {f"waiting.{name}": getattr(self._waiting, name) for name in SEEN_COLUMNS}
        return {"past": self._past, "marks": self._marks, "done_to": np.array([self.done_to]), **waiting}

    def take(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Go on from the state of `arrays`."""
        self._past, self._marks = arrays["past"], arrays["marks"]
        self.done_to = int(arrays["done_to"][0])
        self._waiting = Seen(*(arrays[f"waiting.{name}"] for name in SEEN_COLUMNS))


def _earliest(known: Int64, flags: Bool, minute: Int64) -> Int64:
    found = np.where(flags.any(axis=0), minute[flags.argmax(axis=0)], NEVER)
    return np.where(known == NEVER, found, known)


def _latest(known: Int64, flags: Bool, minute: Int64) -> Int64:
    table = np.where(flags, minute[:, None], NEVER)
    table[0] = np.maximum(table[0], known)
    latest: Int64 = np.maximum.accumulate(table, axis=0)
    return latest

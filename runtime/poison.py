"""Events that no stage can process: found by taking less and less, then stepped over and kept."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto

import asyncpg

from db.repositories import checkpoints, dead_letters
from db.repositories.checkpoints import Checkpoint, Position
from db.repositories.dead_letters import DeadLetter
from runtime.sources import Batch
from schemas.events import encode

#: An event is poison when it raised this often alone, or was alone in flight in so many crashes.
POISON_TRIES = 3


class Verdict(Enum):
    """What to do with a batch after the deaths that were counted."""

    GO_ON = auto()
    TAKE_LESS = auto()
    PARK = auto()


class Suspicion:
    """Narrows a failure down to one event, and counts how often that one failed.

    Parameters
    ----------
    most_rows
        Events in a batch where nothing is suspected.

    Attributes
    ----------
    row_limit
        Events to take next.
    """

    def __init__(self, most_rows: int) -> None:
        self.row_limit = most_rows
        self._most_rows = most_rows
        self._raised: dict[Position, int] = {}
        # Starts since anything was committed. A start of the process counts once; starting over within it
        # says nothing about poison.
        self._starts: int | None = None

    async def of_deaths(self, connection: asyncpg.Connection, service: str, partition: int) -> Verdict:
        """Judge the next batch: after too many deaths single events are taken, then the first is parked."""
        if self._starts is None:
            self._starts = await checkpoints.count_start(connection, service, partition)
        if self._starts <= POISON_TRIES:
            return Verdict.GO_ON
        if self.row_limit > 1:
            self.row_limit = 1
            return Verdict.TAKE_LESS
        return Verdict.PARK if self._starts > 2 * POISON_TRIES else Verdict.GO_ON

    def raised(self, rows: int, position: Position) -> bool:
        """Note that a step raised; True if it was over one event, which has had its tries."""
        if rows > 1:
            self.row_limit = max(rows // 2, 1)
            return False
        self.row_limit = 1
        self._raised[position] = self._raised.get(position, 0) + 1
        return self._raised[position] >= POISON_TRIES

    def got_on(self) -> None:
        """Note that a batch was committed: a lowered limit grows back."""
        self.lifted()
        self.row_limit = min(self.row_limit * 2, self._most_rows)

    def lifted(self) -> None:
        """Forget the failures: the event at fault is out of the way."""
        self._raised.clear()
        self._starts = 0


async def park(
    connection: asyncpg.Connection, service: str, partition: int, at: Checkpoint, batch: Batch, error: str
) -> Checkpoint:
    """Step over an event for good, kept as a dead letter and never tried again; returns the new place."""
    # An event of the feed has no place in a stream: nothing has to step over it later.
    new = at if batch.journal is not None else replace(at, position=batch.after)
    raw = batch.journal if batch.journal is not None else encode(batch.frame)
    async with connection.transaction():
        if batch.journal is None:
            await checkpoints.park(connection, service, partition, at.position, error)
        await checkpoints.advance(connection, service, partition, old=at, new=new, summary={"parked": error})
        letter = DeadLetter(kind="poison", exchange=service, symbol=None, raw=raw, error=error)
        await dead_letters.add(connection, [letter])
    return new

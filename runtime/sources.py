"""Where a stage's input comes from: batches in order, and again from any committed position."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from db.repositories import outbox
from db.repositories.checkpoints import Checkpoint, Position


class HistoryGoneError(RuntimeError):
    """The messages that recovery needs are no longer kept: replay into a new directory instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a stage gets in one step.

    Attributes
    ----------
    frame
        A `FeatureFrame` (or `PredictionFrame`), or a `FeedBatch`.
    rows
        How many events it holds.
    after
        The position once it is processed.
    journal
        Bytes to keep with the rows so that the batch can be re-lived; None where the producer keeps them.
    """

    frame: Any
    rows: int
    after: Position
    journal: bytes | None = None


class Source(Protocol):
    """Gives a stage its input in order."""

    async def open(self, connection: asyncpg.Connection, at: Checkpoint) -> None:
        """Get ready to read from what is committed."""
        ...

    async def end(self, connection: asyncpg.Connection) -> Position:
        """Tell the position behind everything that has come so far."""
        ...

    def history(
        self, connection: asyncpg.Connection, start: Position, end: Position
    ) -> AsyncIterator[tuple[Any, Position]]:
        """Give again what lies between two positions, with the position of each part."""
        ...

    async def read(self, connection: asyncpg.Connection, *, max_rows: int, timeout_s: float) -> Batch | None:
        """Give the next batch; the same again until `committed` or `skip` was called."""
        ...

    async def committed(self, batch: Batch, complete_to_ms: int) -> None:
        """Go on behind a batch."""
        ...

    def skip(self, batch: Batch) -> None:
        """Go on behind a batch that was parked."""
        ...


async def behind_newest(connection: asyncpg.Connection, topic: str, partition: int) -> Position:
    """Tell the position behind the newest kept message of a topic."""
    newest = await outbox.newest(connection, topic, partition)
    return Position() if newest is None else Position(newest.sequence + 1, 0)

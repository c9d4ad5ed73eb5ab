"""How a stage comes back: the newest snapshot, then what was processed since, without writing it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from db.repositories import checkpoints
from db.repositories.checkpoints import Checkpoint, Position
from pipeline.stage import Stage, StateVersionError
from runtime.guide import Guide
from runtime.sources import HistoryGoneError, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Brings a fresh stage to what is committed.

    Attributes
    ----------
    service, partition
        Whose checkpoints.
    make_stage
        Builds a fresh stage.
    source
        Gives again what was processed.
    guide
        Makes ready what re-living a frame needs.
    note
        Takes a log line: level, subcategory, message, and values.
    give_up
        Ends in the tables what the state that is lost would have ended, when the stage begins anew.
    """

    service: str
    partition: int
    make_stage: Callable[[], Stage[Any]]
    source: Source
    guide: Guide
    note: Callable[..., None]
    give_up: Callable[[asyncpg.Connection], Awaitable[object]] | None

    async def relive(
        self, connection: asyncpg.Connection, at: Checkpoint
    ) -> tuple[Stage[Any], int | None, int]:
        """Give the stage as it was at `at`, the event time of its snapshot, and how much was re-lived."""
        stage, position, snapshot_ms = await self._restored(connection)
        stepped_over = await checkpoints.parked(connection, self.service, self.partition)
        await self.source.open(connection, at)
        relived = 0
        try:
            async for frame, place in self.source.history(connection, position, at.position):
                await self.guide.relive(connection, frame)
                for piece in _without(frame, place, stepped_over):
                    stage.step(piece)
                    relived += 1
        except HistoryGoneError as error:
            # Other settings or another version, and what a new state would be made of is no longer kept.
            self.note(
                "error",
                "recovery",
                f"The state begins anew at the committed position and warms again ({error}); what was open"
                " is given up. `tidecast recover` makes a new folder with a complete state.",
            )
            if self.give_up is not None:
                await self.give_up(connection)
            return self.make_stage(), None, relived
        return stage, snapshot_ms, relived

    async def _restored(self, connection: asyncpg.Connection) -> tuple[Stage[Any], Position, int | None]:
        stage = self.make_stage()
        kept = await checkpoints.newest_snapshot(connection, self.service, self.partition, stage.version)
        if kept is None:
            return stage, Position(), None
        try:
            stage.restore(kept.state)
        except StateVersionError as error:
            self.note("warning", "recovery", f"Snapshot not used: {error}")
            return self.make_stage(), Position(), None
        return stage, kept.position, kept.event_time_ms

    async def begin_anew(self, connection: asyncpg.Connection, before: Checkpoint) -> Checkpoint:
        """Leave checkpoint and backlog behind: a fresh state is committed behind the newest message.

        Where nothing was committed yet there is nothing to leave behind.
        """
        if before.event_time_ms is None:
            return before
        new = replace(before, position=max(before.position, await self.source.end(connection)))
        stage = self.make_stage()
        async with connection.transaction():
            await checkpoints.advance(
                connection, self.service, self.partition, old=before, new=new, summary=stage.summary()
            )
            # It takes the place of the newest one, so that later lives recover from here.
            await save(connection, self.service, self.partition, stage, new)
            if self.give_up is not None:
                await self.give_up(connection)
        self.note(
            "warning",
            "recovery",
            "Recovery is switched off: the checkpoint is ignored, and the state begins anew at the newest"
            " message.",
            left_out_messages=new.position.sequence - before.position.sequence,
        )
        return new


async def save(
    connection: asyncpg.Connection, service: str, partition: int, stage: Stage[Any], at: Checkpoint
) -> None:
    """Keep the whole state of a stage."""
    await checkpoints.save_snapshot(
        connection,
        service,
        partition,
        at=at,
        version=stage.version,
        state=stage.snapshot(),
        summary=stage.summary(),
    )


def _without(frame: Any, at: Position, stepped_over: frozenset[Position]) -> Sequence[Any]:
    """Cut parked rows out of a message that is re-lived."""
    rows = sorted(p.row - at.row for p in stepped_over if p.sequence == at.sequence and p.row >= at.row)
    if not rows:
        return [frame]
    pieces, first = [], 0
    for row in [*rows, len(frame)]:
        if row > first:
            pieces.append(frame.rows(slice(first, row)))
        first = row + 1
    return pieces

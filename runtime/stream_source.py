"""Another stage's messages: from Redis, from the outbox where Redis has a hole or is away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
from redis.exceptions import RedisError

from db.repositories import outbox
from db.repositories.checkpoints import Checkpoint, Position
from runtime.sources import Batch, HistoryGoneError, behind_newest
from schemas.events import decode
from schemas.frames import MINUTE_MS, FeatureFrame
from streams import stream
from streams.stream import Entry

#: How long a reader of a silent stream waits before it looks into the outbox.
IDLE_LOOK_S = 0.5


class StreamSource:
    """Reads another stage's messages from Redis, and from its outbox whenever Redis has a hole or is away.

    Parameters
    ----------
    topic, partition, key
        The stream.
    frame_type
        What its messages hold.
    client
        A Redis client.
    max_minutes
        A batch spans at most so many minutes of event time.
    """

    def __init__(
        self,
        *,
        topic: str,
        partition: int,
        key: str,
        frame_type: type[FeatureFrame],
        client: Any,
        max_minutes: int,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._key = key
        self._frame_type = frame_type
        self._client = client
        self._max_ms = max_minutes * MINUTE_MS
        self._position = Position()
        self._read: deque[tuple[int, FeatureFrame]] = deque()
        self._next_sequence = 1
        self._count = 64

    async def open(self, connection: asyncpg.Connection, at: Checkpoint) -> None:
        """Read from the committed position on."""
        self._position = at.position
        self._read.clear()
        self._next_sequence = at.position.sequence

    async def end(self, connection: asyncpg.Connection) -> Position:
        """Tell the position behind the newest message."""
        return await behind_newest(connection, self._topic, self._partition)

    async def history(
        self, connection: asyncpg.Connection, start: Position, end: Position
    ) -> AsyncIterator[tuple[FeatureFrame, Position]]:
        """Give again the rows between two positions, one message at a time.

        Raises
        ------
        HistoryGoneError
            If the outbox no longer holds them.
        """
        sequence = start.sequence
        while sequence < end.sequence or (sequence == end.sequence and end.row > 0):
            messages = await outbox.read(
                connection, self._topic, self._partition, first=sequence, last=end.sequence
            )
            if not messages:
                raise HistoryGoneError(
                    f"message {sequence} of {self._topic}/{self._partition} is no longer in the outbox"
                )
            for message in messages:
                frame = decode(message.payload, self._frame_type)
                first = start.row if message.sequence == start.sequence else 0
                last = end.row if message.sequence == end.sequence else len(frame)
                if last > first or not len(frame):
                    yield part_of(frame, first, last), Position(message.sequence, first)
                sequence = message.sequence + 1

    async def read(self, connection: asyncpg.Connection, *, max_rows: int, timeout_s: float) -> Batch | None:
        """Join messages up to the limits; None if nothing came within the time-out."""
        if not self._read:
            await self._fetch(connection, timeout_s)
        elif sum(len(frame) for _, frame in self._read) < max_rows:
            await self._fetch(connection, 0.0)
        return self._join(max_rows) if self._read else None

    async def committed(self, batch: Batch, complete_to_ms: int) -> None:
        """Forget the messages that lie behind the batch."""
        self.skip(batch)

    def skip(self, batch: Batch) -> None:
        """Forget the messages that lie behind the batch."""
        self._position = batch.after
        while self._read and self._read[0][0] < batch.after.sequence:
            self._read.popleft()

    def _join(self, max_rows: int) -> Batch:
        """Take whole messages while they fit, or a part of the first."""
        row = self._position.row
        sequence, frame = self._read[0]
        left = len(frame) - row
        if left > max_rows:
            part = part_of(frame, row, row + max_rows)
            return Batch(frame=part, rows=max_rows, after=Position(sequence, row + max_rows))
        parts = [part_of(frame, row, len(frame))]
        rows = left
        earliest = _first_ms(parts[0])
        # Single rows are asked for to find or park a bad event: no other message may share its fate.
        for number, following in list(self._read)[1:] if max_rows > 1 else ():
            late = len(following) and earliest is not None
            spans = late and int(following.open_time_ms[-1]) - int(earliest or 0) >= self._max_ms
            if rows + len(following) > max_rows or spans or following.symbols != frame.symbols:
                break
            parts.append(following)
            rows += len(following)
            sequence = number
            earliest = earliest if earliest is not None else _first_ms(following)
        joined = parts[0] if len(parts) == 1 else self._frame_type.concat(parts)
        return Batch(frame=joined, rows=rows, after=Position(sequence + 1, 0))

    async def _fetch(self, connection: asyncpg.Connection, timeout_s: float) -> None:
        entries: list[Entry] = []
        block_ms = round(min(timeout_s, IDLE_LOOK_S) * 1000)
        try:
            entries = await stream.read(
                self._client, self._key, first=self._next_sequence, count=self._count, block_ms=block_ms
            )
        except (RedisError, OSError):
            # The wire is away; the outbox has everything.
            await asyncio.sleep(min(timeout_s, 0.05))
        if entries and entries[0].sequence != self._next_sequence:
            entries = []
        elif not entries and timeout_s == 0.0:
            return
        if not entries:
            kept = await outbox.read(
                connection, self._topic, self._partition, first=self._next_sequence, limit=self._count
            )
            entries = [Entry(each.sequence, each.payload) for each in kept]
        for entry in entries:
            if entry.sequence != self._next_sequence:
                break
            self._read.append((entry.sequence, decode(entry.payload, self._frame_type)))
            self._next_sequence += 1
        if entries:
            mean = max(sum(len(entry.payload) for entry in entries) // len(entries), 1)
            self._count = max(1, min(256, 4_000_000 // mean))


def part_of(frame: FeatureFrame, first: int, last: int) -> FeatureFrame:
    """Cut rows out of a message; its word on complete minutes is lowered to what holds without the rest."""
    if first == 0 and last == len(frame):
        return frame
    part = frame.rows(slice(first, last))
    rest = frame.open_time_ms[last:]
    if not len(rest):
        return part
    return replace(part, complete_to_ms=min(frame.complete_to_ms, int(rest.min()) - MINUTE_MS))


def _first_ms(frame: FeatureFrame) -> int | None:
    return int(frame.open_time_ms[0]) if len(frame) else None

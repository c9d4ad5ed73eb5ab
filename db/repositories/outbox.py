"""Messages that were committed with the rows they belong to, kept until every reader is past them."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from db.one_statement import OneStatement
from db.repositories.checkpoints import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One batch as it was sent, and the event time that it covers where it is about to be kept."""

    sequence: int
    payload: bytes
    from_ms: int = 0
    to_ms: int = 0


async def add(connection: asyncpg.Connection, topic: str, partition: int, message: Message) -> None:
    """Store a message, in the caller's transaction."""
    await connection.execute(_insert(*(f"${n}" for n in range(1, 7))), *_values(topic, partition, message))


def add_in(statement: OneStatement, topic: str, partition: int, message: Message) -> None:
    """Store a message as a part of a statement."""
    statement.add(_insert(*map(statement.value, _values(topic, partition, message))))


def _insert(*places: str) -> str:
    columns = "topic, partition, sequence, event_from, event_to, payload"
    return f"INSERT INTO outbox ({columns}) VALUES ({', '.join(places)})"  # noqa: S608 - places, no values


def _values(topic: str, partition: int, message: Message) -> tuple[object, ...]:
    times = moment(message.from_ms), moment(message.to_ms)
    return topic, partition, message.sequence, *times, message.payload


async def read(
    connection: asyncpg.Connection,
    topic: str,
    partition: int,
    *,
    first: int,
    last: int | None = None,
    limit: int = 16,
) -> list[Message]:
    """Read messages from `first` on, in order, without a hole in the sequence."""
    rows = await connection.fetch(
        """
        SELECT sequence, payload FROM outbox
        WHERE topic = $1 AND partition = $2 AND sequence >= $3 AND sequence <= $4
        ORDER BY sequence LIMIT $5
        """,
        topic,
        partition,
        first,
        last if last is not None else 2**62,
        limit,
    )
    messages = []
    for expected, row in enumerate(rows, start=first):
        if row["sequence"] != expected:
            break
        messages.append(Message(sequence=row["sequence"], payload=row["payload"]))
    return messages


async def newest(connection: asyncpg.Connection, topic: str, partition: int) -> Message | None:
    """Read the last message of a topic."""
    row = await connection.fetchrow(
        """
        SELECT sequence, payload FROM outbox WHERE topic = $1 AND partition = $2
        ORDER BY sequence DESC LIMIT 1
        """,
        topic,
        partition,
    )
    return None if row is None else Message(sequence=row["sequence"], payload=row["payload"])


async def trim(connection: asyncpg.Connection, topic: str, partition: int, *, before: int) -> int:
    """Delete the messages before a sequence number; the newest always stays. Returns how many went."""
    answer = await connection.execute(
        """
        DELETE FROM outbox WHERE topic = $1 AND partition = $2 AND sequence < LEAST($3,
            (SELECT max(sequence) FROM outbox WHERE topic = $1 AND partition = $2))
        """,
        topic,
        partition,
        before,
    )
    return int(answer.split()[-1])

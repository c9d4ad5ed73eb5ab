"""Input that was refused, kept raw so that it can be looked at and tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Refused input.

    Attributes
    ----------
    kind
        What was wrong with it, in a word.
    raw
        As it was received.
    id
        Given by the database.
    """

    kind: str
    exchange: str | None
    symbol: str | None
    raw: bytes
    error: str
    id: int | None = None


async def add(connection: asyncpg.Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep refused input."""
    await connection.executemany(
        "INSERT INTO dead_letters (kind, exchange, symbol, raw, error) VALUES ($1, $2, $3, $4, $5)",
        [(each.kind[:50], each.exchange, each.symbol, each.raw, each.error) for each in letters],
    )


async def newest(connection: asyncpg.Connection, limit: int = 50) -> list[DeadLetter]:
    """Read the newest refused input, replayed or not."""
    return [_letter(row) for row in await connection.fetch(_SELECT + " ORDER BY id DESC LIMIT $1", limit)]


async def asked_for(connection: asyncpg.Connection, limit: int = 100) -> list[DeadLetter]:
    """Read what somebody wants read again, in the order in which it came."""
    rows = await connection.fetch(_SELECT + " WHERE replayed_at = 'infinity' ORDER BY id LIMIT $1", limit)
    return [_letter(row) for row in rows]


async def ask_for(connection: asyncpg.Connection, ids: Sequence[int] | None = None) -> list[int]:
    """Have input read again, all of it where no ids are given; returns the ids that were found."""
    rows = await connection.fetch(
        """
        UPDATE dead_letters SET replayed_at = 'infinity'
        WHERE replayed_at IS NULL AND ($1::bigint[] IS NULL OR id = ANY($1)) RETURNING id
        """,
        ids,
    )
    return sorted(row["id"] for row in rows)


async def replayed(connection: asyncpg.Connection, ids: Sequence[int]) -> None:
    """Note that input was read again."""
    await connection.execute("UPDATE dead_letters SET replayed_at = now() WHERE id = ANY($1::bigint[])", ids)


async def parked_since(connection: asyncpg.Connection, service: str, seconds: float) -> int:
    """Count the events that a service parked in the last so many seconds and nobody has asked for again.

    Looks at the newest 5,000 letters, so that a flood of refused input does not make it slow.
    """
    count: int = await connection.fetchval(
        """
        SELECT count(*) FROM dead_letters
        WHERE replayed_at IS NULL AND id > (SELECT COALESCE(max(id), 0) - 5000 FROM dead_letters)
          AND kind = 'poison' AND exchange = $1 AND received_at > now() - make_interval(secs => $2)
        """,
        service,
        seconds,
    )
    return count


async def drop_before(connection: asyncpg.Connection, moment: datetime) -> int:
    """Delete input that was refused before a time; returns how much it was."""
    answer: str = await connection.execute("DELETE FROM dead_letters WHERE received_at < $1", moment)
    return int(answer.split()[-1])


_SELECT = "SELECT id, kind, exchange, symbol, raw, error FROM dead_letters"


def _letter(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(**dict(row))

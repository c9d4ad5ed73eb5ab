"""Requests to fetch minutes again, left for the feed."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from db.repositories.checkpoints import milliseconds, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillRequest:
    """Open minutes from one to another, both included."""

    id: int
    symbol: str
    from_ms: int
    to_ms: int
    requested_by: str


async def request(
    connection: asyncpg.Connection, symbol: str, from_ms: int, to_ms: int, *, requested_by: str
) -> int | None:
    """Ask for minutes; None if an open request has them already."""
    number: int | None = await connection.fetchval(
        """
        INSERT INTO backfill_requests (symbol, from_at, to_at, requested_by)
        SELECT $1::varchar, $2::timestamptz, $3::timestamptz, $4 WHERE NOT EXISTS (
            SELECT FROM backfill_requests
            WHERE done_at IS NULL AND symbol = $1 AND from_at <= $2 AND to_at >= $3)
        RETURNING id
        """,
        symbol,
        moment(from_ms),
        moment(to_ms),
        requested_by,
    )
    return number


async def open_requests(connection: asyncpg.Connection, limit: int = 100) -> list[BackfillRequest]:
    """Read what nobody has fetched yet, the oldest first."""
    rows = await connection.fetch(
        """
        SELECT id, symbol, from_at, to_at, requested_by FROM backfill_requests
        WHERE done_at IS NULL ORDER BY id LIMIT $1
        """,
        limit,
    )
    return [
        BackfillRequest(
            id=row["id"],
            symbol=row["symbol"],
            from_ms=milliseconds(row["from_at"]),
            to_ms=milliseconds(row["to_at"]),
            requested_by=row["requested_by"],
        )
        for row in rows
    ]


async def finish(connection: asyncpg.Connection, number: int, result: str) -> None:
    """Note how a request ended."""
    await connection.execute(
        "UPDATE backfill_requests SET done_at = now(), result = $2 WHERE id = $1", number, result
    )

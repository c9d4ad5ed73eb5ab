"""Learn from the database itself when forecasts are committed: by a notification of the same transaction."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

_CHANNEL = "tidecast_bench"
# PostgreSQL sends a notification when its transaction is committed. The payload is the transaction's own
# time, which is also what `written_at` of its rows says.
_TRIGGER = f"""
CREATE OR REPLACE FUNCTION bench_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{_CHANNEL}', (EXTRACT(EPOCH FROM now()) * 1000000)::bigint::text);
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS bench_tell ON "persistentForecasts";
CREATE TRIGGER bench_tell AFTER INSERT ON "persistentForecasts"
    FOR EACH STATEMENT EXECUTE FUNCTION bench_tell();
"""


@dataclass(slots=True, eq=False)
class CommitWatch:
    """Notes when transactions with new forecasts are committed.

    Attributes
    ----------
    committed
        By the transaction's time in microseconds since 1970: `time.monotonic()` at the notification.
    """

    committed: dict[int, float] = field(default_factory=dict)

    def __call__(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        """Take a notification."""
        self.committed.setdefault(int(str(payload)), time.monotonic())


@contextlib.asynccontextmanager
async def watching(url: str) -> AsyncIterator[CommitWatch]:
    """Watch commits for the length of a block."""
    connection = await asyncpg.connect(url)
    watch = CommitWatch()
    try:
        await connection.execute(_TRIGGER)
        await connection.add_listener(_CHANNEL, watch)
        yield watch
    finally:
        await connection.close()


async def forecast_commits(url: str, watch: CommitWatch, *, from_ms: int) -> dict[tuple[str, int], float]:
    """Give, by symbol and open minute of the candle, when its last forecast row was committed."""
    # What was committed a moment ago may still be on its way to the listener.
    await asyncio.sleep(0)
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            """
            SELECT symbol, (EXTRACT(EPOCH FROM created_at) * 1000)::bigint - 60000 AS minute_ms,
                   (EXTRACT(EPOCH FROM max(written_at)) * 1000000)::bigint AS written
            FROM "persistentForecasts" WHERE created_at > to_timestamp($1 / 1000.0)
            GROUP BY symbol, created_at
            """,
            from_ms,
        )
    finally:
        await connection.close()
    return {
        (row["symbol"], row["minute_ms"]): watch.committed[row["written"]]
        for row in rows
        if row["written"] in watch.committed
    }


def latencies_ms(
    seen: Mapping[tuple[str, int], float], committed: Mapping[tuple[str, int], float], *, from_ms: int
) -> dict[tuple[str, int], float]:
    """Pair arrivals with commits, in milliseconds; only minutes from `from_ms` on that have both."""
    return {
        key: (committed[key] - arrived) * 1000
        for key, arrived in seen.items()
        if key[1] >= from_ms and key in committed
    }

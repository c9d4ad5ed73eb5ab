"""Lines of `"systemLogs"`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from db.copy import Columns, write


class Record(Protocol):
    """A line as it is to be written; its texts fit their columns."""

    @property
    def level(self) -> str:
        """One of debug, info, warning, error."""
        ...

    @property
    def category(self) -> str:
        """Kind of work."""
        ...

    @property
    def subcategory(self) -> str | None:
        """Kind of operation."""
        ...

    @property
    def message(self) -> str:
        """One sentence."""
        ...

    @property
    def context(self) -> Mapping[str, Any]:
        """JSON values."""
        ...

    @property
    def symbol(self) -> str | None:
        """Which symbol, if it is about one."""
        ...

    @property
    def stack_trace(self) -> str | None:
        """Of an error."""
        ...

    @property
    def timestamp_ms(self) -> int:
        """When, in milliseconds since 1970 UTC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line as it was written."""

    timestamp: datetime
    level: str
    category: str
    subcategory: str | None
    message: str
    symbol: str | None


async def insert(connection: asyncpg.Connection, records: Sequence[Record]) -> int:
    """Write lines, all or none; returns how many."""
    columns = {
        "timestamp": [record.timestamp_ms for record in records],
        "level": [record.level for record in records],
        "category": [record.category for record in records],
        "subcategory": [record.subcategory for record in records],
        "message": [record.message for record in records],
        "context": [record.context for record in records],
        "symbol": [record.symbol for record in records],
        "stack_trace": [record.stack_trace for record in records],
    }
    return await write(connection, Columns(table="systemLogs", op="insert", columns=columns))


async def newest_troubles(connection: asyncpg.Connection, limit: int = 20) -> list[Line]:
    """Read the newest warnings and errors."""
    rows = await connection.fetch(
        """
        SELECT "timestamp", level, category, subcategory, message, symbol FROM "systemLogs"
        WHERE level IN ('warning', 'error', 'critical') ORDER BY "timestamp" DESC LIMIT $1
        """,
        limit,
    )
    return [Line(**dict(row)) for row in rows]


async def drop_before(connection: asyncpg.Connection, moment: datetime) -> int:
    """Delete the lines before a time; returns how many."""
    status: str = await connection.execute('DELETE FROM "systemLogs" WHERE "timestamp" < $1', moment)
    return int(status.split()[-1])

"""What a recovery reads: the checkpoints there are, and the chart's candles from a minute on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import numpy as np

from db.repositories.checkpoints import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A row of `"recoveryState"` as people look at it.

    Attributes
    ----------
    position
        The next message and how many of its rows are done, `SEQUENCE.ROW`.
    state_bytes
        Of the snapshot; None where there is none.
    parked
        Events that this service steps over in this partition.
    error
        Of a parked event.
    """

    operation_id: str
    service_name: str
    partition: int
    checkpoint_type: str
    event_time: datetime | None
    position: str
    state_version: int | None
    state_bytes: int | None
    parked: int
    error: str | None


async def listed(connection: asyncpg.Connection) -> list[Listed]:
    """Read all checkpoints, by service, partition and time."""
    rows = await connection.fetch(
        """
        SELECT operation_id, service_name, partition, checkpoint_type, event_time,
               position_sequence || '.' || position_row AS position, state_version,
               length(snapshot) AS state_bytes, state_data->>'error' AS error,
               count(*) FILTER (WHERE checkpoint_type = 'error')
                   OVER (PARTITION BY service_name, partition) AS parked
        FROM "recoveryState"
        ORDER BY service_name, partition, event_time NULLS LAST, checkpoint_type, position_sequence
        """
    )
    return [Listed(**dict(row)) for row in rows]


async def candles(
    connection: asyncpg.Connection, symbol: str, from_ms: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Read a symbol's candles as the chart holds them: revised ones as revised.

    Returns
    -------
    Shape (rows, 6): open time in milliseconds, open, high, low, close, volume; in the order of time.
    """
    rows = await connection.fetch(
        """
        SELECT extract(epoch FROM "timestamp")::float8 * 1000, open::float8, high::float8, low::float8,
               close::float8, volume::float8
        FROM "rollingChartData" WHERE symbol = $1 AND "timestamp" >= $2 ORDER BY "timestamp"
        """,
        symbol,
        moment(from_ms),
    )
    return np.array([tuple(row) for row in rows], np.float64).reshape(len(rows), 6)

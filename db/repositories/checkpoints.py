"""Where every stage stands: positions, snapshots and parked events in `"recoveryState"`.

A service has one *position* row per partition, moved in the transaction of every batch, and keeps its newest
*snapshot* rows. Both are rows of one table; `checkpoint_type` tells them apart:

- `intermediate`: the position, operation id `SERVICE/PARTITION/position`;
- `success`: a snapshot, operation id `SERVICE/PARTITION/<event time>`;
- `error`: an event that was parked, operation id `SERVICE/PARTITION/parked/<sequence>.<row>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from db.one_statement import GuardError, OneStatement

SNAPSHOTS_KEPT = 24


class FencedError(RuntimeError):
    """Another process has moved this position: this one must start over from what is committed."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The next message to read, and how many rows of it are processed already."""

    sequence: int = 1
    row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a service has committed in one partition.

    Attributes
    ----------
    position
        What it reads next.
    event_time_ms
        The open minute up to which all its input is processed; None before the first.
    outbox_sequence
        The last message that it sent; 0 before the first.
    attempts
        Starts since it last got on: a rising number means that something in flight kills the process.
    written
        By table, the rows that it has added since its birth.
    """

    position: Position = Position()
    event_time_ms: int | None = None
    outbox_sequence: int = 0
    attempts: int = 0
    written: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A whole state of a stage, and where it stood in its input and output."""

    operation_id: str
    position: Position
    event_time_ms: int
    outbox_sequence: int
    state_version: int
    state: bytes


def moment(ms: int) -> datetime:
    """Turn milliseconds since the epoch into a UTC time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def milliseconds(when: datetime) -> int:
    """Turn a UTC time into milliseconds since the epoch."""
    return round(when.timestamp() * 1000)


def _operation(service: str, partition: int, what: str) -> str:
    return f"{service}/{partition}/{what}"


async def load(connection: asyncpg.Connection, service: str, partition: int) -> Checkpoint:
    """Read the committed position, or the beginning if there is none."""
    row = await connection.fetchrow(
        """
        SELECT position_sequence, position_row, event_time, outbox_sequence,
               COALESCE((state_data->>'attempts')::int, 0) AS attempts, state_data->'written' AS written
        FROM "recoveryState" WHERE service_name = $1 AND operation_id = $2
        """,
        service,
        _operation(service, partition, "position"),
    )
    if row is None:
        return Checkpoint()
    return Checkpoint(
        position=Position(row["position_sequence"], row["position_row"]),
        event_time_ms=None if row["event_time"] is None else milliseconds(row["event_time"]),
        outbox_sequence=row["outbox_sequence"],
        attempts=row["attempts"],
        written=row["written"] or {},
    )


async def count_start(connection: asyncpg.Connection, service: str, partition: int) -> int:
    """Note that the service starts in this partition; returns the starts since it last got on."""
    attempts: int = await connection.fetchval(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, partition, checkpoint_type, state_data,
                                     position_sequence, position_row, outbox_sequence, created_at)
        VALUES ($1, $2, $3, 'intermediate', jsonb_build_object('attempts', 1), 1, 0, 0, 'epoch')
        ON CONFLICT (service_name, operation_id) DO UPDATE
        SET state_data = "recoveryState".state_data || jsonb_build_object(
                'attempts', COALESCE(("recoveryState".state_data->>'attempts')::int, 0) + 1)
        RETURNING (state_data->>'attempts')::int
        """,
        service,
        _operation(service, partition, "position"),
        partition,
    )
    return attempts


async def advance(
    connection: asyncpg.Connection,
    service: str,
    partition: int,
    *,
    old: Checkpoint,
    new: Checkpoint,
    summary: dict[str, Any],
) -> None:
    """Move the position from `old` to `new`, in the caller's transaction.

    Of the state's description only what `summary` names is replaced.

    Raises
    ------
    FencedError
        If the position is not at `old` any more.
    """
    statement = OneStatement()
    advance_in(statement, service, partition, old=old, new=new, summary=summary)
    try:
        await statement.run(connection)
    except GuardError as error:
        raise fenced(service, partition, old) from error


def advance_in(
    statement: OneStatement,
    service: str,
    partition: int,
    *,
    old: Checkpoint,
    new: Checkpoint,
    summary: dict[str, Any],
) -> None:
    """Move the position as the guard of a statement: what fails is `fenced`."""
    take = statement.value
    operation = _operation(service, partition, "position")
    event_time = take(None if new.event_time_ms is None else moment(new.event_time_ms))
    statement.guard(
        f"""
        UPDATE "recoveryState"
        SET position_sequence = {take(new.position.sequence)}, position_row = {take(new.position.row)},
            event_time = {event_time}, outbox_sequence = {take(new.outbox_sequence)},
            state_data = state_data || {take({**summary, "written": new.written, "attempts": 0})},
            created_at = COALESCE({event_time}, created_at), written_at = now()
        WHERE service_name = {take(service)} AND operation_id = {take(operation)}
          AND position_sequence = {take(old.position.sequence)} AND position_row = {take(old.position.row)}
          AND outbox_sequence = {take(old.outbox_sequence)}
        RETURNING 1
        """  # noqa: S608 - places of arguments, no values
    )


def fenced(service: str, partition: int, old: Checkpoint) -> FencedError:
    """Say that the position was moved by somebody else."""
    return FencedError(
        f"{service} partition {partition}: the position is no longer {old.position.sequence}."
        f"{old.position.row}; another process has taken over"
    )


async def save_snapshot(
    connection: asyncpg.Connection,
    service: str,
    partition: int,
    *,
    at: Checkpoint,
    version: int,
    state: bytes,
    summary: dict[str, Any],
) -> None:
    """Keep a whole state beside the position, and drop the oldest ones."""
    if at.event_time_ms is None:
        return
    event_time = moment(at.event_time_ms)
    await connection.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, partition, checkpoint_type, state_data,
            position_sequence, position_row, event_time, outbox_sequence, state_version, snapshot, created_at)
        VALUES ($1, $2, $3, 'success', $4, $5, $6, $7, $8, $9, $10, $7)
        ON CONFLICT (service_name, operation_id) DO UPDATE
        SET state_data = EXCLUDED.state_data, position_sequence = EXCLUDED.position_sequence,
            position_row = EXCLUDED.position_row, outbox_sequence = EXCLUDED.outbox_sequence,
            state_version = EXCLUDED.state_version, snapshot = EXCLUDED.snapshot, written_at = now()
        """,
        service,
        _operation(service, partition, event_time.strftime("%Y%m%dT%H%MZ")),
        partition,
        summary,
        at.position.sequence,
        at.position.row,
        event_time,
        at.outbox_sequence,
        version,
        state,
    )
    await connection.execute(
        """
        DELETE FROM "recoveryState" WHERE id IN (
            SELECT id FROM "recoveryState"
            WHERE service_name = $1 AND partition = $2 AND checkpoint_type = 'success'
            ORDER BY event_time DESC OFFSET $3)
        """,
        service,
        partition,
        SNAPSHOTS_KEPT,
    )


async def newest_snapshot(
    connection: asyncpg.Connection, service: str, partition: int, version: int
) -> Snapshot | None:
    """Read the newest snapshot of this state version; None if there is none to go on from."""
    row = await connection.fetchrow(
        """
        SELECT operation_id, position_sequence, position_row, event_time, outbox_sequence, state_version,
               snapshot
        FROM "recoveryState"
        WHERE service_name = $1 AND partition = $2 AND checkpoint_type = 'success' AND state_version = $3
        ORDER BY event_time DESC, position_sequence DESC, position_row DESC LIMIT 1
        """,
        service,
        partition,
        version,
    )
    if row is None:
        return None
    return Snapshot(
        operation_id=row["operation_id"],
        position=Position(row["position_sequence"], row["position_row"]),
        event_time_ms=milliseconds(row["event_time"]),
        outbox_sequence=row["outbox_sequence"],
        state_version=row["state_version"],
        state=row["snapshot"],
    )


async def park(
    connection: asyncpg.Connection, service: str, partition: int, position: Position, error: str
) -> None:
    """Record that the event at `position` is stepped over, now and in every later recovery."""
    await connection.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, partition, checkpoint_type, state_data,
                                     position_sequence, position_row, outbox_sequence, created_at)
        VALUES ($1, $2, $3, 'error', $4, $5, $6, 0, now())
        ON CONFLICT (service_name, operation_id) DO NOTHING
        """,
        service,
        _operation(service, partition, f"parked/{position.sequence}.{position.row}"),
        partition,
        {"error": error},
        position.sequence,
        position.row,
    )


async def parked(connection: asyncpg.Connection, service: str, partition: int) -> frozenset[Position]:
    """List the events that this service steps over."""
    rows = await connection.fetch(
        """
        SELECT position_sequence, position_row FROM "recoveryState"
        WHERE service_name = $1 AND partition = $2 AND checkpoint_type = 'error'
        """,
        service,
        partition,
    )
    return frozenset(Position(row[0], row[1]) for row in rows)


async def progress(connection: asyncpg.Connection, services: list[str]) -> dict[tuple[str, int], Checkpoint]:
    """Read where services stand, by (service, partition)."""
    rows = await connection.fetch(
        """
        SELECT service_name, partition, position_sequence, position_row, event_time, outbox_sequence
        FROM "recoveryState" WHERE service_name = ANY($1) AND checkpoint_type = 'intermediate'
        """,
        services,
    )
    return {
        (row["service_name"], row["partition"]): Checkpoint(
            position=Position(row["position_sequence"], row["position_row"]),
            event_time_ms=None if row["event_time"] is None else milliseconds(row["event_time"]),
            outbox_sequence=row["outbox_sequence"],
        )
        for row in rows
    }


async def needed_from(connection: asyncpg.Connection, services: list[str], partition: int) -> int:
    """Tell the first message that any of the services may still have to read again.

    A service needs what lies behind its newest snapshot; one that has none, or has never run, needs all.
    """
    rows = await connection.fetch(
        """
        SELECT service_name, max(position_sequence) AS sequence FROM "recoveryState"
        WHERE service_name = ANY($1) AND partition = $2 AND checkpoint_type = 'success'
        GROUP BY service_name
        """,
        services,
        partition,
    )
    found = {row["service_name"]: row["sequence"] for row in rows}
    return min((found.get(service, 1) for service in services), default=1)

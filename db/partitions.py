"""Day partitions: made before they are needed, packed when they are old, dropped when past keeping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
import numpy as np

from db.copy import Rows, midnight
from db.tables import DAY_MS, TABLES, partition_name

DAYS_AHEAD = 1
_PACKED = "rollingChartData"
_LOCK = 7_414_502
#: Forecasts get their outcome later: with room on the page no index has to be touched for it.
_STORAGE = {"persistentForecasts": " WITH (fillfactor = 80)"}
#: Upkeep gives way to whoever reads a day, and comes back later.
_PATIENCE = "2s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """Partitions that were dropped, packed, or left for later because somebody was reading them."""

    dropped: tuple[str, ...]
    packed: tuple[str, ...]
    busy: tuple[str, ...]


class _Known(dict[str, set[int]]):
    """Days that a connection has seen, by table; it is of one database, and dies with its server."""


_known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


def _known_to(connection: asyncpg.Connection) -> _Known:
    try:
        return _known.setdefault(connection, _Known())
    except TypeError:
        # What a pool lends out is only a stand-in for a connection, and cannot be remembered.
        return _Known()


async def ensure_partitions(connection: asyncpg.Connection, rows: Rows) -> int:
    """Make the partitions that these rows need; returns how many were missing.

    See `ensure_days`.
    """
    table = TABLES[rows.table]
    if table.day is None or rows.op == "update" or not len(rows.columns[table.day]):
        return 0
    times = np.asarray(rows.columns[table.day])
    return await ensure_days(connection, rows.table, int(times.min()), int(times.max()))


async def ensure_days(connection: asyncpg.Connection, table: str, from_ms: int, to_ms: int) -> int:
    """Make the partitions of a table for rows of these times; returns how many were missing.

    Costs nothing once the connection has seen the days. Call it outside the transaction that writes: others
    go on while a partition is added, and a partition stays though the rows are rolled back.
    """
    known = _known_to(connection).setdefault(table, set())
    first, last = from_ms // DAY_MS, to_ms // DAY_MS
    if known.issuperset(range(first, last + 1)):
        return 0
    wanted = range(first, last + 1 + DAYS_AHEAD)
    made = await _make(connection, table, wanted)
    known.update(wanted)
    return made


async def known_days(connection: asyncpg.Connection, rows: Sequence[Rows]) -> dict[str, set[int]]:
    """List the days that these rows update and whose partitions are there, by table; remembered.

    One of them may have been dropped since.
    """
    found: dict[str, set[int]] = {}
    for part in rows:
        table = TABLES[part.table]
        if part.op != "update" or table.day is None or not len(part.columns[table.day]):
            continue
        known = _known_to(connection).setdefault(part.table, set())
        times = np.asarray(part.columns[table.day])
        if not known.issuperset(range(int(times.min()) // DAY_MS, int(times.max()) // DAY_MS + 1)):
            known.update(await existing(connection, part.table))
        found[part.table] = known
    return found


def forget_days(connection: asyncpg.Connection) -> None:
    """Forget which partitions are there, because one of them is not."""
    _known_to(connection).clear()


async def _make(connection: asyncpg.Connection, table: str, days: Iterable[int]) -> int:
    async with connection.transaction():
        # Workers meet at midnight: one makes the partition, the others find it.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        missing = sorted(set(days) - set(await existing(connection, table)))
        for day in missing:
            await connection.execute(_creation(table, day))
    return len(missing)


def _creation(table: str, day: int) -> str:
    # Made aside and attached: unlike PARTITION OF, that lets others read and write the table meanwhile.
    name = partition_name(table, day)
    column = TABLES[table].day
    bounds = f"FROM ({midnight(day)}) TO ({midnight(day + 1)})".replace("timestamptz ", "")
    inside = f'"{column}" >= {midnight(day)} AND "{column}" < {midnight(day + 1)}'
    return (
        f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING ALL, CONSTRAINT one_day CHECK ({inside}))'
        f"{_STORAGE.get(table, '')}; "
        f'ALTER TABLE "{table}" ATTACH PARTITION "{name}" FOR VALUES {bounds}; '
        f'ALTER TABLE "{name}" DROP CONSTRAINT one_day'
    )


async def existing(connection: asyncpg.Connection, table: str) -> list[int]:
    """List the days that have a partition, oldest first."""
    rows = await connection.fetch(
        """
        SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = $1::regclass ORDER BY child.relname
        """,
        f'"{table}"',
    )
    return [_day_of(row["relname"]) for row in rows]


def _day_of(partition: str) -> int:
    midnight = datetime.strptime(partition.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)
    return round(midnight.timestamp() * 1000) // DAY_MS


async def maintain(
    connection: asyncpg.Connection,
    *,
    event_time_ms: int,
    retention_days: int | None,
    pack_after_days: int | None,
) -> Upkeep:
    """Drop and pack old days of all partitioned tables, counted back from an event time; None leaves one out.

    A day is dropped once all of it is older than `retention_days`. Packing rewrites a day of
    `"rollingChartData"` in the order of its key, once (see docs/decisions/compression.md).
    """
    today = event_time_ms // DAY_MS
    done: dict[str, list[str]] = {"dropped": [], "packed": [], "busy": []}
    for table in TABLES.values():
        if table.day is None:
            continue
        for day in await existing(connection, table.name):
            name = partition_name(table.name, day)
            if retention_days is not None and day < today - retention_days:
                statement, outcome = f'DROP TABLE "{name}"', "dropped"
            elif pack_after_days is not None and table.name == _PACKED and day < today - pack_after_days:
                index = await _unpacked_key(connection, name)
                if index is None:
                    continue
                statement, outcome = f'CLUSTER "{name}" USING "{index}"', "packed"
            else:
                continue
            done[outcome if await _done(connection, statement) else "busy"].append(name)
    return Upkeep(dropped=tuple(done["dropped"]), packed=tuple(done["packed"]), busy=tuple(done["busy"]))


async def _done(connection: asyncpg.Connection, statement: str) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
            await connection.execute(statement)
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def _unpacked_key(connection: asyncpg.Connection, partition: str) -> str | None:
    # PostgreSQL itself remembers which tables were put in the order of an index.
    name: str | None = await connection.fetchval(
        """
        SELECT indexrelid::regclass::name FROM pg_index
        WHERE indrelid = $1::regclass AND indisunique AND NOT indisclustered
        """,
        f'"{partition}"',
    )
    return None if name is None else name.strip('"')

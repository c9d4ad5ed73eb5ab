"""Bulk writing of a stage's rows: COPY where rows are new, one set-based statement where they are not."""

# ruff: noqa: S608 - the names in these statements come from `db.tables`, the literals from numbers

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg
import numpy as np

from db.binary import encode
from db.tables import DAY_MS, TABLES, Table, partition_name


class Rows(Protocol):
    """Rows for one table, by column, as stages hand them over."""

    @property
    def table(self) -> str:
        """Name as in `db.tables.TABLES`."""
        ...

    @property
    def op(self) -> str:
        """One of `insert`, `upsert`, `update`."""
        ...

    @property
    def columns(self) -> Mapping[str, Any]:
        """Equally long arrays or lists."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Rows that this package itself writes in bulk."""

    table: str
    op: str
    columns: Mapping[str, Any]


async def write(connection: asyncpg.Connection, rows: Rows) -> int:
    """Write rows in the caller's transaction; returns how many rows of the table were written.

    `written_at` is the time of a row's first write: neither upsert nor update moves it, unless it is given.

    Raises
    ------
    KeyError
        If the table is unknown.
    ValueError
        If a column is unknown, missing from the key, of another length, or a value does not fit.
    """
    table = TABLES[rows.table]
    count = check(table, rows)
    if not count:
        return 0
    if rows.op == "insert":
        await _copy(connection, table.name, table, rows.columns, count)
        return count
    if rows.op not in ("upsert", "update"):
        raise ValueError(f"{rows.op!r} is no way to write rows: use insert, upsert or update")
    return await _merge(connection, table, rows, count)


def check(table: Table, rows: Rows) -> int:
    """Count rows that fit their table.

    Raises
    ------
    ValueError
        If a column is unknown, of another length, or missing from the key.
    """
    lengths = {name: len(values) for name, values in rows.columns.items()}
    if unknown := lengths.keys() - table.columns.keys():
        raise ValueError(f"{table.name} has no column {min(unknown)!r}; it has {', '.join(table.columns)}")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of {table.name} differ in length: {lengths}")
    if rows.op != "insert" and (missing := [name for name in table.key if name not in lengths]):
        raise ValueError(f"{rows.op} into {table.name} needs its key, without {', '.join(missing)}")
    return next(iter(lengths.values()), 0)


async def _copy(
    connection: asyncpg.Connection, target: str, table: Table, columns: Mapping[str, Any], count: int
) -> None:
    kinds = {name: table.columns[name] for name in columns}

    async def pieces() -> AsyncIterator[bytes]:
        for piece in encode(kinds, columns, count):
            yield piece

    await connection.copy_to_table(target, source=pieces(), columns=list(columns), format="binary")


async def _merge(connection: asyncpg.Connection, table: Table, rows: Rows, count: int) -> int:
    stage = f"stage_{table.name}"
    # Made AS SELECT, the temporary table has the types but neither constraints nor defaults. Few rows meet
    # many, each by its whole key. A day that has just been filled has no statistics yet, and without them the
    # planner likes to read all of it, or its block ranges, for every row: a minute instead of a second. So
    # every plan but a lookup in the key's own index is out, until the transaction ends.
    await connection.execute(
        f'CREATE TEMP TABLE IF NOT EXISTS "{stage}" ON COMMIT DELETE ROWS AS '
        f'SELECT * FROM "{table.name}" WITH NO DATA; DELETE FROM "{stage}"; '
        "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; "
        "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_material = off"
    )
    await _copy(connection, stage, table, rows.columns, count)
    statements = (
        [upsert_of(table, rows.columns, f'SELECT {listed(rows.columns)} FROM "{stage}"')]
        if rows.op == "upsert"
        else await _updates(connection, table, rows, f'"{stage}"')
    )
    return sum([int((await connection.execute(statement)).split()[-1]) for statement in statements])


async def _updates(connection: asyncpg.Connection, table: Table, rows: Rows, stage: str) -> list[str]:
    """Write one UPDATE for each day that is there; a day that was dropped has nothing to update.

    Naming the partition leaves the planner nothing to guess about the bounds of a day: with them it expects a
    handful of rows in a day without statistics, and reads all of it for every row that is updated.
    """
    if table.day is None:
        return [update_of(table.name, table, rows.columns, stage)]
    days = np.unique(np.asarray(rows.columns[table.day]) // DAY_MS)
    statements = []
    for day in days.tolist():
        partition = partition_name(table.name, day)
        if await connection.fetchval("SELECT to_regclass($1)", f'"{partition}"') is not None:
            update = update_of(partition, table, rows.columns, stage)
            statements.append(f"{update} AND {on_day(table, day)}")
    return statements


def upsert_of(table: Table, columns: Iterable[str], select: str) -> str:
    """Write the INSERT that replaces rows of the same key; by key: a trade ends before the next begins."""
    names, key = list(columns), listed(table.key)
    changed = [f'"{name}" = EXCLUDED."{name}"' for name in names if name not in table.key]
    action = f"DO UPDATE SET {', '.join(changed)}" if changed else "DO NOTHING"
    return (
        f'INSERT INTO "{table.name}" ({listed(names)}) {select} ORDER BY {key} ON CONFLICT ({key}) {action}'
    )


def update_of(target: str, table: Table, columns: Iterable[str], source: str) -> str:
    """Write the UPDATE of a table or a partition by the rows of `source`, which it calls `new`."""
    changed = [f'"{name}" = new."{name}"' for name in columns if name not in table.key]
    matches = [f'old."{name}" = new."{name}"' for name in table.key]
    return (
        f'UPDATE "{target}" AS old SET {", ".join(changed)} FROM {source} AS new '
        f"WHERE {' AND '.join(matches)}"
    )


def on_day(table: Table, day: int) -> str:
    """Write what holds for the rows of `new` that lie in a day."""
    return f'new."{table.day}" >= {midnight(day)} AND new."{table.day}" < {midnight(day + 1)}'


def listed(names: Iterable[str]) -> str:
    """Write names as a list of columns."""
    return ", ".join(f'"{name}"' for name in names)


def midnight(day: int) -> str:
    """Write the beginning of a UTC day, counted since the epoch."""
    return f"timestamptz '{datetime.fromtimestamp(day * DAY_MS / 1000, UTC).isoformat()}'"

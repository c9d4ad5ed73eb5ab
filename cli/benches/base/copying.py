"""What the rows of a pipeline cost by themselves: the same rows once more, by bare COPY into equal tables."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

#: Everything that the stages write, but for the logs.
TABLES = (
    "rollingChartData",
    "ml_features",
    "mlTrainingSamples",
    "persistentForecasts",
    "tradeSimulations",
    "mlTrainingBatches",
    "ml_models",
)
_SCHEMA = "bench_copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Rows of one table, and the seconds that their COPY and commit took."""

    rows: int
    seconds: float


async def copied_again(
    connection: asyncpg.Connection, *, tables: Sequence[str] = TABLES, where: str = "true"
) -> dict[str, Cost]:
    """Read rows, and time their bare binary COPY into fresh tables with the same keys, checks and indexes.

    A table with a partition a day is copied day by day, a transaction each, as few megabytes at once.
    """
    await connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE; CREATE SCHEMA {_SCHEMA}")
    try:
        return {table: await _table_again(connection, table, where) for table in tables}
    finally:
        await connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")


async def _table_again(connection: asyncpg.Connection, table: str, where: str) -> Cost:
    rows, seconds = 0, 0.0
    for part in await _parts(connection, table):
        content = io.BytesIO()
        status = await connection.copy_from_query(
            f'SELECT * FROM "{part}" WHERE {where}',  # noqa: S608 - our own names
            output=content,
            format="binary",
        )
        await connection.execute(f'CREATE TABLE {_SCHEMA}."{part}" (LIKE public."{table}" INCLUDING ALL)')
        content.seek(0)
        started = time.perf_counter()
        await connection.copy_to_table(part, schema_name=_SCHEMA, source=content, format="binary")
        seconds += time.perf_counter() - started
        rows += int(status.split()[-1])
    return Cost(rows=rows, seconds=seconds)


async def _parts(connection: asyncpg.Connection, table: str) -> list[str]:
    found = await connection.fetch(
        """
        SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = $1::regclass ORDER BY child.relname
        """,
        f'"{table}"',
    )
    return [row["relname"] for row in found] or [table]

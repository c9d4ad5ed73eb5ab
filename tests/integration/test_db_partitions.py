from __future__ import annotations

import asyncio

import asyncpg

from db.connect import pool
from db.copy import Columns, write
from db.partitions import ensure_days, existing, maintain
from db.tables import DAY_MS, TABLES

DAY = 18_719  # 2021-04-02
T0 = DAY * DAY_MS


def vectors(day: int) -> Columns:
    columns = {
        "symbol": ["A"], "timestamp": [day * DAY_MS], "close": [1.0], "is_complete": [True],
        "schema_hash": ["h"], "vector": [[1.0]],
    }  # fmt: skip
    return Columns(table="ml_features", op="insert", columns=columns)


async def test_a_day_and_the_next_are_made_once(database: asyncpg.Connection) -> None:
    assert await ensure_days(database, "ml_features", T0, T0 + 1) == 2
    assert await ensure_days(database, "ml_features", T0, T0 + DAY_MS) == 0
    assert await existing(database, "ml_features") == [DAY, DAY + 1]


async def test_workers_that_meet_at_midnight_make_it_once(database_url: str) -> None:
    async with await pool(database_url, min_size=4, max_size=4) as connections:

        async def work() -> int:
            async with connections.acquire() as connection:
                return await ensure_days(connection, "persistentForecasts", T0, T0 + 3 * DAY_MS)

        assert sorted(await asyncio.gather(*(work() for _ in range(4)))) == [0, 0, 0, 5]


async def test_a_partition_is_added_while_others_read_and_write(
    database: asyncpg.Connection, database_url: str
) -> None:
    await ensure_days(database, "ml_features", T0, T0)
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await write(other, vectors(DAY))
        await other.fetch("SELECT FROM ml_features")
        await asyncio.wait_for(ensure_days(database, "ml_features", T0 + 5 * DAY_MS, T0 + 5 * DAY_MS), 60)
    await other.close()
    assert await existing(database, "ml_features") == [DAY, DAY + 1, DAY + 5, DAY + 6]


async def test_a_partition_has_all_that_the_table_has(database: asyncpg.Connection) -> None:
    for table in (name for name, table in TABLES.items() if table.day):
        await ensure_days(database, table, T0, T0)
        invalid = await database.fetchval(
            "SELECT count(*) FROM pg_index WHERE indrelid = $1::regclass AND NOT indisvalid", f'"{table}"'
        )
        assert invalid == 0
        assert await database.fetchval(
            "SELECT count(*) FROM pg_inherits AS i JOIN pg_index AS x ON x.indexrelid = i.inhrelid"
            " WHERE x.indrelid = $1::regclass",
            f'"{table}_20210402"',
        ) == await database.fetchval(
            "SELECT count(*) FROM pg_index WHERE indrelid = $1::regclass", f'"{table}"'
        )
    storage = """
        SELECT attstorage::text FROM pg_attribute
        WHERE attrelid = '"mlTrainingSamples_20210402"'::regclass AND attname = 'features'
    """
    assert await database.fetchval(storage) == "e"


async def test_old_days_go_and_older_ones_are_packed_once(database: asyncpg.Connection) -> None:
    for table in ("rollingChartData", "ml_features"):
        await ensure_days(database, table, T0, T0 + 40 * DAY_MS)
    now_ms = T0 + 40 * DAY_MS
    done = await maintain(database, event_time_ms=now_ms, retention_days=30, pack_after_days=7)
    assert len(done.dropped) == 20
    assert done.packed[0] == "rollingChartData_20210412"
    assert len(done.packed) == 23
    assert done.busy == ()
    assert await existing(database, "ml_features") == list(range(DAY + 10, DAY + 42))
    again = await maintain(database, event_time_ms=now_ms, retention_days=30, pack_after_days=7)
    assert (again.dropped, again.packed) == ((), ())


async def test_upkeep_gives_way_to_readers(database: asyncpg.Connection, database_url: str) -> None:
    await ensure_days(database, "ml_features", T0, T0)
    reader = await asyncpg.connect(database_url)
    async with reader.transaction():
        await reader.fetch("SELECT FROM ml_features")
        done = await maintain(
            database, event_time_ms=T0 + 40 * DAY_MS, retention_days=39, pack_after_days=None
        )
    await reader.close()
    assert done.busy == ("ml_features_20210402",)
    later = await maintain(database, event_time_ms=T0 + 40 * DAY_MS, retention_days=39, pack_after_days=None)
    assert later.dropped == done.busy


async def test_without_limits_nothing_is_touched(database: asyncpg.Connection) -> None:
    await ensure_days(database, "rollingChartData", T0, T0)
    done = await maintain(database, event_time_ms=T0 + 99 * DAY_MS, retention_days=None, pack_after_days=None)
    assert (done.dropped, done.packed, done.busy) == ((), (), ())

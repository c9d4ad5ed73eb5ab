"""A connection as the workers open it, and a stand for runners of stages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from db.connect import connect
from streams.connection import connect as connect_redis

from .stage_stand import Stand


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's migrated database, opened by `db.connect`."""
    connection = await connect(database_url, give_up_s=60)
    yield connection
    await connection.close()


@pytest.fixture
async def stand(database_url: str, redis_url: str) -> AsyncIterator[Stand]:
    """A producer, a runner's database, and the wire between them."""
    database = await connect(database_url)
    client = connect_redis(redis_url)
    yield Stand(database_url, database, client)
    await client.aclose()
    await database.close()

"""A connection as the workers open it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from db.connect import connect


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's migrated database, opened by `db.connect`."""
    connection = await connect(database_url, give_up_s=5)
    yield connection
    await connection.close()

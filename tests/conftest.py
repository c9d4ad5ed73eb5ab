"""Real servers for tests: one PostgreSQL and one Valkey per test session, a fresh database per test."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
import redis
from hypothesis import settings
from psycopg import sql

from runtime.directory import Directory, Identity
from runtime.embedded import session
from runtime.ports import held

ROOT = Path(__file__).parent.parent
_TEMPLATE = "template_tidecast"
# How long an example takes tells how busy the machine is; the speed that is promised has benches of its own.
# Whoever develops draws new examples every time; what decides on a change draws the same ones.
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tests")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Directory]:
    """A folder for the session's servers, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tidecast-test-", ignore_cleanup_errors=True) as folder:
        identity = Identity(exchange="simulated", market="generated", seed=1, partitions=1)
        directory = Directory.create(Path(folder), identity)
        # Its servers are started when a test first wants them.
        with held(directory.ports.values()):
            yield directory


@pytest.fixture(scope="session")
def postgres_server(server_directory: Directory) -> Iterator[Directory]:
    """The session's PostgreSQL; without fsync, because no test pulls the plug of the machine."""
    with session.running("postgres", server_directory, ["fsync=off", "full_page_writes=off"]):
        yield server_directory


@pytest.fixture(scope="session")
def redis_server(server_directory: Directory) -> Iterator[Directory]:
    """The session's Valkey, append-only file on."""
    with session.running("redis", server_directory):
        yield server_directory


@pytest.fixture(scope="session")
def template_database(postgres_server: Directory) -> str:
    """The name of a migrated database that tests clone."""
    from db.migrate import migrate

    _create_database(postgres_server, _TEMPLATE, "template0")
    migrate(_url_of(postgres_server, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def database_url(postgres_server: Directory, template_database: str) -> Iterator[str]:
    """URL of a migrated, empty database of this test's own."""
    yield from _database(postgres_server, template_database)


@pytest.fixture
def empty_database_url(postgres_server: Directory) -> Iterator[str]:
    """URL of a database of this test's own, without any table."""
    yield from _database(postgres_server, "template0")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to this test's migrated database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A small pool over this test's migrated database."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=5) as pool:
        yield pool


@pytest.fixture
def redis_url(redis_server: Directory) -> Iterator[str]:
    """URL of the session's Valkey, emptied for this test."""
    client = redis.Redis.from_url(redis_server.redis_url)
    client.flushall()
    yield redis_server.redis_url
    client.close()


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded candles; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("TIDECAST_RECORDED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recorded candles at {folder}: set TIDECAST_RECORDED to a folder that has them")
    return folder


def _database(server: Directory, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _create_database(server, name, template)
    yield _url_of(server, name)
    with psycopg.connect(server.postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _create_database(server: Directory, name: str, template: str) -> None:
    with psycopg.connect(server.postgres_url, autocommit=True) as connection:
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(command.format(sql.Identifier(name), sql.Identifier(template)))


def _url_of(server: Directory, name: str) -> str:
    return server.postgres_url.rsplit("/", 1)[0] + f"/{name}"

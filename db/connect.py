"""Connections that wait for their server, and say what they wait for."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import orjson

APPLICATION = "tidecast"
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0

#: What may become of a question while its server goes away; the last is what asyncpg says of a session that
#: was ended in the middle of an answer.
LOST_ANSWER = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
#: Told what is waited for, why, and for how many seconds until the next try.
OnWait = Callable[[str, BaseException, float], None]

_T = TypeVar("_T")
# The server is away, starting, stopping, full, or was killed: it may come back. A wrong password or
# certificate does not.
_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
)


def is_passing(error: BaseException) -> bool:
    """Tell whether an error means that the server is away for now, and no fault of ours."""
    if isinstance(error, ssl.SSLCertVerificationError | asyncpg.ProtocolError):
        return False
    if "rejected SSL upgrade" in str(error):
        return False
    return isinstance(error, _PASSING) or (
        isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
    )


async def connect(
    dsn: str, *, on_wait: OnWait | None = None, give_up_s: float | None = None
) -> asyncpg.Connection:
    """Open a connection, waiting with growing pauses until the server answers.

    Parameters
    ----------
    on_wait
        Called before each pause.
    give_up_s
        After so many seconds the last error is raised; None waits for ever.
    """

    async def attempt() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, timeout=10, server_settings=_settings())

    connection = await _patiently(attempt, dsn, on_wait, give_up_s)
    await prepare(connection)
    return connection


async def pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 4,
    on_wait: OnWait | None = None,
    give_up_s: float | None = None,
) -> asyncpg.Pool:
    """Open a pool of connections, waiting with growing pauses until the server answers."""

    async def attempt() -> asyncpg.Pool:
        return await asyncpg.create_pool(
            dsn, min_size=min_size, max_size=max_size, timeout=10, init=prepare, server_settings=_settings()
        )

    return await _patiently(attempt, dsn, on_wait, give_up_s)


async def prepare(connection: asyncpg.Connection) -> None:
    """Make JSON columns take and give Python values."""
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=_json, decoder=orjson.loads, format="text"
        )


def place(dsn: str) -> str:
    """Name the server of a URL without user and password, for messages."""
    parts = urlsplit(dsn)
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2] or 'the local socket'}{parts.path}"


def _settings() -> dict[str, str]:
    # Compiling a plan takes longer than our short statements run.
    return {"application_name": APPLICATION, "timezone": "UTC", "jit": "off"}


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


async def _patiently(
    attempt: Callable[[], Awaitable[_T]], dsn: str, on_wait: OnWait | None, give_up_s: float | None
) -> _T:
    loop = asyncio.get_running_loop()
    started = loop.time()
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await attempt()
        except Exception as error:
            if not is_passing(error) or (give_up_s is not None and loop.time() - started >= give_up_s):
                raise
            pause_s = wait_s * random.uniform(0.5, 1)  # noqa: S311 - so that workers do not all knock at once
            if on_wait is not None:
                on_wait(place(dsn), error, pause_s)
            await asyncio.sleep(pause_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)

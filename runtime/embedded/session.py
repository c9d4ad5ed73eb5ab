"""Run embedded servers as children of this process, for commands and tests that need them for a while."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

from runtime.directory import Directory

ServerName = Literal["postgres", "redis"]
_STOP_SIGNAL: dict[ServerName, signal.Signals] = {"postgres": signal.SIGINT, "redis": signal.SIGTERM}
_ROOT = Path(__file__).parent.parent.parent


class ServerError(Exception):
    """An embedded server did not start."""


def start(
    name: ServerName, directory: Directory, extra: Sequence[str] = (), log: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server and return at once; `wait_until_up` waits for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "runtime.embedded", name, str(directory.path), *extra],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C goes to this process, which then ends the server
    )


def stop(name: ServerName, process: subprocess.Popen[bytes], grace_s: float = 6.0) -> None:
    """End a server in good order, or else by force."""
    if process.poll() is None:
        process.send_signal(_STOP_SIGNAL[name])
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_up(
    name: ServerName,
    directory: Directory,
    process: subprocess.Popen[bytes] | None = None,
    wait_s: float = 120.0,
) -> None:
    """Wait until the server answers a query.

    Raises
    ------
    ServerError
        If the process ended, or nothing answers within `wait_s`.
    """
    answers = {"postgres": postgres_answers, "redis": redis_answers}[name]
    url = {"postgres": directory.postgres_url, "redis": directory.redis_url}[name]
    deadline = time.monotonic() + wait_s
    while (problem := answers(url)) is not None:
        log = directory.log / f"{name}.log"
        if process is not None and process.poll() is not None:
            raise ServerError(f"{name} ended with code {process.returncode}: see {log}")
        if time.monotonic() > deadline:
            raise ServerError(f"{name} does not answer after {wait_s:g} s ({problem}): see {log}")
        time.sleep(0.02)


def postgres_answers(url: str, timeout_s: float = 2.0) -> str | None:
    """Ask PostgreSQL for a row; None when it answers, else what is wrong."""
    import psycopg  # here, because the servers' wrapper shares this package and must start fast

    try:
        with psycopg.connect(url, connect_timeout=max(2, round(timeout_s))) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return str(error).strip() or type(error).__name__
    return None


def redis_answers(url: str, timeout_s: float = 2.0) -> str | None:
    """Ask the Redis-compatible server, Cluster or Sentinel for a PONG; None if it comes."""
    import redis  # here, because the servers' wrapper shares this package and must start fast

    if not url.startswith(("redis://", "rediss://", "unix://")):
        return asyncio.run(_many_answer(url, timeout_s))
    try:
        client = redis.Redis.from_url(
            url, retry=None, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
    except (ValueError, TypeError):
        return "its URL cannot be read"  # and what the parser says of it may quote a password
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        client.close()
    return None


async def _many_answer(url: str, timeout_s: float) -> str | None:
    import redis

    from streams.connection import BadRedisUrlError, connect

    try:
        client = connect(url)
    except BadRedisUrlError as error:
        return str(error)
    try:
        await asyncio.wait_for(client.ping(), timeout_s)
    except (redis.RedisError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    finally:
        await client.aclose()
    return None


@contextlib.contextmanager
def running(name: ServerName, directory: Directory, extra: Sequence[str] = ()) -> Iterator[None]:
    """Have a server of the folder for the length of a block, its output in the folder's logs.

    Raises
    ------
    ServerError
        If it does not start.
    """
    directory.make_folders()
    with (directory.log / f"{name}.log").open("ab") as log:
        process = start(name, directory, extra, log)
        try:
            wait_until_up(name, directory, process)
            yield
        finally:
            stop(name, process)

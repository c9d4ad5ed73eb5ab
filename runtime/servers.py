"""Which servers a pipeline uses: its folder's own, or those that the settings name by URL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from config.errors import ConfigurationError, Mistake
from config.market import ServerSettings
from runtime.directory import Directory, DirectoryBusyError
from runtime.embedded import session
from runtime.ports import held
from streams.connection import BadRedisUrlError
from streams.connection import connect as connect_redis

#: Commands that keep the folder's servers running for others.
LASTING = frozenset({"up", "replay", "starting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """URLs, passwords included, and whether the folder's own servers are meant."""

    postgres_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    embedded_postgres: bool
    embedded_redis: bool


def servers_of(directory: Directory, settings: ServerSettings) -> Servers:
    """Choose the servers of a pipeline."""
    postgres, redis = settings.postgres_url, settings.redis_url
    return Servers(
        postgres_url=postgres.get_secret_value() if postgres else directory.postgres_url,
        redis_url=redis.get_secret_value() if redis else directory.redis_url,
        embedded_postgres=postgres is None,
        embedded_redis=redis is None,
    )


def check_servers(settings: ServerSettings) -> None:
    """Find out before anything starts whether the URLs can be read; nothing is sent.

    Raises
    ------
    config.errors.ConfigurationError
        If one cannot.
    """
    if settings.redis_url is None:
        return
    try:
        connect_redis(settings.redis_url.get_secret_value())
    except BadRedisUrlError as error:
        raise ConfigurationError([Mistake(key="servers.redis_url", problem=str(error))]) from None


@contextlib.contextmanager
def postgres_for(
    directory: Directory, settings: ServerSettings, purpose: str, wait_s: float = 60.0
) -> Iterator[str]:
    """Have PostgreSQL for the length of a block, whether or not the folder is running.

    If nothing runs in the folder, its server is started and stopped again; other commands wait meanwhile.

    Parameters
    ----------
    directory
        The folder.
    settings
        May name a server by URL, which is then used.
    purpose
        The command, for whoever finds the folder locked.
    wait_s
        How long another short command may keep the folder, and a starting server may take.

    Raises
    ------
    DirectoryBusyError
        If another short command keeps the folder for longer than `wait_s`.
    runtime.embedded.session.ServerError
        If the folder's server does not answer.
    """
    servers = servers_of(directory, settings)
    if not servers.embedded_postgres:
        yield servers.postgres_url
        return
    deadline = time.monotonic() + wait_s
    with contextlib.ExitStack() as stack:
        while True:
            holder = directory.holder()
            if holder is not None and holder.purpose in LASTING and holder.pid:
                session.wait_until_up("postgres", directory, wait_s=max(1.0, deadline - time.monotonic()))
                break
            try:
                stack.enter_context(directory.lock(purpose))
            except DirectoryBusyError:
                if time.monotonic() > deadline:
                    raise
            else:
                # The ports may have been taken while nothing ran here, and are read again by the server.
                directory = directory.with_free_ports()
                stack.enter_context(held([directory.port("postgres")]))
                stack.enter_context(session.running("postgres", directory))
                break
        yield directory.postgres_url

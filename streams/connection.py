"""Connect to Redis or Valkey: one server, TLS, Sentinel or Cluster, by the URL's scheme.

- `redis://` and `rediss://`: one server;
- `redis+cluster://` and `rediss+cluster://`: any node of a cluster;
- `redis+sentinel://[user:password@]host:port,host:port/SERVICE[/DB]`: the master that the sentinels name.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio as redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

#: Longer than any block that a reader asks for, so that a silent stream is no error.
SOCKET_TIMEOUT_S = 10.0
# The callers loop with their own patience; a client that retries inside hides outages for minutes.
_OPTIONS: dict[str, Any] = {"socket_timeout": SOCKET_TIMEOUT_S, "socket_connect_timeout": 3.0, "protocol": 2}


class BadRedisUrlError(ValueError):
    """The URL names no Redis server that this program knows to reach."""


def connect(url: str) -> Any:
    """Make a client for the URL; nothing is sent yet.

    Raises
    ------
    BadRedisUrlError
        If the scheme is unknown or the sentinel URL lacks its service; the message holds no password.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("redis", "rediss", "unix"):
        return redis.from_url(url, retry=Retry(NoBackoff(), 0), **_OPTIONS)
    if scheme in ("redis+cluster", "rediss+cluster"):
        return RedisCluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **_OPTIONS)
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel_master(scheme, rest)
    raise BadRedisUrlError(
        f"Redis URL with scheme {scheme!r}: use redis://, rediss://, redis+cluster:// or redis+sentinel://"
    )


def _sentinel_master(scheme: str, rest: str) -> Any:
    authority, _, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    service, _, database = path.partition("/")
    if not service or not hosts:
        raise BadRedisUrlError(
            "a Sentinel URL names its hosts and service: redis+sentinel://host:26379,host:26379/mymaster"
        )
    nodes = []
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        nodes.append((parts.hostname or "localhost", parts.port or 26379))
    user, _, password = credentials.partition(":")
    secret: dict[str, Any] = {}
    if password:
        secret = {"username": unquote(user) or None, "password": unquote(password)}
    options = {**_OPTIONS, "ssl": scheme.startswith("rediss"), **secret}
    sentinel = Sentinel(nodes, sentinel_kwargs={"socket_timeout": 3.0}, **options)  # type: ignore[no-untyped-call]
    return sentinel.master_for(service, db=int(database or 0))

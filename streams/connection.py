"""Connect to Redis or Valkey: one server, TLS, Sentinel or Cluster, by the URL's scheme.

- `redis://` and `rediss://`: one server;
- `redis+cluster://` and `rediss+cluster://`: any node of a cluster;
- `redis+sentinel://[user:password@]host:port,host:port/SERVICE[/DB]`: the master that the sentinels name.
  User and password are the servers'; the sentinels' own follow as `?sentinel_username=` and
  `?sentinel_password=`. With `rediss+sentinel://` both are spoken to over TLS.

All take the client library's options behind a question mark, such as `?ssl_ca_certs=/etc/ssl/my-ca.pem`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import redis.asyncio as redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

#: Longer than any block that a reader asks for, so that a silent stream is no error.
SOCKET_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 3.0
_OPTIONS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT_S,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "protocol": 2,
}
#: A cluster that has moved is seen by its first error; one more try finds the new owner.
_CLUSTER_TRIES = 1


class BadRedisUrlError(ValueError):
    """The URL names no Redis server that this program knows to reach."""


def connect(url: str) -> Any:
    """Make a client for the URL; nothing is sent yet.

    Whatever keeps the server from answering is raised by the client as a `redis.RedisError` or an `OSError`.

    Raises
    ------
    BadRedisUrlError
        If the URL cannot be read, or names what its scheme does not have; the message holds no password.
    """
    scheme, _, rest = url.partition("://")
    try:
        if scheme in ("redis", "rediss", "unix"):
            return redis.from_url(url, retry=_impatient(), **_OPTIONS)
        if scheme in ("redis+cluster", "rediss+cluster"):
            return _Cluster.from_url(
                f"{scheme.removesuffix('+cluster')}://{rest}",
                retry=Retry(NoBackoff(), _CLUSTER_TRIES),
                **_OPTIONS,
            )
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _sentinel_master(scheme.removesuffix("+sentinel"), rest)
    except BadRedisUrlError:
        raise
    except (ValueError, TypeError, RedisError, RedisClusterException):
        # What a parser says of a URL may quote a password that was not percent-encoded.
        raise BadRedisUrlError(
            f"the Redis URL ({scheme}://...) cannot be read: look at its port, database and options, and "
            "percent-encode what is special in user and password"
        ) from None
    raise BadRedisUrlError(
        f"Redis URL with scheme {scheme!r}: use redis://, rediss://, redis+cluster:// or redis+sentinel://"
    )


class _Cluster(RedisCluster):
    """A cluster whose absence is a connection error, as that of a single server is."""

    async def initialize(self, *args: Any, **options: Any) -> RedisCluster:
        try:
            return await super().initialize(*args, **options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().execute_command(*args, **options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


class _Master(redis.Redis):
    """The master that sentinels name; closing it closes the connections to them, too."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        await pool.sentinel_manager.aclose()


def _impatient() -> Retry:
    # The callers loop with their own patience; a client that retries inside hides outages for minutes.
    return Retry(NoBackoff(), 0)


def _sentinel_master(scheme: str, rest: str) -> Any:
    parts = urlsplit(f"//{rest}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.lstrip("/").partition("/")
    if not service or not hosts:
        raise BadRedisUrlError(
            "a Sentinel URL names its hosts and service: redis+sentinel://host:26379,host:26379/mymaster"
        )
    nodes = []
    for host in hosts.split(","):
        node = urlsplit(f"//{host}")
        nodes.append((node.hostname or "localhost", node.port or 26379))
    given: dict[str, Any] = dict(parse_url(f"{scheme}://{credentials}@?{parts.query}"))
    given.pop("connection_class", None)
    own = {
        name: given.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in given
    }
    secret = {name: given.pop(name) for name in ("username", "password") if name in given}
    options = {**_OPTIONS, "ssl": scheme == "rediss", **given}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        nodes,
        sentinel_kwargs={
            **options,
            **own,
            "socket_timeout": min(CONNECT_TIMEOUT_S, float(options["socket_timeout"])),
            "retry": _impatient(),
        },
        **options,
        **secret,
        retry=_impatient(),
    )
    return sentinel.master_for(service, redis_class=_Master, db=int(database or 0))

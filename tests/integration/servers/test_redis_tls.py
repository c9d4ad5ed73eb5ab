"""`rediss://` and its kin: TLS in front of the embedded server, and a server that was built with TLS."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import RedisError

from runtime.embedded.session import redis_answers
from streams import stream
from streams.connection import connect

KEY = "test:{features:0}"
SERVICE = "mymaster"


async def journey(url: str) -> None:
    """Publish, read and trim as the workers do."""
    async with contextlib.aclosing(connect(url)) as client:
        for sequence in (1, 2, 3):
            assert await stream.publish(client, KEY, sequence, b"x" * 100_000, cap=10)
        assert not await stream.publish(client, KEY, 3, b"x", cap=10)
        entries = await stream.read(client, KEY, first=2, count=9, block_ms=10)
        assert [entry.sequence for entry in entries] == [2, 3]
        assert await stream.read(client, KEY, first=4, count=9, block_ms=20) == []
        await stream.trim(client, KEY, before=2)


async def answers(url: str) -> str | None:
    return await asyncio.to_thread(redis_answers, url)


async def test_streams_go_through_tls(fleet, ports, authority, tls_in_front):
    (plain,) = ports(1)
    fleet.node(plain, "requirepass secret")
    port = await tls_in_front(plain, authority)
    url = f"rediss://:secret@127.0.0.1:{port}/0?ssl_ca_certs={authority.ca}"
    await journey(url)
    assert await answers(url) is None


@pytest.mark.parametrize("signed_by", ["stranger", "elsewhere"])
async def test_a_certificate_that_is_not_the_servers_is_refused(
    fleet, ports, authority, tls_in_front, request, signed_by
):
    wrong = request.getfixturevalue(signed_by)
    (plain,) = ports(1)
    fleet.node(plain)
    port = await tls_in_front(plain, wrong)
    trusted = authority.ca if signed_by == "stranger" else wrong.ca
    url = f"rediss://:hunter2@127.0.0.1:{port}/0?ssl_ca_certs={trusted}&ssl_check_hostname=true"
    async with contextlib.aclosing(connect(url)) as client:
        with pytest.raises(RedisError, match="certificate verify failed") as caught:
            await stream.publish(client, KEY, 1, b"x", cap=10)
    assert "hunter2" not in str(caught.value)
    assert "certificate verify failed" in str(await answers(url))


async def test_a_server_that_speaks_no_tls_is_refused(fleet, ports, authority):
    (plain,) = ports(1)
    fleet.node(plain)
    url = f"rediss://127.0.0.1:{plain}/0?ssl_ca_certs={authority.ca}"
    async with contextlib.aclosing(connect(url)) as client:
        with pytest.raises((RedisError, OSError)):
            await stream.publish(client, KEY, 1, b"x", cap=10)


async def test_streams_go_through_tls_to_a_cluster(fleet, ports, authority, tls_in_front, until):
    plain, bus, announced = ports(3)
    fleet.node(
        plain,
        "cluster-enabled yes",
        f"cluster-port {bus}",
        "cluster-announce-ip 127.0.0.1",
        f"cluster-announce-port {announced}",
    )
    await tls_in_front(plain, authority, at=announced)
    async with redis.Redis(port=plain) as node:
        await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)

        async def is_whole() -> bool:
            return (await node.cluster("info"))["cluster_state"] == "ok"

        await until(is_whole)
    url = f"rediss+cluster://127.0.0.1:{announced}/0?ssl_ca_certs={authority.ca}"
    await journey(url)
    assert await answers(url) is None


def tls_lines(port: int, authority: Any) -> list[str]:
    return [
        "port 0",
        f"tls-port {port}",
        f'tls-cert-file "{authority.certificate}"',
        f'tls-key-file "{authority.key}"',
        f'tls-ca-cert-file "{authority.ca}"',
        "tls-auth-clients no",
        "tls-replication yes",
        "tls-cluster yes",
    ]


def start_tls(fleet, port: int, authority: Any, *lines: str, sentinel: bool = False) -> None:
    fleet.start(port, *tls_lines(port, authority), *lines, sentinel=sentinel, plain=False)


async def has_answered(until, port: int, ca: Path) -> None:
    async def answered() -> bool:
        async with redis.Redis(port=port, host="127.0.0.1", ssl=True, ssl_ca_certs=str(ca)) as client:
            return bool(await client.ping())

    await until(answered)


async def test_a_server_with_tls_of_its_own(tls_fleet, ports, authority, stranger, until):
    (port,) = ports(1)
    start_tls(tls_fleet, port, authority)
    await has_answered(until, port, authority.ca)
    url = f"rediss://127.0.0.1:{port}/0"
    await journey(f"{url}?ssl_ca_certs={authority.ca}")
    assert "certificate verify failed" in str(await answers(f"{url}?ssl_ca_certs={stranger.ca}"))


async def test_a_cluster_with_tls_of_its_own(tls_fleet, ports, authority, until):
    port, bus = ports(2)
    start_tls(tls_fleet, port, authority, "cluster-enabled yes", f"cluster-port {bus}")
    await has_answered(until, port, authority.ca)
    async with redis.Redis(port=port, host="127.0.0.1", ssl=True, ssl_ca_certs=str(authority.ca)) as node:
        await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)

        async def is_whole() -> bool:
            return (await node.cluster("info"))["cluster_state"] == "ok"

        await until(is_whole)
    await journey(f"rediss+cluster://127.0.0.1:{port}/0?ssl_ca_certs={authority.ca}")


async def test_a_sentinel_with_tls_of_its_own(tls_fleet, ports, authority, until):
    port, sentinel = ports(2)
    start_tls(tls_fleet, port, authority)
    await has_answered(until, port, authority.ca)
    start_tls(tls_fleet, sentinel, authority, f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1", sentinel=True)
    await has_answered(until, sentinel, authority.ca)
    url = f"rediss+sentinel://127.0.0.1:{sentinel}/{SERVICE}?ssl_ca_certs={authority.ca}"
    await journey(url)
    assert await answers(url) is None

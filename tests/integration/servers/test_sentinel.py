"""Streams through Sentinel, with a master, a replica and a sentinel that are real."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import RedisError

from runtime.embedded.session import redis_answers
from streams import stream
from streams.connection import connect

KEY = "test:{features:0}"
SERVICE = "mymaster"


class Watched:
    """A master, its replica, and the sentinel that watches them."""

    def __init__(self, fleet: Any, ports: Any, *, password: str = "", sentinel_password: str = "") -> None:
        self.fleet = fleet
        self.master, self.replica, self.sentinel = ports(3)
        secret = [f"requirepass {password}", f"masterauth {password}"] if password else []
        fleet.node(self.master, *secret)
        fleet.node(self.replica, f"replicaof 127.0.0.1 {self.master}", "repl-diskless-sync-delay 0", *secret)
        fleet.start(
            self.sentinel,
            f"port {self.sentinel}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.master} 1",
            f"sentinel down-after-milliseconds {SERVICE} 300",
            f"sentinel failover-timeout {SERVICE} 2000",
            *([f"sentinel auth-pass {SERVICE} {password}"] if password else []),
            *([f"requirepass {sentinel_password}"] if sentinel_password else []),
            sentinel=True,
        )
        self.password = password

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.place}/{SERVICE}"

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.sentinel}"

    async def replica_follows(self) -> bool:
        """Whether sentinel and master know the replica, and it has all that was written."""
        async with redis.Redis(port=self.sentinel) as sentinel:
            known = await sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)
        async with redis.Redis(port=self.master, password=self.password or None) as master:
            told = await master.info("replication")
        return len(known) == 1 and told.get("slave0", {}).get("offset") == told["master_repl_offset"]


@pytest.fixture
def watched(fleet, ports):
    return Watched(fleet, ports)


async def test_messages_go_on_through_the_death_of_the_master(watched, until):
    client = connect(watched.url)
    for sequence in range(1, 6):
        assert await stream.publish(client, KEY, sequence, b"before %d" % sequence, cap=1000)
    await until(watched.replica_follows)

    watched.fleet.kill(watched.master)

    async def published() -> bool:
        # As the runner does: whatever the wire says, it is tried again, and twice is once.
        await stream.publish(client, KEY, 6, b"after", cap=1000)
        return True

    await until(published)
    entries = await stream.read(client, KEY, first=1, count=100, block_ms=0)
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert await stream.last_sequence(client, KEY) == 6
    async with redis.Redis(port=watched.replica) as replica:
        assert (await replica.role())[0] == b"master"
    await client.aclose()


async def test_what_is_down_is_an_error_that_the_callers_wait_out(watched):
    client = connect(watched.url)
    watched.fleet.kill_all()
    with pytest.raises((RedisError, OSError)):
        await stream.read(client, KEY, first=1, count=1, block_ms=10)
    await client.aclose()
    assert "No master found" in str(await asyncio.to_thread(redis_answers, watched.url))


def test_the_first_sentinel_of_the_list_may_be_down(watched, ports):
    (nobody,) = ports(1)
    assert redis_answers(f"redis+sentinel://127.0.0.1:{nobody},{watched.place}/{SERVICE}/0") is None


def test_a_service_that_the_sentinel_does_not_know_is_named(watched):
    assert "'other'" in str(redis_answers(f"redis+sentinel://{watched.place}/other"))


def test_servers_and_sentinels_have_passwords_of_their_own(fleet, ports):
    watched = Watched(fleet, ports, password="servers", sentinel_password="sentinels")
    url = f"redis+sentinel://:servers@{watched.place}/{SERVICE}?sentinel_password=sentinels"
    assert redis_answers(url) is None
    wrong = str(redis_answers(url.replace("=sentinels", "=hunter2")))
    assert "hunter2" not in wrong
    assert "password" in wrong
    assert "hunter2" not in str(redis_answers(url.replace(":servers@", ":hunter2@")))

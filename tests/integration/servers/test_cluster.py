"""Streams over a cluster of three real masters."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import RedisError

from runtime.embedded.session import redis_answers
from streams import stream, topics
from streams.connection import connect

#: The streams of so many partitions lie on every node.
KEYS = [topics.key("test", "features", partition) for partition in range(32)]
SLOTS = 16_384


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, fleet: Any, ports: Any) -> None:
        self.fleet = fleet
        self.nodes = ports(3)
        self._buses = dict(zip(self.nodes, ports(3), strict=True))

    def start(self, port: int, *lines: str) -> None:
        """Start a node; it finds the others by itself if it has met them."""
        self.fleet.node(
            port,
            "cluster-enabled yes",
            f"cluster-port {self._buses[port]}",
            "cluster-node-timeout 1000",
            *lines,
        )

    async def join(self) -> None:
        """Give each node its share of the slots, and make them meet."""
        for number, port in enumerate(self.nodes):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            async with redis.Redis(port=port) as node:
                await node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                for other in self.nodes[:number]:
                    await node.execute_command("CLUSTER", "MEET", "127.0.0.1", other, self._buses[other])

    async def is_whole(self) -> bool:
        """Whether every node sees all the others and all slots."""
        for port in self.nodes:
            async with redis.Redis(port=port) as node:
                seen = await node.cluster("info")
            if seen["cluster_state"] != "ok" or seen["cluster_size"] != "3":
                return False
        return True

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0]}/0"


@pytest.fixture
async def cluster(fleet, ports, until):
    made = Cluster(fleet, ports)
    for port in made.nodes:
        made.start(port)
    await made.join()
    await until(made.is_whole)
    return made


async def _holders(client) -> set[int]:
    return {client.get_node_from_key(key).port for key in KEYS}


async def test_streams_of_all_partitions_work_wherever_they_lie(cluster):
    async with contextlib.aclosing(connect(cluster.url)) as client:
        for key in KEYS:
            for sequence in range(1, 301):
                if sequence % 100 in (0, 1):
                    assert await stream.publish(client, key, sequence, b"%d" % sequence, cap=1000)
            assert not await stream.publish(client, key, 300, b"again", cap=1000)
            entries = await stream.read(client, key, first=100, count=3, block_ms=10)
            assert [(entry.sequence, entry.payload) for entry in entries] == [
                (100, b"100"),
                (101, b"101"),
                (200, b"200"),
            ]
            assert await stream.last_sequence(client, key) == 300
            assert await stream.read(client, key, first=301, count=1, block_ms=1) == []
        assert await _holders(client) == set(cluster.nodes)
        pipe = client.pipeline(transaction=False)
        for key in KEYS:
            pipe.hset(f"{key}:hash", mapping={"a": b"1"})
        assert await pipe.execute() == [1] * len(KEYS)


async def test_streams_are_trimmed_and_capped(cluster):
    async with contextlib.aclosing(connect(cluster.url)) as client:
        for key in KEYS[:6]:
            for sequence in range(1, 501):
                await stream.publish(client, key, sequence, b"x", cap=300)
            assert await client.xlen(key) <= 400
            await stream.trim(client, key, before=450)
            left = await stream.read(client, key, first=1, count=500, block_ms=0)
            assert len(left) < 200
            assert [entry.sequence for entry in left][-51:] == list(range(450, 501))


async def test_a_node_that_dies_and_comes_back_is_waited_for(cluster, until):
    async with contextlib.aclosing(connect(cluster.url)) as client:
        for key in KEYS:
            await stream.publish(client, key, 1, b"before", cap=10)
        lost = cluster.nodes[0]
        theirs = [key for key in KEYS if client.get_node_from_key(key).port == lost]
        cluster.fleet.kill(lost)
        with pytest.raises((RedisError, OSError)):
            await stream.publish(client, theirs[0], 2, b"meanwhile", cap=10)

        cluster.start(lost)

        for key in KEYS:

            async def published(key: str = key) -> bool:
                await stream.publish(client, key, 2, b"after", cap=10)
                return True

            await until(published)
            entries = await stream.read(client, key, first=1, count=10, block_ms=0)
            assert [entry.sequence for entry in entries] == [1, 2]


async def test_slots_that_move_to_another_node_are_followed(cluster):
    source, target = cluster.nodes[:2]
    async with contextlib.aclosing(connect(cluster.url)) as client:
        await stream.publish(client, KEYS[0], 1, b"before", cap=10)
        source = client.get_node_from_key(KEYS[0]).port
        target = next(port for port in cluster.nodes if port != source)
        slot = client.keyslot(KEYS[0])
        async with redis.Redis(port=source) as giver, redis.Redis(port=target) as taker:
            giver_id = (await giver.execute_command("CLUSTER", "MYID")).decode()
            taker_id = (await taker.execute_command("CLUSTER", "MYID")).decode()
            await taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", giver_id)
            await giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", taker_id)
            await giver.execute_command("MIGRATE", "127.0.0.1", target, KEYS[0], 0, 5000)
            # Asked in the middle of the move, and after it.
            assert await stream.publish(client, KEYS[0], 2, b"between", cap=10)
            for node in (taker, giver):
                await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", taker_id)
        assert await stream.publish(client, KEYS[0], 3, b"after", cap=10)
        entries = await stream.read(client, KEYS[0], first=1, count=10, block_ms=0)
        assert [entry.sequence for entry in entries] == [1, 2, 3]


async def test_a_cluster_that_is_away_is_an_error_that_the_callers_wait_out(ports):
    (nobody,) = ports(1)
    url = f"redis+cluster://:hunter2@127.0.0.1:{nobody}"
    async with contextlib.aclosing(connect(url)) as client:
        with pytest.raises(RedisError, match="cannot be connected") as caught:
            await stream.publish(client, KEYS[0], 1, b"x", cap=10)
        pipe = client.pipeline(transaction=False)
        pipe.hset("a", "b", "c")
        with pytest.raises(RedisError):
            await pipe.execute()
    assert "hunter2" not in str(caught.value)


def test_a_cluster_answers_for_the_doctor(cluster, ports):
    (nobody,) = ports(1)
    assert redis_answers(cluster.url) is None
    assert "cannot be connected" in str(redis_answers(f"redis+cluster://127.0.0.1:{nobody}"))

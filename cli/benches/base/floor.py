"""What the servers alone take for the hops of a candle: three bare commits, and streams between them."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from streams import stream
from streams.connection import connect as connect_redis

_STAGES = 3
_PAYLOAD = b"x" * 4_000
_WARM_UP = 20


async def hops_ms(
    postgres_url: str, redis_url: str, *, rounds: int = 200, pause_s: float = 0.02
) -> list[float]:
    """Measure three commits of one row each, with a message over a stream between one and the next."""
    redis = connect_redis(redis_url)
    connections = [await asyncpg.connect(postgres_url) for _ in range(_STAGES)]
    try:
        await connections[0].execute(
            "CREATE TABLE IF NOT EXISTS bench_floor (stage integer, number bigint, payload bytea)"
        )
        return await _measure(connections, redis, rounds, pause_s)
    finally:
        await connections[0].execute("DROP TABLE IF EXISTS bench_floor")
        for connection in connections:
            await connection.close()
        await redis.delete(*map(_key, range(_STAGES)))
        await redis.aclose()


async def _measure(
    connections: list[asyncpg.Connection], redis: object, rounds: int, pause_s: float
) -> list[float]:
    ended: asyncio.Queue[float] = asyncio.Queue()

    async def stage(number: int) -> None:
        for turn in range(1, rounds + _WARM_UP + 1):
            while not await stream.read(redis, _key(number), first=turn, count=1, block_ms=500):
                pass
            await _commit(connections[number], number, turn)
            if number + 1 < _STAGES:
                await stream.publish(redis, _key(number + 1), turn, _PAYLOAD, cap=100)
            else:
                ended.put_nowait(time.monotonic())

    found: list[float] = []
    async with asyncio.TaskGroup() as group:
        for number in range(1, _STAGES):
            group.create_task(stage(number))
        for turn in range(1, rounds + _WARM_UP + 1):
            began = time.monotonic()
            await _commit(connections[0], 0, turn)
            await stream.publish(redis, _key(1), turn, _PAYLOAD, cap=100)
            found.append((await ended.get() - began) * 1000)
            await asyncio.sleep(pause_s)
    return found[_WARM_UP:]


async def _commit(connection: asyncpg.Connection, stage: int, turn: int) -> None:
    await connection.execute("INSERT INTO bench_floor VALUES ($1, $2, $3)", stage, turn, _PAYLOAD)


def _key(stage: int) -> str:
    return f"tidecast:bench:{{{stage}}}"

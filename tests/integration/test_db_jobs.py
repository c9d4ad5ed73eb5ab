from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from db.connect import pool
from db.repositories import jobs
from db.repositories.jobs import Job, LostJobError, TrainRequest

T = 1_617_321_600_000
WEEK = 7 * 86_400_000


def training(at_ms: int = T, horizon: int = 5, **changes: Any) -> TrainRequest:
    values: dict[str, Any] = {
        "symbol": "ALL", "forecast_horizon": horizon, "model_type": "xgboost", "train_at_ms": at_ms,
        "train_start_ms": at_ms - WEEK, "train_end_ms": at_ms,
    }  # fmt: skip
    return TrainRequest(**values | changes)


async def taken(connection: asyncpg.Connection, worker: str = "w1") -> Job:
    job = await jobs.claim(connection, worker)
    assert job is not None
    return job


async def status(connection: asyncpg.Connection, number: int) -> str:
    answer: str = await connection.fetchval("SELECT status FROM ml_jobs WHERE id = $1", number)
    return answer


async def test_a_training_is_asked_for_once(database: asyncpg.Connection) -> None:
    assert await jobs.enqueue(database, training()) is not None
    assert await jobs.enqueue(database, training()) is None
    assert await jobs.enqueue(database, training(horizon=15)) is not None


async def test_a_job_is_given_to_one_of_many_workers(database: asyncpg.Connection, database_url: str) -> None:
    for horizon in range(1, 9):
        await jobs.enqueue(database, training(horizon=horizon))
    async with await pool(database_url, min_size=4, max_size=4) as connections:

        async def work(name: str) -> list[int]:
            async with connections.acquire() as connection:
                found = []
                while job := await jobs.claim(connection, name):
                    found.append(job.id)
                return found

        given = await asyncio.gather(*(work(f"w{k}") for k in range(4)))
    everything = [number for numbers in given for number in numbers]
    assert sorted(everything) == sorted(set(everything))
    assert len(everything) == 8


async def test_trainings_of_one_horizon_run_in_the_order_of_their_time(database: asyncpg.Connection) -> None:
    await jobs.enqueue(database, training(T + WEEK, priority=1))
    await jobs.enqueue(database, training(T))
    first = await taken(database)
    assert first.train_at_ms == T
    assert await jobs.claim(database, "w2") is None
    await jobs.finish(database, first)
    assert (await taken(database)).train_at_ms == T + WEEK


async def test_a_job_knows_what_was_asked_for(database: asyncpg.Connection) -> None:
    await jobs.enqueue(database, training(settings={"depth": 6}))
    job = await taken(database)
    assert (job.symbol, job.forecast_horizon, job.model_type) == ("ALL", 5, "xgboost")
    assert (job.train_at_ms, job.train_start_ms, job.train_end_ms) == (T, T - WEEK, T)
    assert (job.settings, job.attempts, job.worker_id) == ({"depth": 6}, 1, "w1")


async def test_progress_is_seen_and_a_cancelled_job_notices(database: asyncpg.Connection) -> None:
    await jobs.enqueue(database, training())
    job = await taken(database)
    assert await jobs.heartbeat(database, job, progress=0.5, message="half")
    row = await database.fetchrow("SELECT progress::float8, progress_msg FROM ml_jobs")
    assert row is not None
    assert tuple(row) == (0.5, "half")
    assert await jobs.cancel(database, job.id)
    assert not await jobs.heartbeat(database, job)
    with pytest.raises(LostJobError, match="cancelled or taken"):
        await jobs.finish(database, job)
    assert not await jobs.cancel(database, job.id)


async def test_what_a_dead_worker_held_goes_back_to_the_queue(database: asyncpg.Connection) -> None:
    await jobs.enqueue(database, training())
    lost = await taken(database, "dead")
    assert await jobs.requeue_lost(database, ["dead"]) == []
    assert await jobs.requeue_lost(database, ["alive"]) == [lost.id]
    again = await taken(database, "alive")
    assert (again.id, again.attempts) == (lost.id, 2)
    with pytest.raises(LostJobError):
        await jobs.fail(database, lost, "too late")
    await jobs.fail(database, again, "no rows")
    assert await status(database, again.id) == "FAILED"


async def test_a_job_that_kills_its_workers_is_given_up(database: asyncpg.Connection) -> None:
    await jobs.enqueue(database, training())
    for _ in range(3):
        await taken(database)
        await jobs.requeue_lost(database, [], most_attempts=3)
    assert await jobs.claim(database, "w1") is None
    assert await database.fetchval("SELECT error_msg FROM ml_jobs") == "its process ended after 3 starts"


async def test_a_job_is_unfinished_until_it_has_ended_well_or_badly(database: asyncpg.Connection) -> None:
    for horizon in (5, 15):
        await jobs.enqueue(database, training(horizon=horizon))
    await jobs.enqueue(database, training(T + WEEK))
    assert await jobs.unfinished_up_to(database, T) == 2
    assert await jobs.unfinished_up_to(database, T, symbols=["BTCUSDT"]) == 0
    await jobs.finish(database, await taken(database))
    assert await jobs.unfinished_up_to(database, T) == 1
    await jobs.fail(database, await taken(database), "no rows")
    assert await jobs.unfinished_up_to(database, T) == 0
    assert await jobs.unfinished_up_to(database, T + WEEK) == 1

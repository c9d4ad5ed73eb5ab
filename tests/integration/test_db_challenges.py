"""A challenge is undecided only as long as there is a comparison that will decide it."""

from __future__ import annotations

import asyncpg
import pytest

from db.repositories import challenges, jobs, models
from db.repositories.jobs import Job
from db.repositories.terms import Key

from .test_db_models import HOUR, T, new_model

KEY = Key(symbol="ALL", forecast_horizon=5, model_type="xgboost")


async def challenged(connection: asyncpg.Connection, version: str, until_ms: int) -> int:
    """Let a model run in shadow; returns the id of the comparison that ends it."""
    async with connection.transaction():
        number = await models.register(connection, new_model(version))
        model = await models.by_id(connection, number)
        await challenges.begin(connection, model, from_ms=T, until_ms=until_ms)
    comparison: int = await connection.fetchval(
        "SELECT id FROM ml_jobs WHERE job_type = 'COMPARE' AND train_at = to_timestamp($1::float8 / 1000)",
        until_ms,
    )
    return comparison


async def claimed(connection: asyncpg.Connection) -> Job:
    job = await jobs.claim(connection, "me", ("COMPARE",))
    assert job is not None
    return job


async def outcomes(connection: asyncpg.Connection) -> dict[str, tuple[str, str | None]]:
    rows = await connection.fetch("SELECT * FROM model_challenges")
    return {row["model_version"]: (row["outcome"], row["reason"]) for row in rows}


async def test_a_comparison_that_fails_refuses_what_it_was_to_decide_and_no_other(
    database: asyncpg.Connection,
) -> None:
    await challenged(database, "a", T + HOUR)
    await challenged(database, "b", T + HOUR)
    await challenged(database, "c", T + 2 * HOUR)
    await jobs.fail(database, await claimed(database), "no disk")
    refused = ("REFUSED", "its comparison failed: no disk")
    assert await outcomes(database) == {"a": refused, "b": refused, "c": ("RUNNING", None)}
    assert [each.model.model_version for each in await challenges.running(database, KEY)] == ["c"]
    assert await jobs.unfinished_up_to(database, T + HOUR) == 0


async def test_a_failure_that_is_not_committed_refuses_nobody(database: asyncpg.Connection) -> None:
    await challenged(database, "a", T + HOUR)
    job = await claimed(database)
    transaction = database.transaction()
    await transaction.start()
    await jobs.fail(database, job, "no disk")
    await transaction.rollback()
    assert await outcomes(database) == {"a": ("RUNNING", None)}
    assert await jobs.unfinished_up_to(database, T + HOUR) == 1


async def test_a_comparison_that_kills_its_processes_refuses_its_challenger_once_it_is_given_up(
    database: asyncpg.Connection,
) -> None:
    await challenged(database, "a", T + HOUR)
    for _ in range(2):
        assert (await outcomes(database))["a"][0] == "RUNNING"
        await claimed(database)
        await jobs.requeue_lost(database, [], most_attempts=2)
    assert await outcomes(database) == {
        "a": ("REFUSED", "its comparison failed: its process ended after 2 starts")
    }


async def test_a_cancelled_comparison_leaves_alone_what_another_will_decide(
    database: asyncpg.Connection,
) -> None:
    await challenged(database, "a", T + HOUR)
    later = await challenged(database, "b", T + 2 * HOUR)
    assert await jobs.cancel(database, later)
    assert await outcomes(database) == {
        "a": ("RUNNING", None),
        "b": ("REFUSED", "its comparison was cancelled"),
    }


async def test_a_training_that_fails_refuses_no_challenger(database: asyncpg.Connection) -> None:
    await challenged(database, "a", T + HOUR)
    request = jobs.TrainRequest(
        symbol="ALL",
        forecast_horizon=5,
        model_type="xgboost",
        train_at_ms=T,
        train_start_ms=T - HOUR,
        train_end_ms=T,
    )
    await jobs.enqueue(database, request)
    job = await jobs.claim(database, "me")
    assert job is not None
    await jobs.fail(database, job, "no rows")
    assert await outcomes(database) == {"a": ("RUNNING", None)}


@pytest.mark.parametrize(
    ("by_hand", "reason"),
    [
        ("UPDATE ml_jobs SET status = 'CANCELLED'", "its comparison was cancelled"),
        ("DELETE FROM ml_jobs", "its comparison is lost"),
    ],
)
async def test_what_somebody_did_to_a_comparison_by_hand_is_made_good_when_the_trainer_starts(
    database: asyncpg.Connection, by_hand: str, reason: str
) -> None:
    await challenged(database, "a", T + HOUR)
    await database.execute(by_hand)
    await jobs.requeue_lost(database, [])
    assert await outcomes(database) == {"a": ("REFUSED", reason)}


@pytest.mark.parametrize("how", ["finished", "failed", "cancelled"])
async def test_a_challenger_whose_comparison_has_ended_before_it_came_gets_it_once_more(
    database: asyncpg.Connection, how: str
) -> None:
    number = await challenged(database, "a", T + HOUR)
    job = await claimed(database)
    if how == "finished":
        await challenges.decide(
            database, "a", promoted=False, incumbent=None, is_refresh=None, reason="no", evidence={}
        )
        await jobs.finish(database, job)
    elif how == "failed":
        await jobs.fail(database, job, "no disk")
    else:
        await jobs.cancel(database, number)
    assert await challenged(database, "b", T + HOUR) == number
    again = await claimed(database)
    assert (again.id, again.attempts) == (number, 1)
    assert (await outcomes(database))["a"][0] == "REFUSED"
    assert (await outcomes(database))["b"][0] == "RUNNING"

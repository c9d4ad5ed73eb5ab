from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random
from typing import Any

import asyncpg
import pytest

from db.connect import connect
from db.repositories import models, terms
from db.repositories.models import NewModel
from db.repositories.terms import Key
from schemas.frames import MINUTE_MS

T = 1_617_321_600_000
HOUR = 3_600_000


def new_model(version: str, **changes: Any) -> NewModel:
    values: dict[str, Any] = {
        "model_version": version, "model_type": "xgboost", "symbol": "ALL", "forecast_horizon": 5,
        "train_start_ms": T - 100 * HOUR, "train_end_ms": T, "artifact_path": f"{version}.onnx",
        "artifact_sha256": "0" * 64, "schema_hash": "h", "rmse": 0.25, "mae": 0.2, "baseline_rmse": 0.3,
        "metrics": {"trees": 7},
    }  # fmt: skip
    return NewModel(**values | changes)


async def promoted(connection: asyncpg.Connection, version: str, at_ms: int, **changes: Any) -> int:
    async with connection.transaction():
        number = await models.register(connection, new_model(version, **changes))
        await models.promote(connection, number, at_ms)
    return number


async def versions(connection: asyncpg.Connection, at_ms: int) -> list[str]:
    return [model.model_version for model in await models.serving(connection, at_ms)]


async def test_a_model_comes_back_as_it_was_registered_and_serves_nothing(
    database: asyncpg.Connection,
) -> None:
    number = await models.register(database, new_model("a"))
    model = await models.by_version(database, "a")
    assert model is not None
    assert (model.id, model.artifact_path, model.metrics) == (number, "a.onnx", {"trees": 7})
    assert (model.train_end_ms, model.effective_from_ms, model.is_production) == (T, None, False)
    assert not model.serves(T + 99 * HOUR)
    assert await models.serving(database, T + 99 * HOUR) == []
    assert await models.by_version(database, "b") is None


async def test_a_successor_takes_over_at_its_own_event_time(database: asyncpg.Connection) -> None:
    await promoted(database, "a", T)
    await promoted(database, "b", T + HOUR)
    assert await versions(database, T - 1) == []
    assert await versions(database, T) == ["a"]
    assert await versions(database, T + HOUR - 1) == ["a"]
    assert await versions(database, T + HOUR) == ["b"]
    production = await models.in_production(database, "ALL", 5, "xgboost")
    assert production is not None
    assert production.model_version == "b"
    assert [model.serves(T) for model in await models.timeline(database)] == [True, False]
    assert await models.next_change(database, T) == T + HOUR
    assert await models.next_change(database, T + HOUR) is None


async def test_other_symbols_horizons_and_types_stay_in_production(database: asyncpg.Connection) -> None:
    await promoted(database, "a", T)
    await promoted(database, "b", T, forecast_horizon=15)
    await promoted(database, "c", T, symbol="BTCUSDT")
    await promoted(database, "d", T, model_type="lightgbm")
    assert await versions(database, T) == ["d", "a", "c", "b"]


async def test_a_model_that_was_ready_late_lets_its_predecessor_serve_on(
    database: asyncpg.Connection,
) -> None:
    await promoted(database, "a", T)
    await terms.announce(database, 0, T + 2 * HOUR)
    await promoted(database, "b", T + HOUR)
    assert await versions(database, T + HOUR) == await versions(database, T + 2 * HOUR) == ["a"]
    assert await versions(database, T + 2 * HOUR + MINUTE_MS) == ["b"]


async def test_a_model_begins_behind_what_the_partitions_that_may_use_it_have_announced(
    database: asyncpg.Connection,
) -> None:
    await terms.announce(database, 0, T + 3 * HOUR, trained=("BTCUSDT",))
    await terms.announce(database, 1, T + 2 * HOUR, trained=("ETHUSDT", "SOLUSDT"))
    await terms.announce(database, 1, T + HOUR, trained=("ETHUSDT", "SOLUSDT"))
    await promoted(database, "a", T)
    await promoted(database, "b", T, symbol="BTCUSDT")
    await promoted(database, "c", T, symbol="ETHUSDT")
    await promoted(database, "d", T, symbol="XRPUSDT")
    begins = {term.model_version: term.effective_from_ms - T for term in await terms.timeline(database)}
    late, later = 2 * HOUR + MINUTE_MS, 3 * HOUR + MINUTE_MS
    assert begins == {"a": later, "b": later, "c": late, "d": 0}
    await terms.announce(database, 2, T + 4 * HOUR)
    await promoted(database, "e", T, symbol="XRPUSDT")
    assert (await terms.timeline(database))[-1].effective_from_ms == T + 4 * HOUR + MINUTE_MS


async def test_who_announces_waits_for_what_is_being_decided(
    database: asyncpg.Connection, database_url: str
) -> None:
    other = await connect(database_url)
    transaction = database.transaction()
    await transaction.start()
    await promoted(database, "a", T)
    announcing = asyncio.create_task(terms.announce(other, 0, T + HOUR))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while not await database.fetchval(waits):
        assert not announcing.done()
    await transaction.commit()
    await announcing
    assert [term.model_version for term in await terms.timeline(other)] == ["a"]
    await other.close()


async def test_a_model_overtaken_before_it_began_never_serves(database: asyncpg.Connection) -> None:
    await promoted(database, "a", T + HOUR)
    await promoted(database, "b", T + HOUR)
    assert await versions(database, T + HOUR) == ["b"]


async def test_the_batches_say_which_model_is_in_production(database: asyncpg.Connection) -> None:
    for version in ("a", "b"):
        await database.execute(
            """
            INSERT INTO "mlTrainingBatches" (batch_id, symbol, training_samples, validation_samples,
                                             model_version)
            VALUES ($1, 'ALL', 10, 2, $1)
            """,
            version,
        )
        await promoted(database, version, T)
    rows = await database.fetch('SELECT batch_id FROM "mlTrainingBatches" WHERE is_production')
    assert [row["batch_id"] for row in rows] == ["b"]


async def test_whatever_is_promoted_served_or_rolled_back_every_moment_has_one_term(
    database: asyncpg.Connection,
) -> None:
    chance = Random(4)
    key = Key(symbol="ALL", forecast_horizon=5, model_type="xgboost")
    clock = T
    served: dict[int, list[str]] = {}
    for number in range(40):
        clock += chance.randrange(3) * HOUR
        what = chance.choice(["promote", "promote", "announce", "roll back"])
        every = await terms.of_key(database, key)
        if what == "promote" or not every:
            await promoted(database, f"m{number}", clock)
        elif what == "announce":
            served_to = clock + chance.randrange(3) * HOUR
            await terms.announce(database, 0, served_to)
            served = {at: await versions(database, at) for at in range(T, served_to + 1, HOUR)} | served
        else:
            others = {None, *(term.model_version for term in every)} - {every[-1].model_version}
            to = chance.choice(sorted(others, key=str))
            async with database.transaction():
                await terms.roll_back(
                    database, every[-1], to=to, from_ms=clock, reason="odd", decided_by="ann"
                )
            with pytest.raises(terms.StaleTermError):
                await terms.roll_back(
                    database, every[-1], to=to, from_ms=clock, reason="odd", decided_by="ann"
                )
    assert served == {at: await versions(database, at) for at in served}
    every = await terms.of_key(database, key)
    assert [term.number for term in every] == list(range(1, len(every) + 1))
    for before, after in pairwise(every):
        assert before.superseded_at_ms == after.effective_from_ms
        assert before.effective_from_ms <= after.effective_from_ms
    assert every[-1].superseded_at_ms is None
    assert len({term.name for term in every}) == len(every)
    rows = await database.fetch('SELECT * FROM "modelTimeline" ORDER BY effective_from')
    for row, following in pairwise(rows):
        assert row["effective_from"] < row["effective_until"] == following["effective_from"]
    in_production = await models.in_production(database, "ALL", 5, "xgboost")
    assert (in_production and in_production.model_version) == every[-1].model_version
    for model in await models.timeline(database):
        own = [term for term in every if term.model_version == model.model_version]
        row = await models.by_version(database, model.model_version)
        assert row is not None
        last = (own[-1].effective_from_ms, own[-1].superseded_at_ms)
        assert (row.effective_from_ms, row.superseded_at_ms) == last

from __future__ import annotations

from typing import Any

import asyncpg

from db.repositories import models
from db.repositories.models import NewModel

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
    late = await promoted(database, "b", T + HOUR)
    await models.activate(database, late, T + 2 * HOUR)
    assert await versions(database, T + HOUR) == ["a"]
    assert await versions(database, T + 2 * HOUR) == ["b"]


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

"""Trainings that drift asks for come into the queue once, at their point of time, and are waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import structlog

from artifacts.store import ArtifactStore
from db.copy import write
from db.repositories import checkpoints, jobs, models, outbox
from db.repositories.checkpoints import Checkpoint, Position
from db.repositories.outbox import Message
from pipeline.drift_rows import DriftCheck, rows_of
from runtime.drift_trainings import DriftTrainings
from runtime.model_guide import GuideSettings, ModelGuide
from runtime.sources import Batch
from schemas.frames import MINUTE_MS, NULL_MS, FeatureFrame

#: A whole day since the epoch, and with it a checkpoint.
T0 = 18_719 * 1440 * MINUTE_MS
EVERY, DELAY = 60, 2
HORIZONS = (5, 15)


def at(minute: int) -> int:
    return T0 + minute * MINUTE_MS


def trainings(**changes: Any) -> DriftTrainings:
    values: dict[str, Any] = {
        "every_minutes": EVERY,
        "partition": 0,
        "partitions": (0,),
        "trainer_partition": 0,
        "labels": ("ALL",),
        "trained": ("ALL",),
        "trainings": (((5,), "xgboost"), ((15,), "xgboost"), (HORIZONS, "lstm")),
    }
    return DriftTrainings(**values | changes)


def guide(folder: Path, drift: DriftTrainings, *, replay: bool = True) -> ModelGuide:
    settings = GuideSettings(
        partition=0,
        trainer_partition=0,
        trained=("ALL",),
        replay=replay,
        window_minutes=10_000,
        every_minutes=10_080,
        delay_minutes=DELAY,
        feature_names=("a", "b"),
    )
    return ModelGuide(
        settings=settings,
        store=ArtifactStore(folder),
        log=structlog.get_logger(),
        serve=lambda found: None,
        drift=drift,
    )


def batch(*minutes: int, age_ms: int = 0) -> Batch:
    times = np.array([at(minute) for minute in minutes], np.int64)
    frame = FeatureFrame(
        symbols=("BTCUSDT",),
        symbol_index=np.zeros(len(minutes), np.int32),
        open_time_ms=times,
        ohlcv=np.ones((len(minutes), 5)),
        origin=np.zeros(len(minutes), np.int8),
        vector=np.zeros((len(minutes), 2), np.float32),
        is_complete=np.ones(len(minutes), np.bool_),
        complete_to_ms=int(times.max()),
        schema_hash="h",
        as_of_ms=times + MINUTE_MS + age_ms,
    )
    return Batch(frame=frame, rows=len(minutes), after=Position(2, 0))


async def come(connection: asyncpg.Connection, service: str, minute: int, partition: int = 0) -> None:
    """Say how far a service is."""
    await checkpoints.count_start(connection, service, partition)
    old = await checkpoints.load(connection, service, partition)
    new = Checkpoint(position=Position(old.position.sequence + 1, 0), event_time_ms=at(minute))
    await checkpoints.advance(
        connection, service, partition, old=old, new=new, summary={"first_minute_ms": T0}
    )


async def everybody(connection: asyncpg.Connection, minute: int) -> None:
    for service in ("ml_trainer", "chart_monitor", "ml_inference"):
        await come(connection, service, minute)


async def drifted(connection: asyncpg.Connection, train_at: int | None, **changes: Any) -> None:
    values: dict[str, Any] = {
        "at_ms": at(55),
        "symbol": "ALL",
        "kind": "error",
        "subject": "m1",
        "horizon_minutes": 15,
        "statistic": "page_hinkley",
        "value": 17.0,
        "threshold": 16.0,
        "drifted": True,
        "reaction": "retrain",
        "train_at_ms": NULL_MS if train_at is None else at(train_at),
    }
    for rows in rows_of([DriftCheck(**values | changes)]):
        await write(connection, rows)


async def model(connection: asyncpg.Connection, version: str, family: str, horizon: int) -> None:
    new = models.NewModel(
        model_version=version,
        model_type=family,
        symbol="ALL",
        forecast_horizon=horizon,
        train_start_ms=T0,
        train_end_ms=at(30),
        artifact_path=f"{version}.onnx",
        artifact_sha256="0" * 64,
        schema_hash="h",
        rmse=1.0,
        mae=1.0,
        baseline_rmse=2.0,
    )
    await models.register(connection, new)


async def queued(connection: asyncpg.Connection) -> list[tuple[str, str, int, int]]:
    rows = await connection.fetch(
        "SELECT symbol, train_model_type, forecast_horizon, train_at FROM ml_jobs ORDER BY train_at, 2, 3, 1"
    )
    return [(row[0], row[1], row[2], (checkpoints.milliseconds(row[3]) - T0) // MINUTE_MS) for row in rows]


async def test_drift_of_a_model_asks_for_a_training_of_its_like_once(database: asyncpg.Connection) -> None:
    await model(database, "m1", "xgboost", 15)
    await everybody(database, 60)
    await drifted(database, 60)
    assert await trainings().are_asked_for(database, at(60), T0)
    assert await trainings().are_asked_for(database, at(60), T0)
    assert await queued(database) == [("ALL", "xgboost", 15, 60)]


async def test_drift_of_a_joint_model_asks_for_all_its_horizons_in_one_training(
    database: asyncpg.Connection,
) -> None:
    await model(database, "m1", "lstm", 5)
    await everybody(database, 60)
    await drifted(database, 60, horizon_minutes=5)
    await trainings().are_asked_for(database, at(60), T0)
    assert await queued(database) == [("ALL", "lstm", 15, 60)]
    job = await jobs.claim(database, "me")
    assert job is not None
    assert job.settings == {"horizons": [5, 15]}


async def test_drift_of_the_features_asks_for_every_training(database: asyncpg.Connection) -> None:
    await everybody(database, 60)
    await drifted(database, 60, kind="features", subject="features", horizon_minutes=0)
    await trainings().are_asked_for(database, at(60), T0)
    assert await queued(database) == [
        ("ALL", "lstm", 15, 60),
        ("ALL", "xgboost", 5, 60),
        ("ALL", "xgboost", 15, 60),
    ]


async def test_what_asks_for_nothing_or_for_later_or_is_of_others_is_left_alone(
    database: asyncpg.Connection,
) -> None:
    await model(database, "m1", "xgboost", 15)
    await everybody(database, 130)
    await drifted(database, None)
    await drifted(database, 120, statistic="later")
    await drifted(database, 60, symbol="ALL/1")
    assert await trainings().are_asked_for(database, at(60), T0)
    assert await queued(database) == []
    assert await trainings().are_asked_for(database, at(125), T0)
    assert await queued(database) == [("ALL", "xgboost", 15, 120)]


@pytest.mark.parametrize("late", ["ml_trainer", "chart_monitor"])
async def test_nobody_is_asked_before_all_drift_up_to_the_point_is_known(
    database: asyncpg.Connection, late: str
) -> None:
    await model(database, "m1", "xgboost", 15)
    for service in ("ml_trainer", "chart_monitor", "ml_inference"):
        await come(database, service, 58 if service == late else 60)
    await drifted(database, 60)
    assert not await trainings().are_asked_for(database, at(60), T0)
    await come(database, late, 60)
    assert await trainings().are_asked_for(database, at(60), T0)


async def test_pooled_models_wait_for_the_inference_of_every_partition(database: asyncpg.Connection) -> None:
    await everybody(database, 60)
    await come(database, "chart_monitor", 60, 1)
    await come(database, "ml_inference", 57, 1)
    both = trainings(partitions=(0, 1), labels=("ALL/0", "ALL/1"))
    assert not await both.are_asked_for(database, at(60), T0)
    await come(database, "ml_inference", 58, 1)
    assert await both.are_asked_for(database, at(60), T0)


async def test_partition_whose_symbols_begin_later_is_not_waited_for(database: asyncpg.Connection) -> None:
    await everybody(database, 60)
    both = trainings(partitions=(0, 1), labels=("ALL/0", "ALL/1"))
    assert not await both.are_asked_for(database, at(60), T0)  # its candles may still come
    await come(database, "feature_calculator", 60, 1)
    assert await both.are_asked_for(database, at(60), T0)
    for minute, waits in ((59, False), (58, True)):
        await outbox.add(
            database, "features", 1, Message(sequence=minute, payload=b"", from_ms=at(minute), to_ms=at(90))
        )
        await come(database, "chart_monitor", 60, 1)
        assert await both.are_asked_for(database, at(60), T0) != waits


async def test_replay_stands_still_at_the_point_until_the_training_has_ended(
    database: asyncpg.Connection, tmp_path: Path
) -> None:
    await model(database, "m1", "xgboost", 15)
    await everybody(database, 70)
    await drifted(database, 60)
    one = guide(tmp_path, trainings())
    # The candle of minute 61 is the first whose event time is the point and the delay.
    assert await one.allow(database, batch(*range(50, 70))) == 11
    assert await one.allow(database, batch(*range(61, 70))) == 0
    assert await queued(database) == [("ALL", "xgboost", 15, 60)]
    job = await jobs.claim(database, "me")
    assert job is not None
    await jobs.fail(database, job, "no luck")
    assert await one.allow(database, batch(*range(61, 70))) == 9


async def test_guide_that_starts_anew_asks_for_the_same_and_not_again(
    database: asyncpg.Connection, tmp_path: Path
) -> None:
    await model(database, "m1", "xgboost", 15)
    await everybody(database, 200)
    await drifted(database, 60)
    for _ in range(2):
        one = guide(tmp_path, trainings())
        assert await one.allow(database, batch(*range(130, 140))) == 0
        assert await queued(database) == [("ALL", "xgboost", 15, 60)]


async def test_live_the_training_is_asked_for_and_nobody_waits(
    database: asyncpg.Connection, tmp_path: Path
) -> None:
    await model(database, "m1", "xgboost", 15)
    await everybody(database, 62)
    await drifted(database, 60)
    one = guide(tmp_path, trainings(), replay=False)
    assert await one.allow(database, batch(63)) == 1
    assert await queued(database) == [("ALL", "xgboost", 15, 60)]

"""Trainings from the queue to production, with a real database and real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from artifacts.store import ArtifactStore
from db import copy
from db.connect import pool as connect_pool
from db.fingerprint import fingerprint
from db.partitions import ensure_partitions
from db.repositories import jobs, models
from domain.models.serving import ServedModel
from runtime.compute import ComputePool
from schemas.frames import MINUTE_MS
from training.handler import TrainHandler
from training.queue import TrainingQueue
from training.rows import RowFiles
from training.settings import TrainingPlan

NAMES = tuple("abcdef")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FIRST = 1_617_408_000_000  # 2021-04-03 00:00 UTC
MINUTES = 1500
PLAN = TrainingPlan(
    symbols=SYMBOLS,
    feature_names=NAMES,
    warm_up_minutes=(1,) * 6,
    schema_hash="hash",
    optional_features=frozenset(),
    family_settings={
        "xgboost": {"rounds": 60, "chunk_rounds": 5, "learning_rate": 0.15, "early_stopping_patience": 60}
    },
)
TABLES = ("ml_jobs", "ml_models", "mlTrainingBatches")


async def _fill(connection: asyncpg.Connection, *, signal_strength: float) -> None:
    """Write vectors of two symbols, whose first feature tells the next five minutes."""
    chance = np.random.default_rng(0)
    steps = 0.05 * chance.normal(size=(MINUTES, 2))
    hints = chance.normal(size=(MINUTES, 2))
    for ahead in range(1, 6):
        steps[ahead:] += 0.05 * signal_strength * hints[:-ahead]
    vectors = chance.normal(size=(MINUTES, 2, 6)).astype(np.float32)
    vectors[:, :, 0] = hints
    vectors[chance.random(vectors.shape) < 0.02] = np.nan
    rows = copy.Columns(
        table="ml_features",
        op="insert",
        columns={
            "timestamp": np.repeat(FIRST + np.arange(MINUTES) * MINUTE_MS, 2),
            "close": (100.0 * np.exp(np.cumsum(steps, axis=0) / 100)).reshape(-1),
            "is_complete": np.ones(2 * MINUTES, np.bool_),
            "symbol": list(SYMBOLS) * MINUTES,
            "schema_hash": ["hash"] * (2 * MINUTES),
            "vector": vectors.reshape(-1, 6),
        },
    )
    await ensure_partitions(connection, rows)
    async with connection.transaction():
        await copy.write(connection, rows)


def _minute(number: int) -> int:
    return FIRST + number * MINUTE_MS


async def _ask(connection: asyncpg.Connection, at_minute: int, horizon: int = 5, **changes: Any) -> int:
    number = await jobs.enqueue(
        connection,
        jobs.TrainRequest(
            **{
                "symbol": "ALL",
                "forecast_horizon": horizon,
                "model_type": "xgboost",
                "train_at_ms": _minute(at_minute),
                "train_start_ms": FIRST,
                "train_end_ms": _minute(at_minute),
                **changes,
            }
        ),
    )
    assert number is not None
    return number


class Events:
    """What the queue told, and a way to wait for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    def __call__(self, event: str, job: jobs.Job, values: dict[str, Any]) -> None:
        self.told.append((event, job.id, values))
        self._changed.set()

    async def until(self, wanted: Callable[[Events], bool]) -> None:
        async with asyncio.timeout(600):
            while not wanted(self):
                self._changed.clear()
                await self._changed.wait()

    def count(self, *names: str) -> int:
        return sum(event in names for event, *_ in self.told)

    @property
    def ended(self) -> int:
        return self.count("completed", "failed", "lost")


class Trainer:
    """A queue with everything it needs, over one database and one folder."""

    def __init__(self, url: str, folder: Path, plan: TrainingPlan = PLAN) -> None:
        self.url = url
        self.folder = folder
        self.plan = plan
        self.events = Events()
        self.store = ArtifactStore(folder / "models")

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[ComputePool]:
        connections = await connect_pool(self.url, min_size=1, max_size=6, give_up_s=10)
        async with connections, ComputePool(max_workers=2) as compute:
            rows = RowFiles(scratch=self.folder / "rows", postgres_url=self.url, compute=compute)
            handler = TrainHandler(
                plan=self.plan,
                pool=connections,
                compute=compute,
                store=self.store,
                rows=rows,
                scratch=self.folder / "unfinished",
            )
            queue = TrainingQueue(
                pool=connections,
                handler=handler,
                poll_s=0.02,
                heartbeat_s=0.02,
                on_event=self.events,
                **options,
            )
            task = asyncio.create_task(queue.run())
            try:
                yield compute
                if task.done():
                    task.result()
            finally:
                task.cancel()
                await asyncio.wait([task])
                await rows.close()

    async def work_off(self, count: int) -> None:
        async with self.running():
            await self.events.until(lambda events: events.ended >= count)


@pytest.fixture
def trainer(database_url: str, tmp_path: Path) -> Trainer:
    return Trainer(database_url, tmp_path)


async def _row(connection: asyncpg.Connection, number: int) -> asyncpg.Record:
    row = await connection.fetchrow("SELECT * FROM ml_jobs WHERE id = $1", number)
    assert row is not None
    return row


async def test_a_training_leaves_a_model_in_production_its_batch_and_its_files(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    number = await _ask(database, 1400)
    await trainer.work_off(1)

    job = await _row(database, number)
    assert (job["status"], job["error_msg"], job["progress"]) == ("COMPLETED", None, 1)
    model = await models.in_production(database, "ALL", 5, "xgboost")
    assert model is not None
    assert job["result_model_id"] == model.id
    assert model.model_version.startswith("xgboost-ALL-h5-20210403T2320Z-")
    assert model.model_version.endswith(model.artifact_sha256[:8])
    assert model.effective_from_ms == _minute(1405)
    batch = await database.fetchrow('SELECT * FROM "mlTrainingBatches"')
    assert batch["batch_id"] == "xgboost-ALL-h5-20210403T2320Z"
    assert batch["is_production"]
    assert batch["promoted"]
    assert batch["rmse"] < batch["baseline_rmse"]
    assert batch["accuracy"] > 0.6
    assert batch["created_at"].timestamp() * 1000 == _minute(1401)
    served = ServedModel.from_bytes(
        trainer.store.read(model.artifact_path, sha256=model.artifact_sha256),
        sha256=model.artifact_sha256,
        feature_names=NAMES,
        schema_hash="hash",
    )
    assert served.card.trained_to_ms == _minute(1400)
    assert [Path(name).suffix for name in trainer.store.names()] == [".json", ".onnx"]
    assert list((trainer.folder / "unfinished").glob("*.state")) == []


async def test_a_tuned_training_keeps_what_it_tried_and_is_one_recipe_with_the_next(
    database: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: nothing is tuned")
    await _fill(database, signal_strength=0.6)
    # the given step is so small that another one is chosen
    slow = {"rounds": 20, "learning_rate": 0.0001}
    trainer = Trainer(
        database_url, tmp_path, replace(PLAN, family_settings={"xgboost": slow}, tuning_trials=3)
    )
    for minute in (1300, 1400):
        await _ask(database, minute)
    await trainer.work_off(2)
    rows = await database.fetch("SELECT * FROM ml_models ORDER BY train_end")
    assert len(rows) == 2
    for row in rows:
        tuning = row["metrics"]["tuning"]
        chosen = tuning["trials"][tuning["chosen"]]
        assert len(tuning["trials"]) == 3
        assert tuning["chosen"] > 0
        assert chosen["skill"] == max(trial["skill"] for trial in tuning["trials"])
        assert f"learning_rate={chosen['settings']['learning_rate']}" in row["params_csv"]
        assert "rounds=20" in row["params_csv"]
    assert len({row["params_csv"] for row in rows}) == 2
    assert len({row["recipe_hash"] for row in rows}) == 1


async def test_a_model_of_pure_noise_is_registered_but_does_not_serve(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.0)
    await _ask(database, 1400)
    await trainer.work_off(1)
    assert await models.in_production(database, "ALL", 5, "xgboost") is None
    batch = await database.fetchrow('SELECT * FROM "mlTrainingBatches"')
    assert not batch["promoted"]
    assert batch["effective_from"] is None
    assert "no" in batch["promotion_reason"]


async def test_a_training_that_fails_says_why_and_leaves_the_old_model(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    await _ask(database, 1300)
    wrong = await _ask(database, 1400, settings={"max_dept": 3})
    long = await _ask(database, 1400, horizon=4000)
    nobody = await _ask(database, 1400, symbol="NOBODY")
    await trainer.work_off(4)
    assert "did you mean 'max_depth'" in (await _row(database, wrong))["error_msg"]
    assert "too short for this horizon" in (await _row(database, long))["error_msg"]
    assert "no rows at all of NOBODY" in (await _row(database, nobody))["error_msg"]
    assert await database.fetchval("SELECT count(*) FROM ml_jobs WHERE status = 'FAILED'") == 3
    model = await models.in_production(database, "ALL", 5, "xgboost")
    assert model is not None
    assert model.effective_from_ms == _minute(1305)
    assert await database.fetchval('SELECT count(*) FROM "mlTrainingBatches"') == 1


async def test_trainings_of_one_horizon_run_in_the_order_of_their_time(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    late, early = await _ask(database, 1450), await _ask(database, 1000)
    middle, other = await _ask(database, 1200), await _ask(database, 1450, horizon=10)
    await trainer.work_off(4)
    ended = [number for event, number, _ in trainer.events.told if event == "completed" and number != other]
    assert ended == [early, middle, late], trainer.events.told
    for model in await models.timeline(database):
        assert model.superseded_at_ms is None or model.superseded_at_ms > (model.effective_from_ms or 0)
    compared = await database.fetch(
        "SELECT metrics->'against_production' AS found FROM ml_models WHERE forecast_horizon = 5"
        " ORDER BY train_end"
    )
    assert compared[0]["found"] is None
    assert all(row["found"] is not None for row in compared[1:])


async def _undisturbed(database_url: str, folder: Path, connection: asyncpg.Connection) -> dict[str, Any]:
    trainer = Trainer(database_url, folder)
    await trainer.work_off(2)
    told = await fingerprint(connection)
    return {name: told[name] for name in TABLES}


async def _ask_again(connection: asyncpg.Connection) -> None:
    """Forget all trainings and ask for the same ones."""
    await connection.execute('TRUNCATE ml_jobs, ml_models, "mlTrainingBatches" CASCADE')
    await _ask(connection, 1200)
    await _ask(connection, 1400)


async def test_killed_processes_and_stopped_trainers_change_no_row(
    database: asyncpg.Connection, database_url: str, trainer: Trainer, tmp_path: Path
) -> None:
    await _fill(database, signal_strength=0.6)
    await _ask_again(database)
    expected = await _undisturbed(database_url, tmp_path / "undisturbed", database)

    await _ask_again(database)
    async with trainer.running() as compute:
        # the process of the training dies at every stage that we get to see
        killed: set[int] = set()
        while len(killed) < 4 and trainer.events.ended < 2:
            for pid in set(compute.pids) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.001)  # lets the queue go on
    states = await database.fetch("SELECT DISTINCT status FROM ml_jobs")
    assert "RUNNING" not in {row["status"] for row in states}
    # a new trainer begins where the stopped one left off
    async with trainer.running():
        await trainer.events.until(lambda events: events.ended >= 2)
    found = await fingerprint(database)
    assert {name: found[name] for name in TABLES} == expected


async def test_what_a_dead_trainer_left_running_is_taken_up_again(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    number = await _ask(database, 1400)
    taken = await jobs.claim(database, "a worker that is dead")
    assert taken is not None
    await trainer.work_off(1)
    row = await _row(database, number)
    assert row["status"] == "COMPLETED"
    assert row["attempts"] == 2


async def test_a_cancelled_job_leaves_nothing(database: asyncpg.Connection, trainer: Trainer) -> None:
    await _fill(database, signal_strength=0.6)
    number = await _ask(database, 1400, settings={"rounds": 5000, "early_stopping_patience": 5000})
    async with trainer.running():
        await trainer.events.until(lambda events: events.count("started") == 1)
        assert await jobs.cancel(database, number)
        await trainer.events.until(lambda events: events.count("lost") == 1)
    assert (await _row(database, number))["status"] == "CANCELLED"
    assert await database.fetchval("SELECT count(*) FROM ml_models") == 0
    assert await database.fetchval('SELECT count(*) FROM "mlTrainingBatches"') == 0


async def test_a_tampered_model_in_production_does_not_stop_the_next_training(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    await _ask(database, 1200)
    await trainer.work_off(1)
    old = await models.in_production(database, "ALL", 5, "xgboost")
    assert old is not None
    (trainer.store.folder / old.artifact_path).write_bytes(b"not a model")
    await _ask(database, 1400)
    await trainer.work_off(2)
    batch = await database.fetchrow('SELECT * FROM "mlTrainingBatches" ORDER BY created_at DESC LIMIT 1')
    assert batch["promoted"]
    assert "changed or cut short" in batch["promotion_reason"]


async def test_only_one_trainer_works_on_the_queue(database: asyncpg.Connection, trainer: Trainer) -> None:
    await _fill(database, signal_strength=0.6)
    other = Trainer(trainer.url, trainer.folder / "other")
    async with trainer.running():
        await _ask(database, 1300)
        await trainer.events.until(lambda events: events.ended == 1)
        async with other.running():
            await _ask(database, 1400)
            await trainer.events.until(lambda events: events.ended == 2)
            assert other.events.told == []


def _trees(trainer: Trainer, model: models.Model) -> int:
    native = (trainer.folder / "models" / model.artifact_path).with_suffix(".json").read_text()
    head = json.loads(native)["heads"]["change0"]
    return len(head["learner"]["gradient_booster"]["model"]["trees"])


async def _versions(database: asyncpg.Connection) -> list[models.Model]:
    rows = await database.fetch("SELECT model_version FROM ml_models ORDER BY id")
    found = [await models.by_version(database, row["model_version"]) for row in rows]
    return [model for model in found if model is not None]


async def test_online_a_training_goes_on_from_the_model_in_production_on_the_rows_since(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    trainer.plan = replace(PLAN, mode="online")
    await _ask(database, 800)
    await _ask(database, 1450)
    await trainer.work_off(2)
    first, second = await _versions(database)
    # the second knows more trees, though it has only seen what came after the first
    assert _trees(trainer, second) >= _trees(trainer, first)
    assert second.train_start_ms is not None
    assert second.train_start_ms >= _minute(800)
    assert first.train_start_ms is not None
    assert first.train_start_ms < _minute(100)


async def test_by_transfer_a_symbol_without_a_model_begins_with_another_ones(
    database: asyncpg.Connection, trainer: Trainer
) -> None:
    await _fill(database, signal_strength=0.6)
    trainer.plan = replace(PLAN, mode="transfer")
    await _ask(database, 900, symbol="BTCUSDT")
    await _ask(database, 1400, symbol="ETHUSDT")
    await trainer.work_off(2)
    donor, heir = await _versions(database)
    assert (donor.symbol, heir.symbol) == ("BTCUSDT", "ETHUSDT")
    assert _trees(trainer, heir) >= _trees(trainer, donor)
    # all of the symbol's own rows are new to it
    assert heir.train_start_ms is not None
    assert heir.train_start_ms < _minute(100)

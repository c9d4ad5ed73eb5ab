"""Challengers from their training to their comparison, and back again, with a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from artifacts.store import ArtifactStore
from db import copy
from db.connect import pool as connect_pool
from db.partitions import ensure_partitions
from db.repositories import challenges, jobs, models, terms
from db.repositories.checkpoints import moment
from db.repositories.terms import Key
from schemas.frames import MINUTE_MS
from training.comparing import CompareHandler, CompareOutcome
from training.comparison import compare_models
from training.handler import TrainHandler, TrainOutcome
from training.queue import TrainingQueue
from training.registry import MOST_CHALLENGERS
from training.rows import RowFiles
from training.settings import TrainingPlan

NAMES = tuple("abcdef")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FIRST = 1_617_408_000_000  # 2021-04-03 00:00 UTC
MINUTES = 2600
SHADOW, DELAY, HORIZON = 300, 5, 5
PLAN = TrainingPlan(
    symbols=SYMBOLS,
    feature_names=NAMES,
    warm_up_minutes=(1,) * 6,
    schema_hash="hash",
    optional_features=frozenset(),
    family_settings={"xgboost": {"rounds": 40, "learning_rate": 0.15, "early_stopping_patience": 40}},
    shadow_wanted_minutes=SHADOW,
    activation_delay_minutes=DELAY,
    # wide enough that a model of the same recipe passes for sure
    margin=0.2,
)
NEW: dict[str, Any] = {
    "model_type": "xgboost", "symbol": "ALL", "forecast_horizon": HORIZON, "train_start_ms": FIRST,
    "train_end_ms": FIRST + 1200 * MINUTE_MS, "rmse": 1.0, "mae": 1.0, "baseline_rmse": 2.0,
}  # fmt: skip
KEY = Key(symbol="ALL", forecast_horizon=HORIZON, model_type="xgboost")


def minute(number: int) -> int:
    return FIRST + number * MINUTE_MS


class Inline:
    """Computes in a thread: what is looked at here is what is decided, not where it is computed."""

    async def run(self, function: Callable[..., Any], *args: Any, progress: Any = None) -> Any:
        tell = progress or (lambda done, text: None)
        return await asyncio.to_thread(function, *args, progress=tell, cancelled=lambda: False)


class Broken(Inline):
    """Computes everything but comparisons."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def run(self, function: Callable[..., Any], *args: Any, progress: Any = None) -> Any:
        if function is compare_models:
            raise self._error
        return await super().run(function, *args, progress=progress)


class ProcessDiedError(RuntimeError):
    """What a pool says of a process that died in the middle of its work."""

    process_died = True


class Stand:
    """Handlers over one database and one folder."""

    def __init__(self, pool: asyncpg.Pool, url: str, folder: Path, plan: TrainingPlan = PLAN) -> None:
        self.pool = pool
        self.store = ArtifactStore(folder / "models")
        rows = RowFiles(scratch=folder / "rows", postgres_url=url, compute=Inline())
        self.shared = {"pool": pool, "compute": Inline(), "store": self.store, "rows": rows, "plan": plan}
        self.trainer = TrainHandler(**self.shared, scratch=folder / "unfinished")
        self.comparer = CompareHandler(**self.shared)

    async def train(self, at: int, **settings: Any) -> TrainOutcome:
        async with self.pool.acquire() as connection:
            await jobs.enqueue(
                connection,
                jobs.TrainRequest(
                    symbol="ALL",
                    forecast_horizon=HORIZON,
                    model_type="xgboost",
                    train_at_ms=minute(at),
                    train_start_ms=FIRST,
                    train_end_ms=minute(at),
                    settings=settings,
                ),
            )
            job = await jobs.claim(connection, "me", ("TRAIN",))
        assert job is not None
        return await self.trainer.run(job, lambda done, text: None)

    async def compare_in_vain(self, error: Exception) -> dict[str, int]:
        """Let a queue work until a comparison has failed; returns how often what happened."""
        events: dict[str, int] = {}
        failed = asyncio.Event()

        def tell(event: str, job: jobs.Job, values: dict[str, Any]) -> None:
            events[event] = events.get(event, 0) + 1
            if event == "failed" or (job.attempts == jobs.MOST_ATTEMPTS and event == "requeued"):
                failed.set()

        queue = TrainingQueue(
            pool=self.pool,
            handler=self.trainer,
            comparisons=CompareHandler(**self.shared | {"compute": Broken(error)}),
            max_concurrent=1,
            on_event=tell,
        )
        working = asyncio.create_task(queue.run())
        await failed.wait()
        working.cancel()
        await asyncio.wait([working])
        return events

    async def compare(self) -> CompareOutcome:
        async with self.pool.acquire() as connection:
            job = await jobs.claim(connection, "me", ("COMPARE",))
        assert job is not None
        return await self.comparer.run(job, lambda done, text: None)


@pytest.fixture
async def stand(database: asyncpg.Connection, database_url: str, tmp_path: Path) -> Any:
    await fill(database)
    async with await connect_pool(database_url, min_size=1, max_size=4, give_up_s=10) as pool:
        yield Stand(pool, database_url, tmp_path)


async def fill(connection: asyncpg.Connection) -> None:
    """Write vectors of two symbols, whose first feature tells the next five minutes."""
    chance = np.random.default_rng(0)
    steps = 0.05 * chance.normal(size=(MINUTES, 2))
    hints = chance.normal(size=(MINUTES, 2))
    for ahead in range(1, 6):
        steps[ahead:] += 0.03 * hints[:-ahead]
    vectors = chance.normal(size=(MINUTES, 2, 6)).astype(np.float32)
    vectors[:, :, 0] = hints
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


async def version_in_production(connection: asyncpg.Connection) -> str | None:
    model = await models.in_production(connection, *(KEY.symbol, KEY.forecast_horizon, KEY.model_type))
    return None if model is None else model.model_version


async def test_a_refresh_runs_in_shadow_first_and_is_promoted_if_it_is_not_worse(
    database: asyncpg.Connection, stand: Stand
) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    assert await version_in_production(database) == first
    outcome = await stand.train(1200)
    second = outcome.model_versions[HORIZON]
    assert outcome.decisions[HORIZON].challenge
    assert await version_in_production(database) == first
    (challenge,) = await challenges.running(database, KEY)
    assert challenge.model.model_version == second
    assert (challenge.from_ms, challenge.until_ms) == (minute(1205), minute(1505))
    assert await challenges.ends(database, minute(1000), minute(1505), symbols=["ALL"]) == [minute(1505)]

    (decided,) = (await stand.compare()).decided
    assert decided.is_refresh
    assert decided.decision.promote, decided.decision.reason
    # of a horizon of 5 minutes, the last five rows of the shadow have no outcome yet
    assert decided.compared is not None
    assert decided.compared.error.rows == 2 * (SHADOW + 1 - HORIZON + 1)
    assert await version_in_production(database) == second
    timeline = await database.fetch('SELECT * FROM "modelTimeline" ORDER BY effective_from')
    assert [(row["model_version"], row["decided_by"]) for row in timeline] == [
        (first, "training"),
        (second, "comparison"),
    ]
    assert timeline[0]["effective_until"] == timeline[1]["effective_from"]
    assert timeline[1]["effective_from"].timestamp() * 1000 == minute(1510)
    row = await database.fetchrow("SELECT * FROM model_challenges")
    assert (row["outcome"], row["incumbent"], row["is_refresh"]) == ("PROMOTED", first, True)
    assert row["evidence"]["squared_error"]["p_value"] < 0.1
    comparison = await database.fetchrow("SELECT * FROM ml_comparisons")
    assert comparison["winner_id"] == comparison["model_b_id"]
    batch = await database.fetchrow('SELECT * FROM "mlTrainingBatches" WHERE is_production')
    assert batch["model_version"] == second
    assert batch["promoted"]


async def test_a_new_recipe_that_is_not_better_stays_out(database: asyncpg.Connection, stand: Stand) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    await stand.train(1200, rounds=3)
    (decided,) = (await stand.compare()).decided
    assert not decided.is_refresh
    assert not decided.decision.promote
    assert f"not shown to be better than {first}" in decided.decision.reason
    assert await version_in_production(database) == first


async def test_a_new_recipe_that_is_clearly_better_is_promoted(
    database: asyncpg.Connection, stand: Stand
) -> None:
    await stand.train(1000, rounds=2)
    second = (await stand.train(1200)).model_versions[HORIZON]
    (decided,) = (await stand.compare()).decided
    assert not decided.is_refresh
    assert decided.decision.promote, decided.decision.reason
    assert await version_in_production(database) == second


async def test_a_rolled_back_model_serves_no_more_and_is_not_promoted_again_by_itself(
    database: asyncpg.Connection, stand: Stand
) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    second = (await stand.train(1200)).model_versions[HORIZON]
    await stand.compare()
    last = (await terms.of_key(database, KEY))[-1]
    async with database.transaction():
        await terms.roll_back(
            database, last, to=first, from_ms=minute(1600), reason="it looks odd", decided_by="ann"
        )
    assert await version_in_production(database) == first
    model = await models.by_version(database, second)
    assert model is not None
    assert model.rolled_back_at_ms == minute(1600)
    # the very same training once more
    await database.execute("DELETE FROM ml_jobs")
    again = await stand.train(1200)
    assert again.model_versions[HORIZON] == second
    assert "was rolled back" in again.decisions[HORIZON].reason
    assert await version_in_production(database) == first
    assert await challenges.running(database, KEY) == []
    names = [(term.name, term.decided_by) for term in await terms.timeline(database)]
    assert names == [(first, "training"), (second, "comparison"), (f"{first} 2", "ann")]
    served = {at: await versions_at(database, at) for at in (1004, 1005, 1509, 1510, 1599, 1600)}
    assert served == {1004: [], 1005: [first], 1509: [first], 1510: [second], 1599: [second], 1600: [first]}


async def versions_at(connection: asyncpg.Connection, number: int) -> list[str]:
    rows = await connection.fetch(
        'SELECT model_version FROM "modelTimeline" WHERE effective_from <= $1 AND $1 < effective_until',
        moment(minute(number)),
    )
    return [row["model_version"] for row in rows]


async def test_after_a_rollback_to_no_model_a_challenger_must_beat_no_change(
    database: asyncpg.Connection, stand: Stand
) -> None:
    await stand.train(1000)
    second = (await stand.train(1200)).model_versions[HORIZON]
    async with database.transaction():
        await terms.roll_back(
            database,
            (await terms.of_key(database, KEY))[-1],
            to=None,
            from_ms=minute(1300),
            reason="none of it",
            decided_by="ann",
        )
    assert await version_in_production(database) is None
    assert await versions_at(database, 1300) == ["last_value"]
    (decided,) = (await stand.compare()).decided
    assert decided.incumbent is None
    assert "better than the no-change forecast" in decided.decision.reason
    assert await version_in_production(database) == second


async def test_a_challenger_whose_file_was_altered_is_refused(
    database: asyncpg.Connection, stand: Stand
) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    second = (await stand.train(1200)).model_versions[HORIZON]
    (stand.store.folder / f"{second}.onnx").write_bytes(b"not a model")
    (decided,) = (await stand.compare()).decided
    assert not decided.decision.promote
    assert "cannot serve" in decided.decision.reason
    assert await version_in_production(database) == first


async def test_a_shadow_without_candles_promotes_nobody(database: asyncpg.Connection, stand: Stand) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    await stand.train(1200)
    await database.execute("DELETE FROM ml_features WHERE timestamp > $1", moment(minute(1210)))
    (decided,) = (await stand.compare()).decided
    assert not decided.decision.promote
    assert "too few independent outcomes" in decided.decision.reason
    assert await version_in_production(database) == first


@pytest.mark.parametrize(
    ("error", "told", "reason"),
    [
        (ValueError("no such row"), "failed", "ValueError: no such row"),
        (ProcessDiedError("killed"), "requeued", "its process ended after 20 starts"),
    ],
)
async def test_a_comparison_that_cannot_be_made_refuses_the_challenger_and_leaves_its_place_to_the_next(
    database: asyncpg.Connection, stand: Stand, error: Exception, told: str, reason: str
) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    second = (await stand.train(1200)).model_versions[HORIZON]
    assert (await stand.compare_in_vain(error))[told]
    row = await database.fetchrow("SELECT * FROM model_challenges")
    assert (row["outcome"], row["reason"]) == ("REFUSED", f"its comparison failed: {reason}")
    batch = await database.fetchrow('SELECT * FROM "mlTrainingBatches" WHERE model_version = $1', second)
    assert batch["promotion_reason"].endswith(f"; its comparison failed: {reason}")
    assert not batch["promoted"]
    assert await version_in_production(database) == first
    assert await jobs.unfinished_up_to(database, minute(1505)) == 0
    for number in range(MOST_CHALLENGERS):
        outcome = await stand.train(1210 + number)
        assert outcome.decisions[HORIZON].challenge, outcome.decisions[HORIZON].reason
    assert not (await stand.train(1230)).decisions[HORIZON].challenge


async def test_a_challenger_that_comes_while_others_are_compared_is_decided_with_them(
    database: asyncpg.Connection, stand: Stand
) -> None:
    await stand.train(1000)
    second = (await stand.train(1200)).model_versions[HORIZON]
    job = await jobs.claim(database, "me", ("COMPARE",))
    assert job is not None
    (challenge,) = await challenges.running(database, KEY)
    late = models.NewModel(
        **NEW | {"model_version": "late", "artifact_sha256": challenge.model.artifact_sha256},
        artifact_path=challenge.model.artifact_path,
        schema_hash=challenge.model.schema_hash,
    )
    comes = True

    class Meanwhile(Inline):
        async def run(self, function: Callable[..., Any], *args: Any, progress: Any = None) -> Any:
            nonlocal comes
            if function is compare_models and comes:
                comes = False
                async with database.transaction():
                    model = await models.by_id(database, await models.register(database, late))
                    await challenges.begin(
                        database, model, from_ms=challenge.from_ms, until_ms=challenge.until_ms
                    )
            return await super().run(function, *args, progress=progress)

    handler = CompareHandler(**stand.shared | {"compute": Meanwhile()})
    outcome = await handler.run(job, lambda done, text: None)
    assert sorted(each.challenge.model.model_version for each in outcome.decided) == sorted([second, "late"])
    assert await challenges.running(database, KEY) == []
    assert await jobs.unfinished_up_to(database, minute(1505)) == 0


async def test_a_comparison_that_is_cancelled_while_it_runs_decides_nothing_more(
    database: asyncpg.Connection, stand: Stand
) -> None:
    first = (await stand.train(1000)).model_versions[HORIZON]
    await stand.train(1200)
    job = await jobs.claim(database, "me", ("COMPARE",))
    assert job is not None

    class Meanwhile(Inline):
        async def run(self, function: Callable[..., Any], *args: Any, progress: Any = None) -> Any:
            if function is compare_models:
                assert await jobs.cancel(database, job.id)
            return await super().run(function, *args, progress=progress)

    handler = CompareHandler(**stand.shared | {"compute": Meanwhile()})
    with pytest.raises(jobs.LostJobError):
        await handler.run(job, lambda done, text: None)
    row = await database.fetchrow("SELECT * FROM model_challenges")
    assert (row["outcome"], row["reason"]) == ("REFUSED", "its comparison was cancelled")
    assert await version_in_production(database) == first


async def test_jobs_of_one_kind_of_model_run_in_the_order_of_their_time_whatever_they_are(
    database: asyncpg.Connection, stand: Stand
) -> None:
    await stand.train(1000)
    await stand.train(1200)
    ends = minute(1505)
    for at in (ends, ends + MINUTE_MS):
        await jobs.enqueue(
            database,
            jobs.TrainRequest(
                symbol="ALL",
                forecast_horizon=60,
                model_type="xgboost",
                train_at_ms=at,
                train_start_ms=FIRST,
                train_end_ms=at,
                settings={"horizons": [HORIZON, 60]},
            ),
        )
    assert await jobs.claim(database, "me", ("TRAIN",)) is None, "the comparison comes first"
    assert await jobs.unfinished(database, reached_ms=ends - 1) == 2
    assert await jobs.unfinished(database, reached_ms=ends) == 3
    # it waits until the vectors of every partition have come to its time
    assert await jobs.claim(database, "me", ("COMPARE",), partitions=[0]) is None
    await stand.compare()
    assert await jobs.claim(database, "me", ("TRAIN",)) is not None

"""Live scores beside those of the validation, over a real server: the view, the alarm, and what is shown."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import structlog
from typer.testing import CliRunner

from cli.main import app
from config.ml_config import load
from db.copy import write
from db.partitions import ensure_partitions
from db.repositories import logs, models
from db.repositories.checkpoints import moment
from db.repositories.models import NewModel
from domain.evaluation.live_gap import DayScore, LiveGap, ScoreGap, live_gaps
from domain.evaluation.walk_forward_score import WalkForwardScore
from pipeline.forecast_stage import ForecastStage
from pipeline.stage import LogEntry
from runtime.alerts import AlertObserver
from runtime.directory import Directory
from runtime.gap_watch import GapWatch, watch_gaps
from runtime.health import Health, Metrics
from runtime.logs import LogRecord, set_up
from runtime.observer import WorkerObserver
from runtime.servers import Servers
from runtime.worker import Worker
from schemas.frames import MINUTE_MS, PredictionFrame, Reason

DAY_MINUTES = 1440
DAY_MS = DAY_MINUTES * MINUTE_MS
#: A whole day since the epoch: 2021-04-02.
DAY = 18_719
HORIZON = 5
SYMBOLS = ("AAA", "BBB")
VALIDATED = WalkForwardScore(
    rows=2000,
    moved=1990,
    skill=0.03,
    skill_error=0.006,
    accuracy=0.56,
    accuracy_error=0.012,
    brier=0.244,
    brier_error=0.0012,
    blocks=70,
)


async def serve(
    connection: asyncpg.Connection,
    version: str,
    *,
    from_day: int,
    validated: WalkForwardScore | None = VALIDATED,
) -> None:
    """Put a model into production from the beginning of a day."""
    metrics: dict[str, Any] = {"train_at_ms": from_day * DAY_MS}
    if validated is not None:
        told = asdict(validated)
        metrics["walk_forward"] = told
        metrics["validation"] = {name: told[name] for name in ("rows", "skill", "accuracy")} | {"rmse": 0.1}
        metrics["baseline"] = {"rmse": 0.11}
    number = await models.register(
        connection,
        NewModel(
            model_version=version,
            model_type="xgboost",
            symbol="ALL",
            forecast_horizon=HORIZON,
            train_start_ms=(from_day - 9) * DAY_MS,
            train_end_ms=from_day * DAY_MS,
            artifact_path=f"{version}.onnx",
            artifact_sha256="0" * 64,
            schema_hash="h",
            rmse=0.1,
            mae=0.1,
            baseline_rmse=0.11,
            metrics=metrics,
        ),
    )
    async with connection.transaction():
        await models.promote(connection, number, from_day * DAY_MS)


async def earned(
    connection: asyncpg.Connection, version: str, day: int, *, skill: float = 0.03, brier: float = 0.244
) -> None:
    """Write what a model earned with two symbols in a day."""
    n = DAY_MINUTES
    sums = [n, n, 0.56 * n, (1 - skill) * n, n, n, brier * n, n, n, n, n, n, n, day * n, day * n + n - 1]
    for symbol in SYMBOLS:
        await connection.execute(
            """
            INSERT INTO "forecastScoreSums" (symbol, forecast_horizon, day, sums) VALUES ($1, $2, $3, $4)
            ON CONFLICT (symbol, forecast_horizon, day)
            DO UPDATE SET sums = "forecastScoreSums".sums || EXCLUDED.sums
            """,
            symbol,
            HORIZON,
            moment(day * DAY_MS),
            [["price_direction", version, sums]],
        )


async def forecaster_is_at(connection: asyncpg.Connection, day: int, minute: int) -> None:
    """Move the forecaster behind a minute of a day."""
    await connection.execute("DELETE FROM \"recoveryState\" WHERE service_name = 'forecaster'")
    await connection.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, checkpoint_type, event_time, outbox_sequence,
                                     position_sequence, position_row)
        VALUES ('forecaster', 'forecaster/0/position', 'intermediate', $1, 0, 1, 0)
        """,
        moment(day * DAY_MS + minute * MINUTE_MS),
    )


def watch() -> GapWatch:
    return GapWatch(error_rate=0.05, gate_error_rate=0.1, remember_days=30)


async def written(connection: asyncpg.Connection, entries: list[LogEntry]) -> None:
    """Write entries as the log does."""
    await logs.insert(
        connection,
        [
            LogRecord(
                level=entry.level,
                category=entry.category,
                subcategory=entry.subcategory,
                message=entry.message,
                context=entry.context,
                symbol=entry.symbol,
                stack_trace=None,
                timestamp_ms=1,
            )
            for entry in entries
        ],
    )


# --- the view ---


async def forecasts(connection: asyncpg.Connection) -> None:
    """Let the forecaster's stage state and settle forecasts of two symbols over four days."""
    chance = np.random.default_rng(8)
    minutes = 4 * DAY_MINUTES - 10
    minute, symbol = np.nonzero(chance.random((minutes, 2)) < 0.97)
    wild = np.repeat([1.0, 3.0, 0.5, 2.0], DAY_MINUTES)[:minutes, None]
    steps = 0.001 * wild * chance.standard_t(4, (minutes, 2))
    close = (100.0 * np.exp(np.cumsum(steps, axis=0)))[minute, symbol]
    n = len(minute)
    up = np.clip(0.5 + 0.1 * chance.normal(size=(n, 1)), 0.05, 0.95).astype(np.float32)
    said = ((up - 0.5) * np.float32(0.3)).astype(np.float32)
    said[:100] = 0.0
    stage = ForecastStage(symbols=SYMBOLS, horizons=(HORIZON,))
    frame = PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=symbol.astype(np.int32),
        open_time_ms=DAY * DAY_MS + minute * MINUTE_MS,
        ohlcv=np.stack([close] * 4 + [np.ones(n)], axis=1),
        origin=np.zeros(n, np.int8),
        vector=np.zeros((n, 1), np.float32),
        is_complete=np.ones(n, np.bool_),
        complete_to_ms=DAY * DAY_MS + (minutes - 1) * MINUTE_MS,
        schema_hash="none",
        horizons=(HORIZON,),
        predicted_pct=said,
        probability_up=up,
        model_index=np.where(minute < 2 * DAY_MINUTES, 1, 2)[:, None].astype(np.int16),
        reason=np.where(chance.random((n, 1)) < 0.2, Reason.UNLIKE, Reason.NONE).astype(np.int8),
        models=("last_value", "m1", "m2"),
    )
    for rows in stage.step(frame).rows:
        await ensure_partitions(connection, rows)
        async with connection.transaction():
            await write(connection, rows)


async def from_the_forecasts(connection: asyncpg.Connection, version: str) -> list[DayScore]:
    """Add up the days of a model from the rows that users read."""
    rows = await connection.fetch(
        """
        SELECT extract(epoch FROM scored_at)::bigint / 86400 AS day, predicted_value::float8 AS said,
               actual_value::float8 AS came, confidence::float8 / 100 AS sure
        FROM "persistentForecasts"
        WHERE forecast_type = 'price_direction' AND model_version = $1 AND actual_value IS NOT NULL
        """,
        version,
    )
    found = []
    for day in sorted({row["day"] for row in rows}):
        said, came, sure = (
            np.array([row[name] for row in rows if row["day"] == day]) for name in ("said", "came", "sure")
        )
        moved = came != 0
        hits = (np.sign(said) * np.sign(came) + 1) / 2
        brier = np.where(said == 0, 0.25, (sure - hits) ** 2)
        found.append(
            DayScore(
                day=day,
                n=len(said),
                moved=int(moved.sum()),
                hits=float(hits[moved].sum()),
                squared_error=float(((came - said) ** 2).sum()),
                no_change_squared=float((came**2).sum()),
                brier=float(brier[moved].sum()),
            )
        )
    return found


async def test_the_view_has_the_gaps_that_the_forecasts_themselves_give(database: asyncpg.Connection) -> None:
    await forecasts(database)
    await serve(database, "m1", from_day=DAY)
    await serve(database, "m2", from_day=DAY + 2)
    shown = await database.fetch('SELECT * FROM "liveAgainstWalkForward"')
    rows = {row["model_version"]: row for row in shown}
    assert set(rows) == {"m1", "m2"}
    # m1's last outcomes were known on the third day, which begins the spread of days; m2 has two days
    for version, days in (("m1", 3), ("m2", 2)):
        sums = await from_the_forecasts(database, version)
        assert len(sums) == days
        expected = live_gaps(sums, VALIDATED)[-1]
        assert_same(rows[version], expected)
        assert rows[version]["live_rmse"] == pytest.approx(
            (sum(day.squared_error for day in sums) / expected.n) ** 0.5
        )
        assert (rows[version]["walk_forward_rmse"], rows[version]["walk_forward_no_change_rmse"]) == (
            0.1,
            0.11,
        )


def assert_same(row: asyncpg.Record, gap: LiveGap) -> None:
    assert (row["n"], row["days"], row["symbol"], row["family"]) == (gap.n, gap.days, "ALL", "xgboost")
    parts: dict[str, ScoreGap] = {"skill": gap.skill, "accuracy": gap.accuracy, "brier": gap.brier}
    for name, part in parts.items():
        # confidence is shown in hundredths of a percent, and scored so
        assert row[f"live_{name}"] == pytest.approx(part.live, rel=1e-6), name
        assert row[f"walk_forward_{name}"] == part.walk_forward
        assert row[f"{name}_gap"] == pytest.approx(part.gap, rel=1e-6)
        assert row[f"{name}_z"] == pytest.approx(part.z, rel=1e-5), name


async def test_a_model_without_a_stored_validation_is_shown_and_not_judged(
    database: asyncpg.Connection,
) -> None:
    await serve(database, "old", from_day=DAY, validated=None)
    await earned(database, "old", DAY, skill=-5.0, brier=0.9)
    row = await database.fetchrow('SELECT * FROM "liveAgainstWalkForward"')
    assert row["live_skill"] == pytest.approx(-5.0)
    assert (row["skill_z"], row["brier_z"], row["walk_forward_brier"]) == (None, None, None)
    await forecaster_is_at(database, DAY + 3, 0)
    assert await watch().look(database) == []


async def test_a_day_on_which_nothing_moved_is_no_error(database: asyncpg.Connection) -> None:
    await serve(database, "m", from_day=DAY)
    n = 10
    await database.execute(
        'INSERT INTO "forecastScoreSums" (symbol, forecast_horizon, day, sums) VALUES ($1, $2, $3, $4)',
        "AAA",
        HORIZON,
        moment(DAY * DAY_MS),
        [["price_direction", "m", [n, *[0] * 12, DAY * DAY_MINUTES, DAY * DAY_MINUTES + n]]],
    )
    row = await database.fetchrow('SELECT * FROM "liveAgainstWalkForward"')
    assert (row["live_skill"], row["skill_z"], row["brier_z"]) == (None, None, None)
    await forecaster_is_at(database, DAY + 1, 0)
    assert await watch().look(database) == []


# --- the alarm ---


async def test_a_worse_model_is_named_with_its_scores_and_what_to_do_once(
    database: asyncpg.Connection,
) -> None:
    await serve(database, "m", from_day=DAY)
    await earned(database, "m", DAY, skill=-0.08, brier=0.275)
    watching = watch()
    # the day is not over: its sums may still grow
    await forecaster_is_at(database, DAY, 1438)
    assert await watching.look(database) == []
    await forecaster_is_at(database, DAY, 1439)
    (entry,) = await watching.look(database)
    assert (entry.level, entry.category, entry.symbol) == ("warning", "drift", "ALL")
    for words in (
        "m (ALL, 5 min)",
        "-8.00 %",
        "3.00 %",
        "0.2750",
        "0.2440",
        "tidecast rollback --symbol ALL",
    ):
        assert words in entry.message
    assert entry.context["at_ms"] == (DAY + 1) * DAY_MS
    assert entry.context["p_value"] < entry.context["allowed"]
    assert list(watching.worse) == ["m, 5 min"]
    assert await watching.look(database) == []
    await earned(database, "m", DAY + 1, skill=-0.08, brier=0.275)
    await forecaster_is_at(database, DAY + 2, 0)
    assert await watching.look(database) == []
    # another life of the process
    await written(database, [entry])
    again = watch()
    assert await again.look(database) == []
    assert list(again.worse) == ["m, 5 min"]


async def test_the_alarm_ends_when_the_gap_has_closed(database: asyncpg.Connection) -> None:
    await serve(database, "m", from_day=DAY)
    watching, told = watch(), []
    for day in range(8):
        await earned(database, "m", DAY + day, brier=0.275 if day == 0 else 0.236)
        await forecaster_is_at(database, DAY + day, 1439)
        told += await watching.look(database)
    assert [(entry.level, entry.context["worse"]) for entry in told] == [("warning", True), ("info", False)]
    assert "no longer worse" in told[1].message
    assert watching.worse == {}


async def test_the_alarm_ends_when_another_model_serves(database: asyncpg.Connection) -> None:
    await serve(database, "m", from_day=DAY)
    await earned(database, "m", DAY, brier=0.275)
    await forecaster_is_at(database, DAY + 1, 0)
    watching = watch()
    assert len(await watching.look(database)) == 1
    await serve(database, "better", from_day=DAY + 1)
    await earned(database, "better", DAY + 1)
    await forecaster_is_at(database, DAY + 2, 0)
    (entry,) = await watching.look(database)
    assert entry.level == "info"
    assert "m was worse live" in entry.message
    assert "serves no more" in entry.message
    assert watching.worse == {}


async def test_looking_every_day_and_once_at_the_end_tell_the_same(database: asyncpg.Connection) -> None:
    chance = np.random.default_rng(2)
    for version, from_day in (("a", DAY), ("b", DAY + 6)):
        await serve(database, version, from_day=from_day)
    often, told = watch(), []
    for day in range(12):
        version = "a" if day < 6 else "b"
        await earned(database, version, DAY + day, brier=0.244 + 0.03 * chance.normal())
        await forecaster_is_at(database, DAY + day, 1439)
        told += await often.look(database)
    late = watch()
    at_once = await late.look(database)
    assert len(told) >= 2

    def in_order(entries: list[LogEntry]) -> list[tuple[Any, ...]]:
        return sorted((entry.context["day"], entry.context["worse"], entry.message) for entry in entries)

    assert in_order(at_once) == in_order(told)
    assert late.worse == often.worse


async def test_what_is_long_over_is_no_news(database: asyncpg.Connection) -> None:
    await serve(database, "m", from_day=DAY)
    await earned(database, "m", DAY, brier=0.29)
    await serve(database, "next", from_day=DAY + 1)
    await forecaster_is_at(database, DAY + 40, 0)
    assert await watch().look(database) == []


async def test_before_every_forecaster_has_begun_nothing_is_over(database: asyncpg.Connection) -> None:
    assert await watch().look(database) == []
    await forecaster_is_at(database, DAY + 1, 0)
    await database.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, partition, checkpoint_type, outbox_sequence,
                                     position_sequence, position_row)
        VALUES ('forecaster', 'forecaster/1/position', 1, 'intermediate', 0, 1, 0)
        """
    )
    watching = watch()
    assert await watching.look(database) == []
    assert watching.looked_at is None


# --- in its process, and on the screen ---


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """Where the worker's log goes; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


async def test_a_replay_that_ends_at_once_has_still_looked(
    database: asyncpg.Connection, database_url: str, tmp_path: Path, log_lines: io.StringIO
) -> None:
    await serve(database, "m", from_day=DAY)
    await earned(database, "m", DAY, brier=0.275)
    await forecaster_is_at(database, DAY + 1, 0)
    settings = load(overrides={"pipeline.replay": True})
    log, stop = set_up(worker="chart_monitor", out=log_lines), asyncio.Event()
    metrics, health = Metrics("chart_monitor"), Health.of(settings, "chart_monitor")
    worker = Worker(
        service="chart_monitor",
        settings=settings,
        directory=Directory.create(tmp_path / "dir"),
        shard=0,
        shards=1,
        stop=stop,
        log=log,
        metrics=metrics,
        health=health,
        observer=WorkerObserver(log=log, metrics=metrics, health=health),
        servers=Servers(
            postgres_url=database_url, redis_url="", embedded_postgres=False, embedded_redis=False
        ),
        redis=None,
    )
    task = asyncio.create_task(watch_gaps(worker, AlertObserver(worker)))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(task, 20)
    (line,) = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert (line["level"], line["category"], line["model_version"]) == ("warning", "drift", "m")
    assert len(health.details["worse_than_walk_forward"]) == 1


async def test_the_command_shows_live_beside_validation(
    database: asyncpg.Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Directory.create(tmp_path / "pipeline")
    monkeypatch.setenv("TIDECAST_POSTGRES_URL", database_url)
    await serve(database, "gone", from_day=DAY)
    await earned(database, "gone", DAY)
    await serve(database, "here", from_day=DAY + 1)
    await earned(database, "here", DAY + 1, skill=-0.08, brier=0.275)
    await forecaster_is_at(database, DAY + 2, 0)
    words = ["models", "--dir", str(tmp_path / "pipeline")]
    # the command runs an event loop of its own
    result = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    gone, here = json.loads(result.stdout)["live_against_walk_forward"]
    assert (gone["model_version"], gone["serves"], gone["worse_since"]) == ("gone", False, None)
    assert (here["model_version"], here["serves"]) == ("here", True)
    assert here["worse_since"] == moment((DAY + 2) * DAY_MS).isoformat()
    assert (here["walk_forward_skill"], here["live_skill"]) == (0.03, pytest.approx(-0.08))
    shown = (await asyncio.to_thread(CliRunner().invoke, app, words)).stdout
    assert "worse since" in shown
    assert "2021-04-04 00:00Z" in shown
    assert "gone" not in shown

"""Live scores held against those of the validation, over a real server: the alarm, and what is shown."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import structlog
from typer.testing import CliRunner

from cli.main import app
from config.ml_config import load
from db.repositories import logs
from db.repositories.checkpoints import moment
from pipeline.stage import LogEntry
from runtime.alerts import AlertObserver
from runtime.directory import Directory
from runtime.gap_watch import GapWatch, watch_gaps
from runtime.health import Health, Metrics
from runtime.logs import LogRecord, set_up
from runtime.observer import WorkerObserver
from runtime.servers import Servers
from runtime.worker import Worker

from .served_models import DAY, DAY_MINUTES, DAY_MS, HORIZON, earned, forecaster_is_at, serve


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


# --- the alarm ---


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
    await asyncio.wait_for(task, 120)
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

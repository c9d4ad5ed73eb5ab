"""The score views over a real server, beside the same scores computed in SQL from the forecasts."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import numpy as np
import pytest

from db.copy import write
from db.fingerprint import fingerprint
from db.one_statement import UnfitError, statement_of
from db.partitions import ensure_partitions, known_days
from pipeline.forecast_stage import ForecastStage
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS, PredictionFrame, Reason

SYMBOLS = ("AAA", "BBB")
MINUTES = 150
#: 2021-04-01 22:50 UTC.
START = 26_955_290

RECOMPUTED = """
    SELECT model_version, symbol, forecast_type, forecast_horizon,
           date_trunc('day', scored_at, 'UTC') AS day, count(*)::integer AS n,
           sum((actual_value - predicted_value) ^ 2)::double precision AS sum_squared_error,
           sum(abs(actual_value - predicted_value))::double precision AS sum_absolute_error,
           count(*) FILTER (WHERE actual_value BETWEEN lower_80 AND upper_80)::integer AS covered_80,
           count(*) FILTER (WHERE actual_value BETWEEN lower_95 AND upper_95)::integer AS covered_95,
           sum(upper_80 - lower_80)::double precision AS sum_width_80,
           sum(upper_95 - lower_95)::double precision AS sum_width_95,
           min(scored_at) AS first_scored_at, max(scored_at) AS last_scored_at
    FROM "persistentForecasts" WHERE actual_value IS NOT NULL GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""


def frames(pieces: int) -> list[PredictionFrame]:
    chance = np.random.default_rng(8)
    minute, symbol = np.nonzero(chance.random((MINUTES, 2)) < 0.95)
    n = len(minute)
    close = (100.0 * np.exp(np.cumsum(0.001 * chance.standard_t(3, (MINUTES, 2)), axis=0)))[minute, symbol]
    up = chance.random((n, 1)).astype(np.float32)
    whole = PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=symbol.astype(np.int32),
        open_time_ms=(START + minute) * MINUTE_MS,
        ohlcv=np.stack([close] * 4 + [np.ones(n)], axis=1),
        origin=np.zeros(n, np.int8),
        vector=np.zeros((n, 1), np.float32),
        is_complete=minute >= 10,
        complete_to_ms=(START + MINUTES - 1) * MINUTE_MS,
        schema_hash="none",
        horizons=(5,),
        predicted_pct=(up - 0.5) * np.float32(0.2),
        probability_up=up,
        model_index=(minute[:, None] // 60 + 1).astype(np.int16),
        reason=np.full((n, 1), Reason.NONE, np.int8),
        models=("last_value", "m1", "m2", "m3"),
    )
    edges = np.linspace(0, MINUTES, pieces + 1).astype(int)
    return [
        replace(
            whole.rows((minute >= first) & (minute < end)), complete_to_ms=(START + int(end) - 1) * MINUTE_MS
        )
        for first, end in itertools.pairwise(edges)
    ]


async def put(connection: asyncpg.Connection, rows: Sequence[Rows], at_once: bool) -> None:
    for part in rows:
        await ensure_partitions(connection, part)
    if at_once:
        with contextlib.suppress(UnfitError):  # a minute that also loses outcomes goes in bulk, as live
            statement = statement_of(rows, await known_days(connection, rows))
            statement.guard("SELECT 1")
            await statement.run(connection)
            return
    async with connection.transaction():
        for part in rows:
            await write(connection, part)


async def fill(connection: asyncpg.Connection, *, pieces: int, at_once: bool = False) -> None:
    stage = ForecastStage(symbols=SYMBOLS, horizons=(5, 15))
    for frame in frames(pieces):
        await put(connection, stage.step(frame).rows, at_once)


async def test_scores_are_those_of_the_forecasts_and_do_not_depend_on_how_they_were_written(
    database: asyncpg.Connection,
) -> None:
    await fill(database, pieces=150, at_once=True)
    minutely = await fingerprint(database)
    expected = await database.fetch(RECOMPUTED)
    columns = ", ".join(expected[0].keys())
    found = await database.fetch(f'SELECT {columns} FROM "forecastScores" ORDER BY 1, 2, 3, 4, 5')
    assert len(found) > 20
    for one, other in zip(found, expected, strict=True):
        sums = {name for name in dict(one) if name.startswith("sum_")}
        assert {**one, **dict.fromkeys(sums)} == {**other, **dict.fromkeys(sums)}
        assert [one[name] for name in sums] == pytest.approx([other[name] for name in sums], rel=1e-9)
    await database.execute('TRUNCATE "persistentForecasts", "forecastScoreSums"')
    await fill(database, pieces=3)
    assert await fingerprint(database) == minutely


async def test_summary_has_the_scores_by_name(database: asyncpg.Connection) -> None:
    await fill(database, pieces=3)
    rows = await database.fetch(
        """
        SELECT s.*, t.sum_squared_error, t.hits, t.moved, t.sum_brier, t.sum_no_change_squared
        FROM "forecastScoreSummary" AS s
        JOIN "forecastScores" AS t USING (model_version, symbol, forecast_type, forecast_horizon, day)
        """
    )
    assert {row["forecast_type"] for row in rows} == {"price_direction", "volatility", "trend"}
    assert {"m1", "m2", "m3", "last_value", "har_v1", "regime_v1"} == {row["model_version"] for row in rows}
    for row in rows:
        assert row["rmse"] == pytest.approx((row["sum_squared_error"] / row["n"]) ** 0.5)
        assert row["skill"] == pytest.approx(1 - row["sum_squared_error"] / row["sum_no_change_squared"])
        assert row["accuracy"] == pytest.approx(row["hits"] / row["moved"])
        assert row["brier"] == pytest.approx(row["sum_brier"] / row["moved"])
        assert 0 <= row["coverage_80"] <= row["coverage_95"] <= 1
        assert row["width_80"] < row["width_95"]
    no_change = [row for row in rows if row["model_version"] == "last_value"]
    assert {(row["accuracy"], row["brier"], row["skill"]) for row in no_change} == {(0.5, 0.25, 0.0)}


async def test_open_forecasts_are_shown_with_their_intervals(database: asyncpg.Connection) -> None:
    await fill(database, pieces=1)
    await database.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, checkpoint_type, event_time)
        SELECT 's', 'o', 'intermediate', max(created_at) - interval '1 minute' FROM "persistentForecasts"
        """
    )
    rows = await database.fetch('SELECT * FROM "persistentForecastsNow"')
    assert len(rows) > 60
    for row in rows:
        assert row["lower_95"] <= row["lower_80"] < row["upper_80"] <= row["upper_95"]


async def test_interval_that_is_no_interval_is_refused(database: asyncpg.Connection) -> None:
    await fill(database, pieces=1)
    with pytest.raises(asyncpg.CheckViolationError, match="forecast_interval"):
        await database.execute('UPDATE "persistentForecasts" SET lower_80 = upper_95 + 1')

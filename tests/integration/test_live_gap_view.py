"""Live scores beside those of the validation, over a real server: the view says what the forecasts say."""

from __future__ import annotations

import asyncpg
import numpy as np
import pytest

from db.copy import write
from db.partitions import ensure_partitions
from domain.evaluation.live_gap import DayScore, LiveGap, ScoreGap, live_gaps
from pipeline.forecast_stage import ForecastStage
from schemas.frames import MINUTE_MS, PredictionFrame, Reason

from .served_models import DAY, DAY_MINUTES, DAY_MS, HORIZON, SYMBOLS, VALIDATED, serve


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

"""What is read in bulk: training rows, fingerprints and overviews."""

from __future__ import annotations

from typing import Any

import asyncpg
import numpy as np
import pytest

from db.copy import Columns, write
from db.fingerprint import differing, fingerprint
from db.partitions import ensure_days, ensure_partitions
from db.repositories import training_rows
from db.repositories.overview import read_overview, read_summary

T0 = 1_617_321_600_000
MINUTE = 60_000
DAY = 86_400_000


async def put(connection: asyncpg.Connection, table: str, op: str = "insert", **columns: Any) -> None:
    rows = Columns(table=table, op=op, columns=columns)
    await ensure_partitions(connection, rows)
    await write(connection, rows)


def candles(symbol: str, times: list[int], origin: str = "traded") -> dict[str, Any]:
    n = len(times)
    price = np.linspace(1, 2, n)
    return {
        "symbol": [symbol] * n, "timestamp": times, "created_at": np.array(times) + MINUTE,
        "open": price, "high": price, "low": price, "close": price, "volume": price,
        "is_complete": [True] * n, "origin": [origin] * n,
    }  # fmt: skip


def vectors(symbol: str, times: list[int], schema: str = "h", features: int = 3) -> dict[str, Any]:
    n = len(times)
    values = np.arange(n * features, dtype=np.float32).reshape(n, features)
    values[0, 0] = np.nan
    return {
        "symbol": [symbol] * n, "timestamp": times, "close": np.arange(n) + 0.1,
        "is_complete": np.arange(n) > 0, "schema_hash": [schema] * n, "vector": values,
    }  # fmt: skip


async def test_training_rows_come_sorted_by_time_and_symbol(database: asyncpg.Connection) -> None:
    times = [T0 + DAY - 2 * MINUTE + k * MINUTE for k in range(4)]
    await put(database, "ml_features", **vectors("B", times))
    await put(database, "ml_features", **vectors("A", times[1:]))
    await put(database, "ml_features", **vectors("C", times))
    await put(database, "ml_features", **vectors("A", [times[0]], schema="old"))
    rows = await training_rows.read(database, ("B", "A"), times[0], times[-2], schema_hash="h", features=3)
    assert rows.open_time_ms.tolist() == [times[0], times[1], times[1], times[2], times[2]]
    assert [rows.symbols[k] for k in rows.symbol_index] == ["B", "B", "A", "B", "A"]
    assert rows.close.tolist() == [0.1, 1.1, 0.1, 2.1, 1.1]
    assert rows.is_complete.tolist() == [False, True, False, True, True]
    assert (rows.vector.dtype, rows.vector.shape) == (np.float32, (5, 3))
    assert np.isnan(rows.vector[0, 0])
    assert rows.vector[3].tolist() == [6.0, 7.0, 8.0]


async def test_no_training_rows_are_an_empty_frame(database: asyncpg.Connection) -> None:
    rows = await training_rows.read(database, ("A",), T0, T0, schema_hash="h", features=3)
    assert (len(rows), rows.vector.shape) == (0, (0, 3))


async def test_a_fingerprint_tells_the_story_and_not_how_it_was_written(database: asyncpg.Connection) -> None:
    times = [T0 + k * MINUTE for k in range(3)]
    empty = await fingerprint(database)
    assert empty["rollingChartData"]["rows"] == 0
    await put(database, "rollingChartData", **candles("A", times))
    await put(database, "rollingChartData", **candles("B", times))
    one = await fingerprint(database)
    assert one["rollingChartData"]["rows"] == 6
    assert differing(empty, one) == ["rollingChartData"]

    # Written in another order and piece by piece, fetched late, with empty partitions around.
    await database.execute('TRUNCATE "rollingChartData"')
    await ensure_days(database, "rollingChartData", T0 - DAY, T0 + 3 * DAY)
    await put(database, "rollingChartData", **candles("B", times, "backfilled"))
    for k in (2, 0, 1):
        await put(
            database,
            "rollingChartData",
            **{name: values[k : k + 1] for name, values in candles("A", times).items()},
        )
    assert differing(one, await fingerprint(database)) == []

    await database.execute("UPDATE \"rollingChartData\" SET origin = 'synthetic' WHERE symbol = 'B'")
    assert differing(one, await fingerprint(database)) == ["rollingChartData"]


async def test_a_fingerprint_leaves_out_who_worked_and_when(database: asyncpg.Connection) -> None:
    job = {
        "job_type": ["TRAIN"], "symbol": ["ALL"], "forecast_horizon": [5], "train_model_type": ["xgboost"],
        "train_at": [T0],
    }  # fmt: skip
    await put(database, "ml_jobs", **job)
    one = await fingerprint(database)
    await database.execute("DELETE FROM ml_jobs")
    await put(database, "ml_jobs", **job, worker_id=["elsewhere"], attempts=[7], started_at=[T0 + 5])
    assert differing(one, await fingerprint(database)) == []
    await database.execute("UPDATE ml_jobs SET status = 'FAILED'")
    assert differing(one, await fingerprint(database)) == ["ml_jobs"]


async def test_the_overview_counts_what_is_there(database: asyncpg.Connection) -> None:
    nothing = await read_overview(database)
    assert (nothing.event_time, nothing.completeness, nothing.open_trades) == (None, None, 0)
    times = [T0 + k * MINUTE for k in range(60)]
    await put(database, "rollingChartData", **candles("A", times))
    await put(
        database, "tradeSimulations",
        symbol=["A", "A"], signal_type=["LONG", "SHORT"], entry_price=[1.0, 1.0], real_time_pnl=[0.5, -0.25],
        created_at=times[:2], is_active=[False, True], completed_at=[times[1], None],
    )  # fmt: skip
    await put(
        database, "recoveryState",
        service_name=["s"], operation_id=["o"], checkpoint_type=["intermediate"], event_time=[times[-1]],
        state_data=[{"written": {"rollingChartData": 60}}],
    )  # fmt: skip
    seen = await read_overview(database)
    assert (seen.candles, seen.completeness) == (60, 1.0)
    assert (seen.open_trades, seen.ended_trades, seen.pnl_pct) == (1, 1, 0.25)


async def test_the_summary_scores_what_models_said_at_every_horizon(database: asyncpg.Connection) -> None:
    await put(
        database, "persistentForecasts",
        symbol=["A"] * 5, forecast_type=["price_direction"] * 5, forecast_horizon=[5, 5, 5, 15, 30],
        created_at=[T0, T0 + MINUTE, T0 + 2 * MINUTE, T0, T0], expires_at=[T0 + DAY] * 5,
        model_version=["m", "m", "last_value", "m", "last_value"],
        predicted_value=[1.0, -1.0, 0.0, 2.0, 0.0], actual_value=[2.0, 2.0, 40.0, np.nan, 3.0],
    )  # fmt: skip
    summary = await read_summary(database)
    five, thirty = summary.accuracy
    assert (five.forecast_horizon, five.outcomes, five.scored, five.right) == (5, 3, 2, 0.5)
    # Both errors are of the two rows in which a model spoke.
    assert five.rmse == pytest.approx(5**0.5)
    assert five.baseline_rmse == 2.0
    assert (thirty.outcomes, thirty.scored, thirty.right) == (1, 0, None)
    assert (thirty.rmse, thirty.baseline_rmse) == (None, None)
    assert summary.rows["persistentForecasts"] == 5
    assert summary.models_trained == 0


async def test_the_summary_tells_ended_trades_from_all_and_the_last_error(
    database: asyncpg.Connection,
) -> None:
    await put(
        database, "tradeSimulations",
        symbol=["A", "A"], signal_type=["LONG", "SHORT"], entry_price=[1.0, 1.0], real_time_pnl=[0.5, -0.25],
        created_at=[T0, T0 + MINUTE], is_active=[False, True], completed_at=[T0 + MINUTE, None],
    )  # fmt: skip
    await put(
        database, "ml_jobs",
        job_type=["TRAIN"] * 2, symbol=["ALL"] * 2, forecast_horizon=[5] * 2, status=["FAILED"] * 2,
        train_model_type=["xgboost"] * 2, train_at=[T0, T0 + DAY], error_msg=["first", "second"],
    )  # fmt: skip
    summary = await read_summary(database)
    assert (summary.trades, summary.open_trades) == (2, 1)
    assert (summary.pnl_pct, summary.ended_pnl_pct) == (0.25, 0.5)
    assert (summary.trainings_failed, summary.training_error) == (2, "second")

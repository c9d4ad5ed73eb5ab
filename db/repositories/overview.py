"""Numbers about the whole: for the live table, and for the summary of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from db.tables import TABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the live table shows; cheap to read every second.

    Attributes
    ----------
    event_time
        How far the furthest stage has come; None before the first candle.
    candles, forecasts
        Rows added since the birth of the folder, whether or not they have been dropped since.
    completeness
        Complete rows of the last hour over the minutes expected of the symbols seen in it.
    pnl_pct
        Sum over all simulated trades, open ones as they stand, in percent after fees.
    """

    event_time: datetime | None
    candles: int
    completeness: float | None
    models_in_production: int
    forecasts: int
    open_trades: int
    ended_trades: int
    pnl_pct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How good the forecasts of price direction were at one horizon.

    Attributes
    ----------
    scored
        Forecasts with an outcome and a stated direction.
    right
        Share of them with the right sign.
    rmse, baseline_rmse
        Percent, of all forecasts with an outcome; the baseline says that nothing changes.
    """

    forecast_horizon: int
    scored: int
    right: float | None
    rmse: float
    baseline_rmse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a replay reports at its end; reads the tables whole."""

    rows: dict[str, int]
    models_trained: int
    trainings_failed: int
    train_seconds: float
    pnl_pct: float
    trades: int
    accuracy: tuple[Accuracy, ...]


async def read_overview(connection: asyncpg.Connection) -> Overview:
    """Read the numbers of the live table."""
    event_time = await connection.fetchval('SELECT max(event_time) FROM "recoveryState"')
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM ml_models WHERE is_production) AS models,
               count(*) FILTER (WHERE is_active) AS open_trades,
               count(*) FILTER (WHERE NOT is_active) AS ended_trades,
               COALESCE(sum(real_time_pnl), 0)::float8 AS pnl
        FROM "tradeSimulations" WHERE signal_type <> 'WAIT'
        """
    )
    assert row is not None
    return Overview(
        event_time=event_time,
        candles=await _written(connection, "rollingChartData"),
        completeness=None if event_time is None else await _completeness(connection, event_time),
        models_in_production=row["models"],
        forecasts=await _written(connection, "persistentForecasts"),
        open_trades=row["open_trades"],
        ended_trades=row["ended_trades"],
        pnl_pct=row["pnl"],
    )


async def _written(connection: asyncpg.Connection, table: str) -> int:
    # Counting millions of rows every second would be the heaviest query of all, and what the server estimates
    # is lost in a crash. The stages count what they add, in the transaction that adds it.
    count: int = await connection.fetchval(
        """
        SELECT COALESCE(sum((state_data->'written'->>$1)::bigint), 0)::bigint
        FROM "recoveryState" WHERE checkpoint_type = 'intermediate'
        """,
        table,
    )
    return count


async def _completeness(
    connection: asyncpg.Connection, event_time: datetime, minutes: int = 60
) -> float | None:
    share: float | None = await connection.fetchval(
        """
        SELECT count(*) FILTER (WHERE is_complete)::float8 / NULLIF(count(DISTINCT symbol) * $3, 0)
        FROM "rollingChartData" WHERE "timestamp" > $1 AND "timestamp" <= $2
        """,
        event_time - timedelta(minutes=minutes),
        event_time,
        minutes,
    )
    return share


async def read_summary(connection: asyncpg.Connection) -> Summary:
    """Count and score everything."""
    rows = {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in TABLES}  # noqa: S608
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM ml_jobs WHERE job_type = 'TRAIN' AND status = 'COMPLETED') AS trained,
               (SELECT count(*) FROM ml_jobs WHERE job_type = 'TRAIN' AND status = 'FAILED') AS failed,
               (SELECT COALESCE(sum(train_seconds), 0) FROM ml_models)::float8 AS seconds,
               COALESCE(sum(real_time_pnl), 0)::float8 AS pnl, count(*) AS trades
        FROM "tradeSimulations" WHERE signal_type <> 'WAIT'
        """
    )
    assert row is not None
    return Summary(
        rows=rows,
        models_trained=row["trained"],
        trainings_failed=row["failed"],
        train_seconds=row["seconds"],
        pnl_pct=row["pnl"],
        trades=row["trades"],
        accuracy=tuple(await read_accuracy(connection)),
    )


async def read_accuracy(connection: asyncpg.Connection, since: datetime | None = None) -> list[Accuracy]:
    """Score the forecasts of price direction by horizon, all of them or those issued since a time."""
    rows = await connection.fetch(
        """
        SELECT forecast_horizon, count(*) FILTER (WHERE predicted_value <> 0) AS scored,
               avg((sign(predicted_value) = sign(actual_value))::int)
                   FILTER (WHERE predicted_value <> 0)::float8 AS "right",
               sqrt(avg(power(predicted_value - actual_value, 2)))::float8 AS rmse,
               sqrt(avg(power(actual_value, 2)))::float8 AS baseline_rmse
        FROM "persistentForecasts"
        WHERE forecast_type = 'price_direction' AND actual_value IS NOT NULL
          AND created_at >= COALESCE($1::timestamptz, '-infinity')
        GROUP BY forecast_horizon ORDER BY forecast_horizon
        """,
        since,
    )
    return [Accuracy(**dict(row)) for row in rows]

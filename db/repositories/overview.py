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
    """How good the models' forecasts of price direction were at one horizon.

    Attributes
    ----------
    outcomes
        Forecasts with an outcome, those of the no-change forecast included.
    scored
        Those of them in which a model stated a direction; all scores are of these rows.
    right
        Share with the right sign; None of no rows.
    rmse, baseline_rmse
        Percent; the baseline says of the same rows that nothing changes. None of no rows.
    """

    forecast_horizon: int
    outcomes: int
    scored: int
    right: float | None
    rmse: float | None
    baseline_rmse: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a replay reports at its end; reads the tables whole.

    Attributes
    ----------
    training_error
        Why the last of the failed trainings did.
    pnl_pct
        Sum over all simulated trades, open ones as they stand, in percent of each trade's stake, after costs.
    ended_pnl_pct
        The same sum over those that have ended.
    """

    rows: dict[str, int]
    models_trained: int
    trainings_failed: int
    training_error: str | None
    train_seconds: float
    pnl_pct: float
    ended_pnl_pct: float
    trades: int
    open_trades: int
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
               (SELECT error_msg FROM ml_jobs WHERE job_type = 'TRAIN' AND status = 'FAILED'
                ORDER BY train_at DESC NULLS LAST, id DESC LIMIT 1) AS error,
               (SELECT COALESCE(sum(train_seconds), 0) FROM ml_models)::float8 AS seconds,
               COALESCE(sum(real_time_pnl), 0)::float8 AS pnl,
               COALESCE(sum(real_time_pnl) FILTER (WHERE NOT is_active), 0)::float8 AS ended_pnl,
               count(*) AS trades, count(*) FILTER (WHERE is_active) AS open_trades
        FROM "tradeSimulations" WHERE signal_type <> 'WAIT'
        """
    )
    assert row is not None
    return Summary(
        rows=rows,
        models_trained=row["trained"],
        trainings_failed=row["failed"],
        train_seconds=row["seconds"],
        training_error=row["error"],
        pnl_pct=row["pnl"],
        ended_pnl_pct=row["ended_pnl"],
        trades=row["trades"],
        open_trades=row["open_trades"],
        accuracy=tuple(await read_accuracy(connection)),
    )


async def read_accuracy(connection: asyncpg.Connection, since: datetime | None = None) -> list[Accuracy]:
    """Score what models said of price direction by horizon: all of it, or what was issued since a time."""
    rows = await connection.fetch(
        """
        SELECT forecast_horizon, count(*) AS outcomes, count(*) FILTER (WHERE directed) AS scored,
               avg((sign(predicted_value) = sign(actual_value))::int) FILTER (WHERE directed)::float8
                   AS "right",
               sqrt(avg(power(predicted_value - actual_value, 2)) FILTER (WHERE directed))::float8 AS rmse,
               sqrt(avg(power(actual_value, 2)) FILTER (WHERE directed))::float8 AS baseline_rmse
        FROM (SELECT *, predicted_value <> 0 AS directed FROM "persistentForecasts"
              WHERE forecast_type = 'price_direction' AND actual_value IS NOT NULL
                AND created_at >= COALESCE($1::timestamptz, '-infinity')) AS known
        GROUP BY forecast_horizon ORDER BY forecast_horizon
        """,
        since,
    )
    return [Accuracy(**dict(row)) for row in rows]

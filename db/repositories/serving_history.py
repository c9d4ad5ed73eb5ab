"""Who was in production when, what drift said of it, and how the trainings before ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

#: As long as the column that names what was checked.
_SUBJECT_LENGTH = 50


async def in_production(
    connection: asyncpg.Connection, *, symbols: Sequence[str], horizon_minutes: int, at: datetime
) -> list[asyncpg.Record]:
    """Read the models that were in production for any of some symbols, the no-change forecast left out."""
    found: list[asyncpg.Record] = await connection.fetch(
        """
        SELECT symbol, family, model_version, effective_from, effective_until, reason FROM "modelTimeline"
        WHERE forecast_horizon = $1 AND symbol = ANY($2) AND effective_from <= $3 AND effective_until > $3
          AND model_version <> 'last_value'
        """,
        horizon_minutes,
        symbols,
        at,
    )
    return found


async def first_drift(
    connection: asyncpg.Connection,
    *,
    model_version: str,
    symbols: Sequence[str],
    horizon_minutes: int,
    before: datetime,
) -> asyncpg.Record | None:
    """Read the check by which a version was first called drifted, if there was one before a time."""
    return await connection.fetchrow(
        """
        SELECT at, symbol, kind, statistic, value, threshold, reaction FROM "driftChecks"
        WHERE drifted AND kind IN ('error', 'brier') AND subject = $1 AND forecast_horizon = $2
          AND symbol = ANY($3) AND at < $4
        ORDER BY at, kind DESC LIMIT 1
        """,
        model_version[:_SUBJECT_LENGTH],
        horizon_minutes,
        symbols,
        before,
    )


async def last_training(
    connection: asyncpg.Connection, *, family: str, symbols: Sequence[str], horizon_minutes: int, at: datetime
) -> asyncpg.Record | None:
    """Read the last training of a family that was known by then: when, which model, promoted, and why."""
    return await connection.fetchrow(
        """
        SELECT created_at AS trained_at, model_version, promoted, promotion_reason AS why
        FROM "mlTrainingBatches"
        WHERE forecast_horizon = $1 AND symbol = ANY($2) AND model_type = $3 AND created_at <= $4
        ORDER BY created_at DESC, symbol = 'ALL' LIMIT 1
        """,
        horizon_minutes,
        symbols,
        family,
        at,
    )


async def next_term(
    connection: asyncpg.Connection, *, family: str, symbols: Sequence[str], horizon_minutes: int, at: datetime
) -> asyncpg.Record | None:
    """Read the first term of a family that was not over yet."""
    return await connection.fetchrow(
        """
        SELECT model_version, effective_from, reason FROM "modelTimeline"
        WHERE forecast_horizon = $1 AND symbol = ANY($2) AND family = $3 AND effective_until > $4
        ORDER BY effective_from LIMIT 1
        """,
        horizon_minutes,
        symbols,
        family,
        at,
    )


async def last_failure(
    connection: asyncpg.Connection, *, family: str, symbols: Sequence[str], horizon_minutes: int, at: datetime
) -> str | None:
    """Read why the last training of a family failed, if one did by then."""
    error: str | None = await connection.fetchval(
        """
        SELECT error_msg FROM ml_jobs
        WHERE job_type = 'TRAIN' AND status = 'FAILED' AND train_model_type = $1 AND symbol = ANY($2)
          AND forecast_horizon = $3 AND train_at < $4
        ORDER BY train_at DESC LIMIT 1
        """,
        family,
        symbols,
        horizon_minutes,
        at,
    )
    return error

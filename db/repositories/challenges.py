"""Challenges: new models that run beside what is in production, until a paired test has spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from db.repositories.checkpoints import milliseconds, moment
from db.repositories.models import Model, by_version
from db.repositories.terms import Key

Outcome = Literal["RUNNING", "PROMOTED", "REFUSED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A model in shadow.

    Attributes
    ----------
    from_ms, until_ms
        Event times of the shadow: it is asked from the first up to, and without, the second.
    """

    model: Model
    from_ms: int
    until_ms: int
    outcome: Outcome


async def begin(
    connection: asyncpg.Connection, model: Model, *, from_ms: int, until_ms: int, priority: int = 5
) -> None:
    """Let a registered model challenge, and ask for the comparison that ends it, in the caller's transaction.

    The very same model challenges once. A comparison of the same time that has ended is begun again, because
    it has not seen this one.
    """
    status = await connection.execute(
        """
        INSERT INTO model_challenges (model_version, symbol, forecast_horizon, model_type, challenger_from,
                                      challenger_until)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (model_version) DO NOTHING
        """,
        model.model_version,
        model.symbol,
        model.forecast_horizon,
        model.model_type,
        moment(from_ms),
        moment(until_ms),
    )
    if status == "INSERT 0 0":
        return
    # Two shadows may end together: the one comparison then decides both. Its row is locked in any case, so
    # it cannot end meanwhile without this challenge.
    await connection.execute(
        """
        INSERT INTO ml_jobs (job_type, priority, created_at, symbol, forecast_horizon, train_model_type,
                             train_at, compare_model_b_id, compare_start, compare_end)
        VALUES ('COMPARE', $1, $2, $3, $4, $5, $2, $6, $7, $2)
        ON CONFLICT (job_type, symbol, forecast_horizon, train_model_type, train_at) DO UPDATE
        SET status = 'PENDING', attempts = 0, worker_id = NULL, started_at = NULL, completed_at = NULL,
            error_msg = NULL
        WHERE ml_jobs.status NOT IN ('PENDING', 'RUNNING')
        """,
        priority,
        moment(until_ms),
        model.symbol,
        model.forecast_horizon,
        model.model_type,
        model.id,
        moment(from_ms),
    )


async def running(
    connection: asyncpg.Connection, key: Key, *, until_ms: int | None = None
) -> list[Challenge]:
    """Read the undecided challenges of a key, those that end by an event time, in the order of their end."""
    rows = await connection.fetch(
        """
        SELECT * FROM model_challenges
        WHERE outcome = 'RUNNING' AND symbol = $1 AND forecast_horizon = $2 AND model_type = $3
          AND ($4::timestamptz IS NULL OR challenger_until <= $4)
        ORDER BY challenger_until, challenger_from, model_version
        """,
        key.symbol,
        key.forecast_horizon,
        key.model_type,
        None if until_ms is None else moment(until_ms),
    )
    return [await _challenge(connection, row) for row in rows]


async def shadows(
    connection: asyncpg.Connection, after_ms: int, *, symbols: Sequence[str]
) -> list[Challenge]:
    """Read the challenges that end behind an event time, decided or not, in the order of their begin."""
    rows = await connection.fetch(
        """
        SELECT * FROM model_challenges WHERE challenger_until > $1 AND symbol = ANY($2)
        ORDER BY challenger_from, model_version
        """,
        moment(after_ms),
        list(symbols),
    )
    return [await _challenge(connection, row) for row in rows]


async def in_shadow(connection: asyncpg.Connection, after_ms: int, *, symbols: Sequence[str]) -> list[str]:
    """Name the models that `shadows` reads, in the same order."""
    rows = await connection.fetch(
        """
        SELECT model_version FROM model_challenges WHERE challenger_until > $1 AND symbol = ANY($2)
        ORDER BY challenger_from, model_version
        """,
        moment(after_ms),
        list(symbols),
    )
    return [row["model_version"] for row in rows]


async def ends(
    connection: asyncpg.Connection, after_ms: int, to_ms: int, *, symbols: Sequence[str]
) -> list[int]:
    """List the event times in the half-open span (`after_ms`, `to_ms`] at which a shadow ends, ascending."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT challenger_until AS until FROM model_challenges
        WHERE challenger_until > $1 AND challenger_until <= $2 AND symbol = ANY($3) ORDER BY until
        """,
        moment(after_ms),
        moment(to_ms),
        list(symbols),
    )
    return [milliseconds(row["until"]) for row in rows]


async def decide(
    connection: asyncpg.Connection,
    model_version: str,
    *,
    promoted: bool,
    incumbent: str | None,
    is_refresh: bool | None,
    reason: str,
    evidence: Mapping[str, Any],
) -> None:
    """Write down what came of a challenge, in the caller's transaction."""
    await connection.execute(
        """
        UPDATE model_challenges
        SET outcome = $2, incumbent = $3, is_refresh = $4, reason = $5, evidence = $6
        WHERE model_version = $1
        """,
        model_version,
        "PROMOTED" if promoted else "REFUSED",
        incumbent,
        is_refresh,
        reason,
        dict(evidence),
    )


async def refuse_abandoned(connection: asyncpg.Connection) -> list[str]:
    """Refuse every challenge whose comparison has ended without deciding it, and name the models.

    In the transaction in which a comparison ends badly: a challenge is undecided only as long as there is a
    comparison that will decide it.
    """
    rows = await connection.fetch(
        """
        WITH abandoned AS (
            SELECT challenge.model_version,
                   CASE job.status WHEN 'FAILED' THEN 'its comparison failed: ' || job.error_msg
                                   WHEN 'CANCELLED' THEN 'its comparison was cancelled'
                                   ELSE 'its comparison is lost' END AS reason
            FROM model_challenges AS challenge LEFT JOIN ml_jobs AS job
              ON job.job_type = 'COMPARE' AND job.train_at = challenge.challenger_until
             AND job.symbol = challenge.symbol AND job.forecast_horizon = challenge.forecast_horizon
             AND job.train_model_type = challenge.model_type
            WHERE challenge.outcome = 'RUNNING' AND COALESCE(job.status, '') NOT IN ('PENDING', 'RUNNING')
            ORDER BY challenge.model_version FOR UPDATE OF challenge
        ), refused AS (
            UPDATE model_challenges AS challenge SET outcome = 'REFUSED', reason = abandoned.reason
            FROM abandoned WHERE challenge.model_version = abandoned.model_version
            RETURNING challenge.model_version, challenge.reason
        ), told AS (
            UPDATE "mlTrainingBatches" AS batch
            SET promotion_reason = promotion_reason || '; ' || refused.reason
            FROM refused WHERE batch.model_version = refused.model_version
        )
        SELECT model_version FROM refused ORDER BY model_version
        """
    )
    return [row["model_version"] for row in rows]


async def _challenge(connection: asyncpg.Connection, row: asyncpg.Record) -> Challenge:
    model = await by_version(connection, row["model_version"])
    assert model is not None, "the table refers to it"
    return Challenge(
        model=model,
        from_ms=milliseconds(row["challenger_from"]),
        until_ms=milliseconds(row["challenger_until"]),
        outcome=row["outcome"],
    )

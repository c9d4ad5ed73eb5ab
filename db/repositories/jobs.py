"""The queue of trainings, tests and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from db.repositories import challenges
from db.repositories.checkpoints import milliseconds, moment

#: A job that took so many processes with it is given up.
MOST_ATTEMPTS = 20


class LostJobError(RuntimeError):
    """The job is no longer this worker's: it was cancelled, or given to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """A training to be asked for.

    Attributes
    ----------
    train_at_ms
        Event time T at which it is due: it learns from what was known by then.
    train_start_ms, train_end_ms
        Open times of the first and last candle to learn from.
    """

    symbol: str
    forecast_horizon: int
    model_type: str
    train_at_ms: int
    train_start_ms: int
    train_end_ms: int
    priority: int = 5
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that a worker has taken."""

    id: int
    job_type: str
    worker_id: str
    attempts: int
    symbol: str | None
    forecast_horizon: int | None
    model_type: str | None
    train_at_ms: int | None
    train_start_ms: int | None
    train_end_ms: int | None
    test_model_id: int | None
    test_start_ms: int | None
    test_end_ms: int | None
    compare_model_a_id: int | None
    compare_model_b_id: int | None
    compare_start_ms: int | None
    compare_end_ms: int | None
    settings: dict[str, Any]


async def enqueue(connection: asyncpg.Connection, request: TrainRequest) -> int | None:
    """Ask for a training; None if it was asked for before."""
    number: int | None = await connection.fetchval(
        """
        INSERT INTO ml_jobs (job_type, priority, symbol, forecast_horizon, train_model_type, train_at,
                             train_start, train_end, settings)
        VALUES ('TRAIN', $1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (job_type, symbol, forecast_horizon, train_model_type, train_at) DO NOTHING
        RETURNING id
        """,
        request.priority,
        request.symbol,
        request.forecast_horizon,
        request.model_type,
        moment(request.train_at_ms),
        moment(request.train_start_ms),
        moment(request.train_end_ms),
        request.settings,
    )
    return number


async def claim(
    connection: asyncpg.Connection,
    worker_id: str,
    job_types: Sequence[str] = ("TRAIN",),
    partitions: Sequence[int] = (),
) -> Job | None:
    """Take the next job; None if there is none.

    A training over all symbols, and every comparison, is given out once the vectors of all `partitions` have
    come to its time. Jobs of one symbol, horizon and type are given out in the order of their time, and the
    next only once the one before has ended, because promotions must run in that order; of the same time, a
    comparison goes first.
    """
    row = await connection.fetchrow(
        """
        UPDATE ml_jobs SET status = 'RUNNING', worker_id = $1, started_at = now(), heartbeat_at = now(),
                           attempts = attempts + 1, progress = 0, progress_msg = NULL, error_msg = NULL
        WHERE id = (
            SELECT id FROM ml_jobs AS job
            WHERE status = 'PENDING' AND job_type = ANY($2) AND NOT EXISTS (
                SELECT FROM ml_jobs AS earlier
                WHERE earlier.status IN ('PENDING', 'RUNNING')
                  AND (earlier.train_at < job.train_at OR (earlier.train_at = job.train_at
                       AND earlier.job_type = 'COMPARE' AND job.job_type <> 'COMPARE'))
                  AND earlier.symbol = job.symbol AND earlier.train_model_type = job.train_model_type
                  AND (earlier.forecast_horizon = job.forecast_horizon
                       OR earlier.settings->'horizons' @> to_jsonb(job.forecast_horizon)
                       OR job.settings->'horizons' @> to_jsonb(earlier.forecast_horizon)))
              AND ((job.job_type <> 'COMPARE' AND job.symbol IS DISTINCT FROM 'ALL')
                   OR cardinality($3::int[]) = (
                SELECT count(*) FROM "recoveryState" AS place
                WHERE place.service_name = 'feature_calculator' AND place.checkpoint_type = 'intermediate'
                  AND place.partition = ANY($3) AND place.event_time >= job.train_at))
            ORDER BY priority, train_at, created_at, job_type, id
            FOR UPDATE SKIP LOCKED LIMIT 1)
        RETURNING *
        """,
        worker_id,
        list(job_types),
        list(partitions),
    )
    return None if row is None else _job(row)


def _job(row: asyncpg.Record) -> Job:
    def ms(column: str) -> int | None:
        return None if row[column] is None else milliseconds(row[column])

    return Job(
        id=row["id"],
        job_type=row["job_type"],
        worker_id=row["worker_id"],
        attempts=row["attempts"],
        symbol=row["symbol"],
        forecast_horizon=row["forecast_horizon"],
        model_type=row["train_model_type"],
        train_at_ms=ms("train_at"),
        train_start_ms=ms("train_start"),
        train_end_ms=ms("train_end"),
        test_model_id=row["test_model_id"],
        test_start_ms=ms("test_start"),
        test_end_ms=ms("test_end"),
        compare_model_a_id=row["compare_model_a_id"],
        compare_model_b_id=row["compare_model_b_id"],
        compare_start_ms=ms("compare_start"),
        compare_end_ms=ms("compare_end"),
        settings=row["settings"] or {},
    )


async def heartbeat(
    connection: asyncpg.Connection, job: Job, *, progress: float | None = None, message: str | None = None
) -> bool:
    """Say that the job is alive, and how far it is (0..1); False if it is no longer ours."""
    status: str = await connection.execute(
        """
        UPDATE ml_jobs SET heartbeat_at = now(), progress = COALESCE($3::float8::numeric, progress),
                           progress_msg = COALESCE($4, progress_msg)
        WHERE id = $1 AND worker_id = $2 AND status = 'RUNNING'
        """,
        job.id,
        job.worker_id,
        progress,
        message,
    )
    return status == "UPDATE 1"


async def finish(
    connection: asyncpg.Connection,
    job: Job,
    *,
    model_id: int | None = None,
    test_id: int | None = None,
    comparison_id: int | None = None,
) -> None:
    """End a job well, in the transaction that writes what came out of it.

    Raises
    ------
    LostJobError
        If it is no longer ours; then nothing of it may be committed.
    """
    status = await connection.execute(
        """
        UPDATE ml_jobs SET status = 'COMPLETED', completed_at = now(), progress = 1,
               result_model_id = $3, result_test_id = $4, result_comparison_id = $5
        WHERE id = $1 AND worker_id = $2 AND status = 'RUNNING'
        """,
        job.id,
        job.worker_id,
        model_id,
        test_id,
        comparison_id,
    )
    _still_ours(job, status)


async def fail(connection: asyncpg.Connection, job: Job, error: str, *, model_id: int | None = None) -> None:
    """End a job badly; what a comparison leaves undecided is refused with it.

    Raises
    ------
    LostJobError
        If it is no longer ours.
    """
    async with connection.transaction():
        status = await connection.execute(
            """
            UPDATE ml_jobs SET status = 'FAILED', completed_at = now(), error_msg = $3, result_model_id = $4
            WHERE id = $1 AND worker_id = $2 AND status = 'RUNNING'
            """,
            job.id,
            job.worker_id,
            error,
            model_id,
        )
        _still_ours(job, status)
        await challenges.refuse_abandoned(connection)


def _still_ours(job: Job, status: str) -> None:
    if status != "UPDATE 1":
        raise LostJobError(f"job {job.id} was cancelled or taken from {job.worker_id}")


async def requeue_lost(
    connection: asyncpg.Connection, alive: Sequence[str], *, most_attempts: int = MOST_ATTEMPTS
) -> list[int]:
    """Put running jobs whose worker is not among the living back into the queue; returns their ids.

    One that has been tried too often fails instead; what a comparison leaves undecided is refused with it.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            """
            UPDATE ml_jobs
            SET status = CASE WHEN attempts < $2 THEN 'PENDING' ELSE 'FAILED' END,
                completed_at = CASE WHEN attempts < $2 THEN NULL ELSE now() END,
                error_msg = 'its process ended after ' || attempts || ' starts', worker_id = NULL
            WHERE status = 'RUNNING' AND worker_id <> ALL($1::varchar[])
            RETURNING id
            """,
            list(alive),
            most_attempts,
        )
        await challenges.refuse_abandoned(connection)
    return sorted(row["id"] for row in rows)


async def unfinished_up_to(
    connection: asyncpg.Connection, train_at_ms: int, *, symbols: Sequence[str] | None = None
) -> int:
    """Count the trainings and comparisons due by an event time that have not ended, well or badly."""
    count: int = await connection.fetchval(
        """
        SELECT count(*) FROM ml_jobs
        WHERE status IN ('PENDING', 'RUNNING') AND train_at <= $1
          AND ($2::varchar[] IS NULL OR symbol = ANY($2))
        """,
        moment(train_at_ms),
        symbols,
    )
    return count


async def unfinished(connection: asyncpg.Connection, *, reached_ms: int) -> int:
    """Count what waits or runs, but for the comparisons of a time that is not reached."""
    count: int = await connection.fetchval(
        """
        SELECT count(*) FROM ml_jobs
        WHERE status = 'RUNNING' OR (status = 'PENDING' AND (job_type <> 'COMPARE' OR train_at <= $1))
        """,
        moment(reached_ms),
    )
    return count


async def cancel(connection: asyncpg.Connection, number: int) -> bool:
    """Cancel a job that has not ended; its worker notices at its next heartbeat.

    What a cancelled comparison leaves undecided is refused with it.
    """
    async with connection.transaction():
        status: str = await connection.execute(
            """
            UPDATE ml_jobs SET status = 'CANCELLED', completed_at = now()
            WHERE id = $1 AND status IN ('PENDING', 'RUNNING')
            """,
            number,
        )
        await challenges.refuse_abandoned(connection)
    return status == "UPDATE 1"

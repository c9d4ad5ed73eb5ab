"""Models in the registry, and what they earned live: rows as trainer and forecaster write them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import asyncpg

from db.repositories import models
from db.repositories.checkpoints import moment
from db.repositories.models import NewModel
from domain.evaluation.walk_forward_score import WalkForwardScore
from schemas.frames import MINUTE_MS

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

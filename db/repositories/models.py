"""Models: registered by the trainer, promoted, and looked up by the event time that they serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from db.repositories.checkpoints import milliseconds, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model as it comes out of a training.

    Attributes
    ----------
    model_version
        Unique, and the same whenever the same training is run again: no serial number, time or path in it.
    symbol
        `ALL` for one pooled over all symbols.
    artifact_path
        Where its file lies, relative to the store.
    metrics
        Numbers of the training that come out the same every time; seconds go into `train_seconds`.
    """

    model_version: str
    model_type: str
    symbol: str
    forecast_horizon: int
    train_start_ms: int
    train_end_ms: int
    artifact_path: str
    artifact_sha256: str
    schema_hash: str
    rmse: float
    mae: float
    baseline_rmse: float
    accuracy: float | None = None
    test_size: float | None = None
    random_state: int | None = None
    features_csv: str | None = None
    params_csv: str | None = None
    feature_importance_csv: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    train_seconds: float | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A registered model, and when it serves.

    Attributes
    ----------
    effective_from_ms, superseded_at_ms
        Event times; it serves from the first up to, and without, the second.
    """

    id: int
    model_version: str
    model_type: str
    symbol: str
    forecast_horizon: int
    train_start_ms: int | None
    train_end_ms: int | None
    artifact_path: str
    artifact_sha256: str
    schema_hash: str
    effective_from_ms: int | None
    superseded_at_ms: int | None
    is_production: bool
    metrics: dict[str, Any]

    def serves(self, event_time_ms: int) -> bool:
        """Tell whether it serves at an event time."""
        if self.effective_from_ms is None or event_time_ms < self.effective_from_ms:
            return False
        return self.superseded_at_ms is None or event_time_ms < self.superseded_at_ms


async def register(connection: asyncpg.Connection, model: NewModel) -> int:
    """Write a trained model down, in the transaction that ends its job; returns its id."""
    number: int = await connection.fetchval(
        """
        INSERT INTO ml_models (name, model_type, status, target_variable, future_minutes, train_start,
            train_end, test_size, random_state, features_csv, params_csv, feature_importance_csv,
            training_accuracy, model_file_path, description, model_version, symbol, forecast_horizon,
            artifact_sha256, schema_hash, metrics, rmse, mae, baseline_rmse, train_seconds)
        VALUES ($1, $2, 'READY', 'pct_change', $3, $4, $5, $6::float8::numeric, $7, $8, $9, $10,
            $11::float8::numeric, $12, $13, $1, $14, $3, $15, $16, $17, $18::float8::numeric,
            $19::float8::numeric, $20::float8::numeric, $21)
        RETURNING id
        """,
        model.model_version,
        model.model_type,
        model.forecast_horizon,
        moment(model.train_start_ms),
        moment(model.train_end_ms),
        model.test_size,
        model.random_state,
        model.features_csv,
        model.params_csv,
        model.feature_importance_csv,
        model.accuracy,
        model.artifact_path,
        model.description,
        model.symbol,
        model.artifact_sha256,
        model.schema_hash,
        model.metrics,
        model.rmse,
        model.mae,
        model.baseline_rmse,
        model.train_seconds,
    )
    return number


async def promote(connection: asyncpg.Connection, model_id: int, effective_from_ms: int) -> None:
    """Put a model into production from an event time on; what it replaces serves until then.

    In the caller's transaction. A model that never came to serve, because its successor begins no later, is
    superseded at its own beginning.
    """
    start = moment(effective_from_ms)
    await connection.execute(
        """
        UPDATE ml_models AS old
        SET is_production = false, superseded_at = GREATEST(old.effective_from, $2), updated_at = now()
        FROM ml_models AS new
        WHERE new.id = $1 AND old.id <> new.id AND old.is_production AND old.symbol = new.symbol
          AND old.forecast_horizon = new.forecast_horizon AND old.model_type = new.model_type
        """,
        model_id,
        start,
    )
    await connection.execute(
        """
        UPDATE ml_models
        SET is_production = true, effective_from = $2, superseded_at = NULL, updated_at = now()
        WHERE id = $1
        """,
        model_id,
        start,
    )
    await _mark_batches(connection, model_id)


async def _mark_batches(connection: asyncpg.Connection, model_id: int) -> None:
    # The batch's own flag says the same as the model's, for those who look only there.
    await connection.execute(
        """
        UPDATE "mlTrainingBatches" AS batch SET is_production = model.is_production
        FROM ml_models AS model, ml_models AS promoted
        WHERE promoted.id = $1 AND model.model_version = batch.model_version
          AND model.symbol = promoted.symbol AND model.forecast_horizon = promoted.forecast_horizon
          AND model.model_type = promoted.model_type AND batch.is_production <> model.is_production
        """,
        model_id,
    )


async def activate(connection: asyncpg.Connection, model_id: int, effective_from_ms: int) -> None:
    """Move the beginning of a model in production, because it was ready later than planned.

    What it replaced serves until the new time.
    """
    await connection.execute(
        """
        UPDATE ml_models AS old SET superseded_at = $2, updated_at = now() FROM ml_models AS new
        WHERE new.id = $1 AND old.id <> new.id AND old.superseded_at = new.effective_from
          AND old.symbol = new.symbol AND old.forecast_horizon = new.forecast_horizon
          AND old.model_type = new.model_type
        """,
        model_id,
        moment(effective_from_ms),
    )
    await connection.execute(
        "UPDATE ml_models SET effective_from = $2, updated_at = now() WHERE id = $1",
        model_id,
        moment(effective_from_ms),
    )


async def in_production(
    connection: asyncpg.Connection, symbol: str, forecast_horizon: int, model_type: str
) -> Model | None:
    """Read the model that a new one has to beat."""
    row = await connection.fetchrow(
        _SELECT + " WHERE is_production AND symbol = $1 AND forecast_horizon = $2 AND model_type = $3",
        symbol,
        forecast_horizon,
        model_type,
    )
    return None if row is None else _model(row)


async def serving(connection: asyncpg.Connection, event_time_ms: int) -> list[Model]:
    """Read the models that serve at an event time, by horizon, symbol and type."""
    rows = await connection.fetch(
        _SELECT
        + """
        WHERE effective_from <= $1 AND (superseded_at IS NULL OR superseded_at > $1)
          AND status = 'READY' AND NOT is_deleted
        ORDER BY forecast_horizon, symbol, model_type
        """,
        moment(event_time_ms),
    )
    return [_model(row) for row in rows]


async def timeline(connection: asyncpg.Connection) -> list[Model]:
    """Read every model that ever was in production, in the order in which they began to serve."""
    rows = await connection.fetch(
        _SELECT
        + """
        WHERE effective_from IS NOT NULL AND NOT is_deleted
        ORDER BY effective_from, forecast_horizon, symbol, model_type, train_end
        """
    )
    return [_model(row) for row in rows]


async def next_change(connection: asyncpg.Connection, after_ms: int) -> int | None:
    """Tell the first event time after this one at which another model begins to serve."""
    when = await connection.fetchval(
        "SELECT min(effective_from) FROM ml_models WHERE effective_from > $1 AND NOT is_deleted",
        moment(after_ms),
    )
    return None if when is None else milliseconds(when)


async def by_version(connection: asyncpg.Connection, model_version: str) -> Model | None:
    """Read one model."""
    row = await connection.fetchrow(_SELECT + " WHERE model_version = $1", model_version)
    return None if row is None else _model(row)


_SELECT = """
    SELECT id, model_version, model_type, symbol, forecast_horizon, train_start, train_end,
           model_file_path, artifact_sha256, schema_hash, effective_from, superseded_at, is_production,
           metrics
    FROM ml_models
"""


def _model(row: asyncpg.Record) -> Model:
    def ms(column: str) -> int | None:
        return None if row[column] is None else milliseconds(row[column])

    return Model(
        id=row["id"],
        model_version=row["model_version"],
        model_type=row["model_type"],
        symbol=row["symbol"],
        forecast_horizon=row["forecast_horizon"],
        train_start_ms=ms("train_start"),
        train_end_ms=ms("train_end"),
        artifact_path=row["model_file_path"],
        artifact_sha256=row["artifact_sha256"],
        schema_hash=row["schema_hash"],
        effective_from_ms=ms("effective_from"),
        superseded_at_ms=ms("superseded_at"),
        is_production=row["is_production"],
        metrics=row["metrics"] or {},
    )

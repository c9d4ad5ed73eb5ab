"""Models: registered by the trainer, promoted, and looked up by the event time that they serve.

When a model serves is kept in its terms (`db/repositories/terms.py`); its own row repeats the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from db.repositories import terms
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
    recipe_hash
        Equal where two models differ in nothing but the data that they learned from.
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
    recipe_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A registered model, and when it serves.

    Attributes
    ----------
    effective_from_ms, superseded_at_ms
        Event times; it serves from the first up to, and without, the second.
    recipe_hash
        As in `NewModel`; None for a model of an older program.
    rolled_back_at_ms
        Event time from which it was taken out of production by hand; None if it never was.
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
    recipe_hash: str | None = None
    rolled_back_at_ms: int | None = None

    @property
    def key(self) -> terms.Key:
        """What it is a model of."""
        return terms.Key(
            symbol=self.symbol, forecast_horizon=self.forecast_horizon, model_type=self.model_type
        )

    @property
    def train_at_ms(self) -> int:
        """Open time of the last candle that was known when it was trained."""
        return int(self.metrics.get("train_at_ms", self.train_end_ms or 0))

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
            artifact_sha256, schema_hash, metrics, rmse, mae, baseline_rmse, train_seconds, recipe_hash)
        VALUES ($1, $2, 'READY', 'pct_change', $3, $4, $5, $6::float8::numeric, $7, $8, $9, $10,
            $11::float8::numeric, $12, $13, $1, $14, $3, $15, $16, $17, $18::float8::numeric,
            $19::float8::numeric, $20::float8::numeric, $21, $22)
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
        model.recipe_hash,
    )
    return number


async def promote(
    connection: asyncpg.Connection,
    model_id: int,
    effective_from_ms: int,
    *,
    reason: str = "promoted",
    decided_by: str = terms.TRAINING,
) -> None:
    """Put a model into production from an event time on; what it replaces serves until then.

    In the caller's transaction. A model that never came to serve, because its successor begins no later, is
    superseded at its own beginning; after a rollback by hand it serves a minute later, see `terms.begin`.
    """
    model = await by_id(connection, model_id)
    await terms.begin(
        connection,
        model.key,
        model_version=model.model_version,
        from_ms=effective_from_ms,
        reason=reason,
        decided_by=decided_by,
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
        _SELECT_TERMS
        + """
        WHERE term.effective_from <= $1 AND (term.superseded_at IS NULL OR term.superseded_at > $1)
          AND status = 'READY' AND NOT is_deleted
        ORDER BY model.forecast_horizon, model.symbol, model.model_type
        """,
        moment(event_time_ms),
    )
    return [_model(row) for row in rows]


async def timeline(connection: asyncpg.Connection) -> list[Model]:
    """Read every model that ever was in production, in the order in which they began to serve.

    One that was brought back is there once for each time.
    """
    rows = await connection.fetch(
        _SELECT_TERMS
        + """
        WHERE NOT is_deleted
        ORDER BY term.effective_from, model.forecast_horizon, model.symbol, model.model_type, train_end
        """
    )
    return [_model(row) for row in rows]


async def next_change(connection: asyncpg.Connection, after_ms: int) -> int | None:
    """Tell the first event time after this one at which another model, or none, begins to serve."""
    when = await connection.fetchval(
        "SELECT min(effective_from) FROM model_terms WHERE effective_from > $1", moment(after_ms)
    )
    return None if when is None else milliseconds(when)


async def by_id(connection: asyncpg.Connection, model_id: int) -> Model:
    """Read one model.

    Raises
    ------
    LookupError
        If there is none of this id.
    """
    row = await connection.fetchrow(_SELECT + " WHERE id = $1", model_id)
    if row is None:
        raise LookupError(f"no model has the id {model_id}")
    return _model(row)


async def by_version(connection: asyncpg.Connection, model_version: str) -> Model | None:
    """Read one model."""
    row = await connection.fetchrow(_SELECT + " WHERE model_version = $1", model_version)
    return None if row is None else _model(row)


_COLUMNS = """
    id, model.model_version, model.model_type, model.symbol, model.forecast_horizon, train_start, train_end,
    model_file_path, artifact_sha256, schema_hash, is_production, metrics, recipe_hash, rolled_back_at
"""
_SELECT = f"SELECT {_COLUMNS}, effective_from, superseded_at FROM ml_models AS model"  # noqa: S608
_SELECT_TERMS = f"""
    SELECT {_COLUMNS}, term.effective_from, term.superseded_at
    FROM model_terms AS term JOIN ml_models AS model USING (model_version)
"""  # noqa: S608 - constants


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
        recipe_hash=row["recipe_hash"],
        rolled_back_at_ms=ms("rolled_back_at"),
    )

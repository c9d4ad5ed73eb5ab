"""What a training leaves in the tables: a model, a batch, and who is in production."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import asyncpg

from db import copy
from db.repositories import models
from domain.evaluation.metrics import Comparison
from schemas.frames import MINUTE_MS
from training import naming
from training.fitting import FitResult, TrainedModel
from training.promotion import Decision
from training.settings import TrainingPlan
from training.task import TrainTask


async def record(
    connection: asyncpg.Connection,
    *,
    plan: TrainingPlan,
    task: TrainTask,
    horizon_minutes: int,
    result: FitResult,
    decision: Decision,
    versions: Mapping[int, str],
) -> int | None:
    """Write one horizon of a training down, and put its model into production if so decided.

    In the caller's transaction. The horizons of a joint training share one file, named by the longest.

    Returns
    -------
    The id of the model; None if there was nothing to learn.
    """
    effective_ms = task.train_at_ms + plan.activation_delay_minutes * MINUTE_MS
    model_id = None
    version = versions.get(horizon_minutes)
    file = naming.graph_file(versions[task.horizons[-1]]) if versions else None
    if result.model is not None and version is not None and file is not None:
        model = _new_model(plan, task, horizon_minutes, result, result.model, version, file, decision)
        # the very same model is one row, also when its training is asked for a second time
        known = await models.by_version(connection, version)
        model_id = known.id if known is not None else await models.register(connection, model)
    row = _batch_row(task, horizon_minutes, result, decision, version, file, effective_ms)
    await copy.write(connection, copy.Columns(table="mlTrainingBatches", op="upsert", columns=row))
    if model_id is not None and decision.promote:
        await models.promote(connection, model_id, effective_ms)
    return model_id


def _new_model(
    plan: TrainingPlan,
    task: TrainTask,
    horizon_minutes: int,
    result: FitResult,
    trained: TrainedModel,
    version: str,
    file: str,
    decision: Decision,
) -> models.NewModel:
    scores = trained.by_horizon[horizon_minutes].scores
    return models.NewModel(
        model_version=version,
        model_type=task.family,
        symbol=task.symbol,
        forecast_horizon=horizon_minutes,
        train_start_ms=result.train_start_ms,
        train_end_ms=result.train_end_ms,
        artifact_path=file,
        artifact_sha256=trained.sha256,
        schema_hash=plan.schema_hash,
        rmse=scores.rmse,
        mae=scores.mae,
        baseline_rmse=result.baseline[horizon_minutes].rmse,
        accuracy=_or_none(scores.accuracy),
        test_size=plan.validation_fraction,
        random_state=plan.seed_of(**task.names),
        features_csv=",".join(plan.feature_names),
        params_csv=";".join(f"{key}={value}" for key, value in sorted(task.settings.items())),
        feature_importance_csv=";".join(
            f"{name}={share:.6f}" for name, share in sorted(trained.importance.items(), key=lambda x: -x[1])
        ),
        metrics=_metrics(task, horizon_minutes, result, trained),
        train_seconds=result.seconds,
        description=decision.reason,
    )


def _metrics(
    task: TrainTask, horizon_minutes: int, result: FitResult, trained: TrainedModel
) -> dict[str, Any]:
    found = trained.by_horizon[horizon_minutes]
    groups: dict[str, Mapping[str, Any]] = {
        "validation": asdict(found.scores),
        "baseline": asdict(result.baseline[horizon_minutes]),
        "against_no_change": _comparison(found.against_no_change),
        "training": trained.metrics,
    }
    if found.against_production is not None:
        groups["against_production"] = _comparison(found.against_production)
    told: dict[str, Any] = {
        name: {key: _or_none(value) for key, value in values.items()} for name, values in groups.items()
    }
    return {**told, "train_at_ms": task.train_at_ms, "best_iteration": trained.best_iteration}


def _comparison(found: Comparison) -> dict[str, float]:
    return {**asdict(found), "z": found.z}


def _batch_row(
    task: TrainTask,
    horizon_minutes: int,
    result: FitResult,
    decision: Decision,
    version: str | None,
    file: str | None,
    effective_ms: int,
) -> dict[str, list[Any]]:
    trained = result.model
    # without a model the no-change forecast goes on: its scores stand in the row
    baseline = result.baseline[horizon_minutes]
    scores = trained.by_horizon[horizon_minutes].scores if trained is not None else baseline
    row: dict[str, Any] = {
        "batch_id": naming.batch_id(**task.names_of(horizon_minutes)),
        "symbol": task.symbol,
        "model_type": task.family,
        "training_samples": result.training_rows,
        "validation_samples": result.validation_rows,
        "rmse": scores.rmse,
        "mae": scores.mae,
        "accuracy": scores.accuracy,
        "baseline_rmse": baseline.rmse,
        "model_path": file,
        "model_version": version,
        "artifact_sha256": trained.sha256 if trained is not None else None,
        "is_production": False,
        "created_at": task.train_at_ms + MINUTE_MS,
        "forecast_horizon": horizon_minutes,
        "train_start": result.train_start_ms,
        "train_end": result.train_end_ms,
        "promoted": decision.promote,
        "promotion_reason": decision.reason,
    }
    if decision.promote:
        row["effective_from"] = effective_ms
    return {name: [value] for name, value in row.items()}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None

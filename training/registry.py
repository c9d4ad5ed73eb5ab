"""What a training leaves in the tables: a model, a batch, and its term in production or its challenge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import asyncpg

from db import copy
from db.repositories import challenges, models
from db.repositories.models import Model
from db.repositories.terms import Key
from domain.evaluation.metrics import Comparison
from schemas.frames import MINUTE_MS
from training import naming
from training.fitting import FitResult, TrainedModel
from training.promotion import Decision
from training.recipe import recipe_hash
from training.settings import TrainingPlan
from training.task import TrainTask

#: Challengers of one symbol, horizon and type at the same time; each costs time at every candle.
MOST_CHALLENGERS = 4


async def record(
    connection: asyncpg.Connection,
    *,
    plan: TrainingPlan,
    task: TrainTask,
    horizon_minutes: int,
    result: FitResult,
    decision: Decision,
    versions: Mapping[int, str],
) -> tuple[int | None, Decision]:
    """Write one horizon of a training down, and let its model serve or challenge if so decided.

    In the caller's transaction. The horizons of a joint training share one file, named by the longest. A very
    same model that served or challenged before is left as it is: one that was rolled back stays so.

    Returns
    -------
    The id of the model, None if there was nothing to learn; and the decision, which may be a refusal by now.
    """
    effective_ms = task.train_at_ms + plan.activation_delay_minutes * MINUTE_MS
    model = None
    version = versions.get(horizon_minutes)
    file = naming.graph_file(versions[task.horizons[-1]]) if versions else None
    if result.model is not None and version is not None and file is not None:
        # the very same model is one row, also when its training is asked for a second time
        model = await models.by_version(connection, version)
        if model is not None and await _was_decided(connection, model):
            return model.id, replace(decision, promote=False, challenge=False, reason=_of_known(model))
        if decision.challenge:
            decision = await _with_room(connection, task, horizon_minutes, decision)
        if model is None:
            new = _new_model(plan, task, horizon_minutes, result, result.model, version, file, decision)
            model = await models.by_id(connection, await models.register(connection, new))
    row = _batch_row(task, horizon_minutes, result, decision, version, file, effective_ms)
    await copy.write(connection, copy.Columns(table="mlTrainingBatches", op="upsert", columns=row))
    if model is not None and decision.promote:
        await models.promote(connection, model.id, effective_ms, reason=decision.reason)
    if model is not None and decision.challenge:
        begin_ms = await _unseen_from(connection, model, effective_ms, plan)
        until_ms = begin_ms + plan.shadow_ms(horizon_minutes)
        await challenges.begin(connection, model, from_ms=begin_ms, until_ms=until_ms)
    return (None if model is None else model.id), decision


async def _was_decided(connection: asyncpg.Connection, model: Model) -> bool:
    if model.effective_from_ms is not None:
        return True
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM model_challenges WHERE model_version = $1)", model.model_version
    )
    return found


def _of_known(model: Model) -> str:
    if model.rolled_back_at_ms is not None:
        return f"{model.model_version} was rolled back, and is not promoted again by itself"
    return f"{model.model_version} is known, and was decided about before"


async def _with_room(
    connection: asyncpg.Connection, task: TrainTask, horizon_minutes: int, decision: Decision
) -> Decision:
    key = Key(symbol=task.symbol, forecast_horizon=horizon_minutes, model_type=task.family)
    others = await challenges.running(connection, key)
    if len(others) < MOST_CHALLENGERS:
        return decision
    reason = f"{len(others)} earlier models are still in shadow; there is no room for another"
    return Decision(promote=False, reason=reason)


async def _unseen_from(
    connection: asyncpg.Connection, model: Model, effective_ms: int, plan: TrainingPlan
) -> int:
    """Give the event time from which on neither the model nor what is in production has seen the candles."""
    key = model.key
    before = await models.in_production(connection, key.symbol, key.forecast_horizon, key.model_type)
    if before is None:
        return effective_ms
    return max(effective_ms, before.train_at_ms + plan.activation_delay_minutes * MINUTE_MS)


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
        params_csv=";".join(f"{key}={value}" for key, value in sorted(trained.settings.items())),
        feature_importance_csv=";".join(
            f"{name}={share:.6f}" for name, share in sorted(trained.importance.items(), key=lambda x: -x[1])
        ),
        metrics=_metrics(task, horizon_minutes, result, trained),
        train_seconds=result.seconds,
        recipe_hash=recipe_hash(plan, task),
        description=decision.reason,
    )


def _metrics(
    task: TrainTask, horizon_minutes: int, result: FitResult, trained: TrainedModel
) -> dict[str, Any]:
    found = trained.by_horizon[horizon_minutes]
    groups: dict[str, Mapping[str, Any]] = {
        "validation": asdict(found.scores),
        "walk_forward": asdict(found.walk_forward),
        "baseline": asdict(result.baseline[horizon_minutes]),
        "against_no_change": _comparison(found.against_no_change),
        "training": trained.metrics,
    }
    if found.against_production is not None:
        groups["against_production"] = _comparison(found.against_production)
    told: dict[str, Any] = {
        name: {key: _or_none(value) for key, value in values.items()} for name, values in groups.items()
    }
    if result.tuning is not None:
        told["tuning"] = result.tuning.told()
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

"""A TRAIN job from beginning to end.

Rows from `ml_features` -> fit, export, parity and scores in another process -> decision -> files -> one
transaction: the model, the batch, the flags of production and the end of the job. Whatever fails before that
transaction leaves the model in production as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg

from artifacts.store import ArtifactStore
from db import copy
from db.repositories import jobs, models
from domain.models import families
from domain.models.model import ModelRefusedError, Progress
from schemas.frames import MINUTE_MS
from training import naming
from training.fitting import FitRequest, FitResult, ServedBefore, TrainedModel, fit
from training.promotion import Decision, decide
from training.rows import Compute, RowFiles, Span
from training.settings import ALL_SYMBOLS, TrainingPlan

#: The progress of a training from which on only its result is written.
WRITING = 1.0


class BadJobError(ValueError):
    """A job says something that cannot be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """What became of a training.

    Attributes
    ----------
    model_version
        None if there was nothing to learn.
    decision
        Whether it went into production, and why.
    rows
        Rows that it learned from.
    seconds
        Of fitting, export, checks and scores.
    """

    batch_id: str
    model_version: str | None
    decision: Decision
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a job asks for, checked."""

    family: str
    symbol: str
    horizon_minutes: int
    train_at_ms: int
    train_start_ms: int
    settings: Mapping[str, Any]

    @property
    def names(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "symbol": self.symbol,
            "horizon_minutes": self.horizon_minutes,
            "train_at_ms": self.train_at_ms,
        }


class TrainHandler:
    """Handles TRAIN jobs.

    Parameters
    ----------
    plan
        What all trainings have in common.
    pool
        Database connections as `db.connect.pool` makes them.
    compute
        Where the work is done.
    store
        Where models are put.
    rows
        Where rows are read to.
    scratch
        A folder for unfinished trainings, which a killed trainer goes on from.
    """

    def __init__(
        self,
        *,
        plan: TrainingPlan,
        pool: asyncpg.Pool,
        compute: Compute,
        store: ArtifactStore,
        rows: RowFiles,
        scratch: Path,
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._plan = plan
        self._pool = pool
        self._compute = compute
        self._store = store
        self._rows = rows
        self._scratch = scratch

    async def run(self, job: jobs.Job, progress: Progress) -> TrainOutcome:
        """Train what a job asks for, and write down what came of it.

        Raises
        ------
        BadJobError, ModelError, TooFewRowsError
            If it cannot be done; nothing is written then.
        LostJobError
            If the job was cancelled meanwhile; nothing is written then.
        """
        task = self._task(job)
        plan = self._plan
        span = Span(
            symbols=plan.symbols if task.symbol == ALL_SYMBOLS else (task.symbol,),
            from_ms=self._from_ms(task),
            to_ms=task.train_at_ms,
            schema_hash=plan.schema_hash,
            features=len(plan.feature_names),
        )
        progress(0.0, "reading rows")
        before, note = await self._in_production(task)
        async with self._rows.use(span) as folder:
            request = self._request(task, folder, before)
            result: FitResult = await self._compute.run(fit, request, progress=progress)
        decision = _decide(result, self._plan.error_rate, note)
        progress(WRITING, decision.reason)
        return await self._write(job, task, result, decision)

    def checkpoint_path(self, job: jobs.Job) -> Path:
        """Name the file in which a job's unfinished training is kept."""
        return self._scratch / f"{naming.batch_id(**self._task(job).names)}.state"

    def _task(self, job: jobs.Job) -> _Task:
        wanted = {
            "symbol": job.symbol,
            "forecast_horizon": job.forecast_horizon,
            "train_model_type": job.model_type,
            # what a person asks for has no point of its own: it ends with its data
            "train_at": job.train_end_ms if job.train_at_ms is None else job.train_at_ms,
        }
        if absent := [name for name, value in wanted.items() if value is None]:
            raise BadJobError(f"job {job.id} does not say {', '.join(absent)}")
        assert job.symbol is not None
        assert job.forecast_horizon is not None
        assert job.model_type is not None
        assert wanted["train_at"] is not None
        settings = {**self._plan.family_settings.get(job.model_type, {}), **job.settings}
        families.check_name(job.model_type)
        return _Task(
            family=job.model_type,
            symbol=job.symbol,
            horizon_minutes=job.forecast_horizon,
            train_at_ms=int(wanted["train_at"]),
            train_start_ms=job.train_start_ms or 0,
            settings=settings,
        )

    def _from_ms(self, task: _Task) -> int:
        minutes = self._plan.history_minutes
        oldest = 0 if minutes is None else task.train_at_ms - minutes * MINUTE_MS
        return max(oldest, task.train_start_ms)

    async def _in_production(self, task: _Task) -> tuple[ServedBefore | None, str]:
        async with self._pool.acquire() as connection:
            model = await models.in_production(connection, task.symbol, task.horizon_minutes, task.family)
        if model is None:
            return None, ""
        if model.schema_hash != self._plan.schema_hash:
            return None, f"; {model.model_version} was trained on other features and serves no more"
        try:
            payload = self._store.read(model.artifact_path, sha256=model.artifact_sha256)
        except ModelRefusedError as error:
            return None, f"; {model.model_version} could not be compared with: {error}"
        before = ServedBefore(
            version=model.model_version,
            train_at_ms=model.metrics.get("train_at_ms", model.train_end_ms or 0),
            payload=payload,
            sha256=model.artifact_sha256,
        )
        return before, ""

    def _request(self, task: _Task, folder: Path, before: ServedBefore | None) -> FitRequest:
        plan = self._plan
        return FitRequest(
            folder=str(folder),
            checkpoint_path=str(self._scratch / f"{naming.batch_id(**task.names)}.state"),
            settings=task.settings,
            seed=plan.seed_of(**task.names),
            feature_names=plan.feature_names,
            schema_hash=plan.schema_hash,
            warm_up_minutes=plan.warm_up_minutes,
            optional_features=plan.optional_features,
            validation_fraction=plan.validation_fraction,
            embargo_minutes=plan.embargo_minutes,
            production=before,
            **task.names,
        )

    async def _write(self, job: jobs.Job, task: _Task, result: FitResult, decision: Decision) -> TrainOutcome:
        batch = naming.batch_id(**task.names)
        trained = result.model
        version = stored = None
        if trained is not None:
            version = naming.model_version(**task.names, artifact_sha256=trained.sha256)
            # The files come first: a row must never name a file that is not there.
            self._store.write(f"{version}.{trained.native_suffix}", trained.native)
            stored = self._store.write(f"{version}.onnx", trained.graph)
        effective_ms = task.train_at_ms + self._plan.activation_delay_minutes * MINUTE_MS
        async with self._pool.acquire() as connection, connection.transaction():
            await jobs.heartbeat(connection, job, progress=WRITING, message=decision.reason)
            model_id = None
            if trained is not None and stored is not None and version is not None:
                model_id = await self._register(
                    connection, _new_model(self._plan, task, result, trained, version, decision)
                )
            row = _batch_row(batch, task, result, decision, version, effective_ms)
            await copy.write(connection, copy.Columns(table="mlTrainingBatches", op="upsert", columns=row))
            if model_id is not None and decision.promote:
                await models.promote(connection, model_id, effective_ms)
            await jobs.finish(connection, job, model_id=model_id)
        return TrainOutcome(
            batch_id=batch,
            model_version=version,
            decision=decision,
            rows=result.training_rows,
            seconds=result.seconds,
        )

    async def _register(self, connection: asyncpg.Connection, model: models.NewModel) -> int:
        # the very same model is one row, also when a training is asked for a second time
        known = await models.by_version(connection, model.model_version)
        return known.id if known is not None else await models.register(connection, model)


def _decide(result: FitResult, error_rate: float, note: str) -> Decision:
    if result.model is None:
        return Decision(promote=False, reason=result.reason)
    decision = decide(
        against_no_change=result.model.against_no_change,
        against_production=result.model.against_production,
        error_rate=error_rate,
    )
    return Decision(promote=decision.promote, reason=decision.reason + note)


def _new_model(
    plan: TrainingPlan,
    task: _Task,
    result: FitResult,
    trained: TrainedModel,
    version: str,
    decision: Decision,
) -> models.NewModel:
    return models.NewModel(
        model_version=version,
        model_type=task.family,
        symbol=task.symbol,
        forecast_horizon=task.horizon_minutes,
        train_start_ms=result.train_start_ms,
        train_end_ms=result.train_end_ms,
        artifact_path=f"{version}.onnx",
        artifact_sha256=trained.sha256,
        schema_hash=plan.schema_hash,
        rmse=trained.scores.rmse,
        mae=trained.scores.mae,
        baseline_rmse=result.baseline.rmse,
        accuracy=_or_none(trained.scores.accuracy),
        test_size=plan.validation_fraction,
        random_state=plan.seed_of(**task.names),
        features_csv=",".join(plan.feature_names),
        params_csv=";".join(f"{key}={value}" for key, value in sorted(task.settings.items())),
        feature_importance_csv=";".join(
            f"{name}={share:.6f}" for name, share in sorted(trained.importance.items(), key=lambda x: -x[1])
        ),
        metrics=_metrics(task, result, trained),
        train_seconds=result.seconds,
        description=decision.reason,
    )


def _metrics(task: _Task, result: FitResult, trained: TrainedModel) -> dict[str, Any]:
    groups: dict[str, Mapping[str, Any]] = {
        "validation": asdict(trained.scores),
        "baseline": asdict(result.baseline),
        "against_no_change": _comparison(trained.against_no_change),
        "training": trained.metrics,
    }
    if trained.against_production is not None:
        groups["against_production"] = _comparison(trained.against_production)
    told: dict[str, Any] = {
        name: {key: _or_none(value) for key, value in values.items()} for name, values in groups.items()
    }
    return {**told, "train_at_ms": task.train_at_ms, "best_iteration": trained.best_iteration}


def _comparison(found: Any) -> dict[str, float]:
    return {**asdict(found), "z": found.z}


def _batch_row(
    batch: str,
    task: _Task,
    result: FitResult,
    decision: Decision,
    version: str | None,
    effective_ms: int,
) -> dict[str, list[Any]]:
    trained = result.model
    # without a model the no-change forecast goes on: its scores stand in the row
    scores = trained.scores if trained is not None else result.baseline
    row: dict[str, Any] = {
        "batch_id": batch,
        "symbol": task.symbol,
        "model_type": task.family,
        "training_samples": result.training_rows,
        "validation_samples": result.validation_rows,
        "rmse": scores.rmse,
        "mae": scores.mae,
        "accuracy": scores.accuracy,
        "baseline_rmse": result.baseline.rmse,
        "model_path": f"{version}.onnx" if version is not None else None,
        "model_version": version,
        "artifact_sha256": trained.sha256 if trained is not None else None,
        "is_production": False,
        "created_at": task.train_at_ms + MINUTE_MS,
        "forecast_horizon": task.horizon_minutes,
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

"""A TRAIN job from beginning to end.

Rows from `ml_features` -> fit, export, parity and scores in another process -> decision -> files -> one
transaction: the model, the batch, its term or its challenge, and the end of the job. Whatever fails before
that transaction leaves the model in production as it is. Where nothing is in production, a model that is
better than the no-change forecast is promoted at once; otherwise it becomes a challenger, and
`training.comparing` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from artifacts.store import ArtifactStore
from db.repositories import jobs
from db.repositories.terms import Key
from domain.models.model import Progress
from schemas.frames import ALL_SYMBOLS, MINUTE_MS
from training import naming, registry
from training.ancestors import Ancestor, Ancestors
from training.fitting import FitRequest, FitResult, TrainedModel, fit
from training.incumbents import Incumbent, Incumbents
from training.promotion import Decision, decide
from training.request import request_of
from training.rows import Compute, RowFiles, Span
from training.settings import TrainingPlan
from training.task import TrainTask, task_of

#: The progress of a training from which on only its result is written.
WRITING = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """What became of a training.

    Attributes
    ----------
    batch_id
        Of its longest horizon.
    model_versions
        By horizon; none if there was nothing to learn.
    decisions
        By horizon, whether it went into production, and why.
    rows
        Rows that it learned from.
    seconds
        Of fitting, export, checks and scores.
    """

    batch_id: str
    model_versions: Mapping[int, str]
    decisions: Mapping[int, Decision]
    rows: int
    seconds: float

    def told(self) -> dict[str, Any]:
        """Give the same for a log."""
        return {
            "model_versions": sorted(self.model_versions.values()),
            "promoted": [horizon for horizon, made in sorted(self.decisions.items()) if made.promote],
            "reasons": {horizon: made.reason for horizon, made in sorted(self.decisions.items())},
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
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
        self._incumbents = Incumbents(plan=plan, store=store)
        self._ancestors = Ancestors(plan=plan, pool=pool, store=store)

    async def run(self, job: jobs.Job, progress: Progress) -> TrainOutcome:
        """Train what a job asks for, and write down what came of it.

        Raises
        ------
        BadJobError, ModelError, TooFewRowsError
            If it cannot be done; nothing is written then.
        LostJobError
            If the job was cancelled meanwhile; nothing is written then.
        """
        task = task_of(job, self._plan)
        plan = self._plan
        progress(0.0, "reading rows")
        production = await self._in_production(task)
        ancestor = await self._ancestors.of(task, production)
        span = Span(
            symbols=plan.symbols if task.symbol == ALL_SYMBOLS else (task.symbol,),
            from_ms=self._from_ms(task, ancestor),
            to_ms=task.train_at_ms,
            schema_hash=plan.schema_hash,
            features=len(plan.feature_names),
        )
        async with self._rows.use(span) as folder:
            request = self._request(task, folder, production, ancestor)
            result: FitResult = await self._compute.run(fit, request, progress=progress)
        decisions = {
            horizon: _decide(result, horizon, self._plan.error_rate, production[horizon])
            for horizon in task.horizons
        }
        progress(WRITING, decisions[task.horizons[-1]].reason)
        return await self._write(job, task, result, decisions)

    def checkpoint_path(self, job: jobs.Job) -> Path:
        """Name the file in which a job's unfinished training is kept."""
        return self._checkpoint_path(task_of(job, self._plan))

    def _checkpoint_path(self, task: TrainTask) -> Path:
        return self._scratch / f"{naming.batch_id(**task.names)}.state"

    def _from_ms(self, task: TrainTask, ancestor: Ancestor | None) -> int:
        minutes = self._plan.history_minutes
        oldest = 0 if minutes is None else task.train_at_ms - minutes * MINUTE_MS
        new = ancestor.rows_from_ms if ancestor is not None else None
        return max(oldest, task.train_start_ms, new or 0)

    async def _in_production(self, task: TrainTask) -> dict[int, Incumbent]:
        """Read what serves each horizon now."""
        found = {}
        for horizon in task.horizons:
            key = Key(symbol=task.symbol, forecast_horizon=horizon, model_type=task.family)
            async with self._pool.acquire() as connection:
                found[horizon] = await self._incumbents.read(connection, key)
        return found

    def _request(
        self,
        task: TrainTask,
        folder: Path,
        production: Mapping[int, Incumbent],
        ancestor: Ancestor | None,
    ) -> FitRequest:
        asked = request_of(
            self._plan,
            folder=folder,
            family=task.family,
            symbol=task.symbol,
            horizons=task.horizons,
            train_at_ms=task.train_at_ms,
            settings=task.settings,
        )
        return replace(
            asked,
            checkpoint_path=str(self._checkpoint_path(task)),
            production={
                horizon: found.served for horizon, found in production.items() if found.served is not None
            },
            start_from=ancestor.native if ancestor is not None else None,
            start_seen_to_ms=ancestor.train_at_ms if ancestor is not None else None,
            start_settings=ancestor.settings if ancestor is not None else {},
        )

    async def _write(
        self, job: jobs.Job, task: TrainTask, result: FitResult, decisions: Mapping[int, Decision]
    ) -> TrainOutcome:
        versions = {} if result.model is None else await self._store_files(task, result.model)
        async with self._pool.acquire() as connection, connection.transaction():
            await jobs.heartbeat(
                connection, job, progress=WRITING, message=decisions[task.horizons[-1]].reason
            )
            model_id, final = None, {}
            for horizon in task.horizons:
                model_id, final[horizon] = await registry.record(
                    connection,
                    plan=self._plan,
                    task=task,
                    horizon_minutes=horizon,
                    result=result,
                    decision=decisions[horizon],
                    versions=versions,
                )
            await jobs.finish(connection, job, model_id=model_id)
        return TrainOutcome(
            batch_id=naming.batch_id(**task.names),
            model_versions=versions,
            decisions=final,
            rows=result.training_rows,
            seconds=result.seconds,
        )

    async def _store_files(self, task: TrainTask, model: TrainedModel) -> dict[int, str]:
        # the files come first: a row must never name a file that is not there
        versions = {
            horizon: naming.model_version(**task.names_of(horizon), artifact_sha256=model.sha256)
            for horizon in task.horizons
        }
        name = versions[task.horizons[-1]]
        await asyncio.to_thread(self._store.write, f"{name}.{model.native_suffix}", model.native)
        await asyncio.to_thread(self._store.write, naming.graph_file(name), model.graph)
        return versions


def _decide(result: FitResult, horizon_minutes: int, error_rate: float, incumbent: Incumbent) -> Decision:
    if result.model is None:
        return Decision(promote=False, reason=result.reason)
    decision = decide(
        result.model.by_horizon[horizon_minutes].against_no_change,
        incumbent=incumbent.served.version if incumbent.served is not None else None,
        error_rate=error_rate,
    )
    return replace(decision, reason=decision.reason + incumbent.note)

"""A COMPARE job from beginning to end: what becomes of the challengers whose shadow has ended.

Rows from `ml_features` -> both graphs and the paired test in another process -> decision -> one transaction:
the challenge, the comparison, the term if promoted, and the end of the job.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg

from artifacts.store import ArtifactStore
from db.repositories import challenges, comparisons, jobs, models, terms
from db.repositories.challenges import Challenge
from db.repositories.models import Model
from db.repositories.terms import Key
from domain.evaluation.paired import PairedTest
from domain.models.model import ModelRefusedError, Progress
from schemas.frames import ALL_SYMBOLS, MINUTE_MS
from training.comparison import LOOK_BACK_MINUTES, Compared, CompareRequest, compare_models
from training.fitting import ServedBefore
from training.incumbents import Incumbent, Incumbents
from training.promotion import Decision, decide_challenge
from training.rows import Compute, RowFiles, Span
from training.settings import TrainingPlan
from training.task import BadJobError

#: The progress from which on only the result is written; as of a training.
_WRITING = 1.0
NO_CHANGE = "the no-change forecast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of one challenger.

    Attributes
    ----------
    incumbent
        What it was compared with; None for the no-change forecast.
    is_refresh
        Whether both are of the same recipe.
    compared
        None if nothing could be compared.
    """

    challenge: Challenge
    incumbent: Model | None
    is_refresh: bool
    decision: Decision
    compared: Compared | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOutcome:
    """What became of a comparison job."""

    decided: Sequence[Decided]

    def told(self) -> dict[str, Any]:
        """Give the same for a log."""
        seconds = sum(each.compared.seconds for each in self.decided if each.compared is not None)
        return {
            "model_versions": [each.challenge.model.model_version for each in self.decided],
            "promoted": [
                each.challenge.model.forecast_horizon for each in self.decided if each.decision.promote
            ],
            "reasons": {each.challenge.model.model_version: each.decision.reason for each in self.decided},
            "rows": sum(each.compared.error.rows for each in self.decided if each.compared is not None),
            "seconds": round(seconds, 3),
        }


class CompareHandler:
    """Handles COMPARE jobs.

    Parameters
    ----------
    plan
        What all trainings have in common.
    pool
        Database connections as `db.connect.pool` makes them.
    compute
        Where the work is done.
    store
        Holds the models.
    rows
        Where rows are read to.
    """

    def __init__(
        self,
        *,
        plan: TrainingPlan,
        pool: asyncpg.Pool,
        compute: Compute,
        store: ArtifactStore,
        rows: RowFiles,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._compute = compute
        self._rows = rows
        self._incumbents = Incumbents(plan=plan, store=store)

    async def run(self, job: jobs.Job, progress: Progress) -> CompareOutcome:
        """Decide about every challenger whose shadow has ended by the job's time, and write that down.

        Raises
        ------
        BadJobError
            If the job does not say what it is about.
        LostJobError
            If it was cancelled meanwhile; nothing is written then.
        """
        key, at_ms = _asked(job)
        while True:
            async with self._pool.acquire() as connection:
                due = await challenges.running(connection, key, until_ms=at_ms)
                before = await self._incumbents.read(connection, key)
            decided, incumbent = [], before
            for challenge in due:
                decided.append(await self._decide(challenge, incumbent, progress))
                if decided[-1].decision.promote:
                    incumbent = Incumbent(
                        model=challenge.model, served=self._incumbents.load(challenge.model)
                    )
            progress(_WRITING, decided[-1].decision.reason if decided else "no challenger is left")
            if await self._written(job, key, at_ms, before, decided):
                return CompareOutcome(decided=tuple(decided))

    async def _decide(self, challenge: Challenge, incumbent: Incumbent, progress: Progress) -> Decided:
        model, against = challenge.model, incumbent.model if incumbent.served is not None else None
        is_refresh = (
            against is not None and model.recipe_hash is not None and model.recipe_hash == against.recipe_hash
        )
        compared = None
        try:
            compared = await self._compare(challenge, incumbent.served, is_refresh, progress)
        except ModelRefusedError as error:
            decision = Decision(promote=False, reason=f"it cannot serve: {error}")
        else:
            decision = decide_challenge(
                error=compared.error,
                brier=compared.brier,
                is_refresh=is_refresh,
                incumbent=NO_CHANGE if against is None else against.model_version,
                error_rate=self._plan.error_rate,
            )
            decision = Decision(promote=decision.promote, reason=decision.reason + incumbent.note)
        return Decided(
            challenge=challenge,
            incumbent=against,
            is_refresh=is_refresh,
            decision=decision,
            compared=compared,
        )

    async def _compare(
        self, challenge: Challenge, incumbent: ServedBefore | None, is_refresh: bool, progress: Progress
    ) -> Compared:
        plan, model = self._plan, challenge.model
        from_ms = challenge.from_ms - MINUTE_MS
        if incumbent is not None:
            from_ms = max(from_ms, incumbent.train_at_ms + MINUTE_MS)
        challenger = self._incumbents.load(model)
        span = Span(
            symbols=plan.symbols if model.symbol == ALL_SYMBOLS else (model.symbol,),
            from_ms=challenge.from_ms - LOOK_BACK_MINUTES * MINUTE_MS,
            to_ms=challenge.until_ms,
            schema_hash=plan.schema_hash,
            features=len(plan.feature_names),
        )
        progress(0.0, "reading the rows of the shadow")
        async with self._rows.use(span) as folder:
            request = CompareRequest(
                folder=str(folder),
                challenger=challenger,
                incumbent=incumbent,
                horizon_minutes=model.forecast_horizon,
                from_ms=from_ms,
                to_ms=challenge.until_ms,
                margin=plan.margin if is_refresh else 0.0,
                feature_names=plan.feature_names,
                schema_hash=plan.schema_hash,
            )
            compared: Compared = await self._compute.run(compare_models, request, progress=progress)
        return compared

    async def _written(
        self, job: jobs.Job, key: Key, at_ms: int, before: Incumbent, decided: Sequence[Decided]
    ) -> bool:
        """Write all of it, unless something else went into production meanwhile, or into shadow."""
        effective_ms = at_ms + self._plan.activation_delay_minutes * MINUTE_MS
        async with self._pool.acquire() as connection, connection.transaction():
            if not await jobs.heartbeat(connection, job, progress=_WRITING):
                raise jobs.LostJobError(f"job {job.id} was cancelled")
            now = await models.in_production(connection, key.symbol, key.forecast_horizon, key.model_type)
            if (now and now.model_version) != (before.model and before.model.model_version):
                return False
            left = await challenges.running(connection, key, until_ms=at_ms)
            if {each.model.id for each in left} != {each.challenge.model.id for each in decided}:
                return False
            number = None
            for each in decided:
                number = await _record(connection, each, effective_ms) or number
            await jobs.finish(connection, job, comparison_id=number)
        return True


def _asked(job: jobs.Job) -> tuple[Key, int]:
    if (
        job.symbol is None
        or job.forecast_horizon is None
        or job.model_type is None
        or job.train_at_ms is None
    ):
        raise BadJobError(f"comparison {job.id} does not say of which symbol, horizon, type and time")
    key = Key(symbol=job.symbol, forecast_horizon=job.forecast_horizon, model_type=job.model_type)
    assert job.train_at_ms is not None
    return key, job.train_at_ms


async def _record(connection: asyncpg.Connection, each: Decided, effective_ms: int) -> int | None:
    """Write one decision down; returns the id of the comparison, None where nothing was compared with."""
    model, decision = each.challenge.model, each.decision
    await challenges.decide(
        connection,
        model.model_version,
        promoted=decision.promote,
        incumbent=None if each.incumbent is None else each.incumbent.model_version,
        is_refresh=each.is_refresh if each.incumbent is not None else None,
        reason=decision.reason,
        evidence={} if each.compared is None else _evidence(each.compared),
    )
    await connection.execute(
        """
        UPDATE "mlTrainingBatches"
        SET promoted = $2, promotion_reason = promotion_reason || '; ' || $3,
            effective_from = CASE WHEN $2 THEN to_timestamp($4::float8 / 1000) ELSE effective_from END
        WHERE model_version = $1
        """,
        model.model_version,
        decision.promote,
        decision.reason,
        effective_ms,
    )
    if decision.promote:
        await models.promote(
            connection, model.id, effective_ms, reason=decision.reason, decided_by=terms.COMPARISON
        )
    if each.incumbent is None or each.compared is None or not each.compared.error.rows:
        return None
    return await comparisons.insert(
        connection,
        incumbent_id=each.incumbent.id,
        challenger_id=model.id,
        from_ms=each.challenge.from_ms,
        until_ms=each.challenge.until_ms,
        rows=each.compared.error.rows,
        incumbent_accuracy=_or_none(each.compared.incumbent_accuracy),
        challenger_accuracy=_or_none(each.compared.challenger_accuracy),
        winner_id=model.id if decision.promote else each.incumbent.id,
    )


def _evidence(compared: Compared) -> dict[str, Any]:
    return {
        "squared_error": _told(compared.error),
        "brier": _told(compared.brier),
        "challenger_accuracy": _or_none(compared.challenger_accuracy),
        "incumbent_accuracy": _or_none(compared.incumbent_accuracy),
    }


def _told(test: PairedTest) -> dict[str, Any]:
    return {
        **{name: _or_none(value) for name, value in asdict(test).items()},
        "p_value": test.p_value,
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None

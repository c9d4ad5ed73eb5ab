"""Who is in production when, in the walk-forward: as `training.handler` and `training.comparing` decide it.

Where nothing is in production, a model that is better than no change serves; otherwise it runs in shadow, and
when that ends a paired test decides. Comparisons of a time go before the trainings of the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from schemas.frames import MINUTE_MS
from training import naming
from training.comparison import LOOK_BACK_MINUTES, Compared, CompareRequest, compare_models
from training.evaluation.history import History
from training.evaluation.row_folders import RowFolders
from training.evaluation.together import together
from training.evaluation.trained import Key, Task, TrainedModel
from training.fitting import FitResult
from training.promotion import Decision, decide, decide_challenge
from training.registry import MOST_CHALLENGERS
from training.rows import Compute
from training.settings import TrainingPlan

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shadow:
    """A model that runs beside what is in production; event times."""

    model: TrainedModel
    from_ms: int
    until_ms: int


class Promotions:
    """Decides about every model of a walk, in the order of event time.

    Parameters
    ----------
    plan
        What all trainings have in common.
    compute
        Where comparisons are made.
    scratch
        Where their rows are put for a while.
    """

    def __init__(self, *, plan: TrainingPlan, compute: Compute, scratch: Path) -> None:
        self._plan = plan
        self._compute = compute
        self._scratch = scratch
        self._production: dict[Key, TrainedModel] = {}
        self._shadows: list[_Shadow] = []
        self._final: dict[tuple[int, str], TrainedModel] = {}

    def in_production(self, key: Key) -> TrainedModel | None:
        """Give what serves a key as of now; None if nothing does."""
        return self._production.get(key)

    def final(self, model: TrainedModel) -> TrainedModel:
        """Give a model with the last word on it."""
        return self._final[model.seed, model.version]

    def decide(self, task: Task, horizon: int, result: FitResult) -> TrainedModel:
        """Let a new model serve, or run in shadow, or neither."""
        assert result.model is not None
        incumbent = self.in_production(task.key_of(horizon))
        decision = decide(
            result.model.by_horizon[horizon].against_no_change,
            incumbent=incumbent.version if incumbent is not None else None,
            error_rate=self._plan.error_rate,
        )
        if decision.challenge:
            decision = self._if_there_is_room(task.key_of(horizon), decision)
        effective_ms = task.train_at_ms + self._plan.activation_delay_minutes * MINUTE_MS
        sha256 = result.model.sha256
        model = TrainedModel(
            family=task.family,
            seed=task.seed,
            symbol=task.symbol,
            horizon_minutes=horizon,
            horizons=task.horizons,
            train_at_ms=task.train_at_ms,
            effective_from_ms=effective_ms,
            version=naming.model_version(**task.names_of(horizon), artifact_sha256=sha256),
            decision=replace(decision, challenge=False),
            served_from_ms=effective_ms if decision.promote else None,
            graph=result.model.graph,
            native=result.model.native,
            sha256=sha256,
            settings=result.model.settings,
        )
        self._keep(model)
        if decision.challenge:
            until_ms = effective_ms + self._plan.shadow_ms(horizon)
            self._shadows.append(_Shadow(model=model, from_ms=effective_ms, until_ms=until_ms))
        return model

    async def compare_up_to(self, at_ms: int, history: History) -> None:
        """Decide about every challenger whose shadow has ended by then, in the order of their ends."""
        due = sorted(
            (shadow for shadow in self._shadows if shadow.until_ms <= at_ms),
            key=lambda shadow: (shadow.until_ms, shadow.from_ms, shadow.model.version),
        )
        self._shadows = [shadow for shadow in self._shadows if shadow.until_ms > at_ms]
        by_key: dict[Key, list[_Shadow]] = {}
        for shadow in due:
            by_key.setdefault(shadow.model.key, []).append(shadow)
        async with RowFolders(history, self._scratch) as rows:
            await together([self._in_turn(shadows, rows) for shadows in by_key.values()])

    def _keep(self, model: TrainedModel) -> None:
        self._final[model.seed, model.version] = model
        if model.decision.promote:
            self._production[model.key] = model

    def _if_there_is_room(self, key: Key, decision: Decision) -> Decision:
        others = sum(shadow.model.key == key for shadow in self._shadows)
        if others < MOST_CHALLENGERS:
            return decision
        reason = f"{others} earlier models are still in shadow; there is no room for another"
        return Decision(promote=False, reason=reason)

    async def _in_turn(self, shadows: Sequence[_Shadow], rows: RowFolders) -> None:
        for shadow in shadows:
            await self._compare(shadow, rows)

    async def _compare(self, shadow: _Shadow, rows: RowFolders) -> None:
        plan, model = self._plan, shadow.model
        incumbent = self._production[model.key]
        first_ms = shadow.from_ms - LOOK_BACK_MINUTES * MINUTE_MS
        request = CompareRequest(
            folder=str(await rows.of(model.symbol, first_ms, shadow.until_ms)),
            challenger=model.as_served(),
            incumbent=incumbent.as_served(),
            horizon_minutes=model.horizon_minutes,
            from_ms=max(shadow.from_ms - MINUTE_MS, incumbent.train_at_ms + MINUTE_MS),
            to_ms=shadow.until_ms,
            # one walk has one recipe for each family: every challenger is a refresh
            margin=plan.margin,
            feature_names=plan.feature_names,
            schema_hash=plan.schema_hash,
        )
        compared: Compared = await self._compute.run(compare_models, request)
        decision = decide_challenge(
            error=compared.error,
            brier=compared.brier,
            is_refresh=plan.margin > 0.0,
            incumbent=incumbent.version,
            error_rate=plan.error_rate,
        )
        served_from_ms = shadow.until_ms + plan.activation_delay_minutes * MINUTE_MS
        reason = f"{model.decision.reason}; {decision.reason}"
        self._keep(
            replace(
                model,
                decision=Decision(promote=decision.promote, reason=reason),
                served_from_ms=served_from_ms if decision.promote else None,
            )
        )

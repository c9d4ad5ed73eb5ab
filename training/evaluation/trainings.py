"""The trainings of a walk-forward: at every point the request, the fit and the decision of production."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from domain.evaluation.walk_forward import TooFewRowsError
from domain.models.model import ModelError
from schemas.frames import MINUTE_MS
from training import naming
from training.evaluation.history import History
from training.evaluation.schedule import Due, Learns
from training.fitting import FitRequest, FitResult, ServedBefore, fit
from training.promotion import Decision, decide
from training.rows import Compute, save_rows
from training.settings import ALL_SYMBOLS, TrainingPlan

#: Told the fraction of all trainings done (0..1), and a few words.
Tell = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """One horizon of a model, ready to be served.

    Attributes
    ----------
    version
        As the registry would name it.
    effective_from_ms
        The event time from which it may serve.
    decision
        Whether production would have promoted it, and why.
    graph, sha256
        The graph that serves.
    """

    family: str
    seed: int
    symbol: str
    horizon_minutes: int
    train_at_ms: int
    effective_from_ms: int
    version: str
    decision: Decision
    graph: bytes = field(repr=False)
    native: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of the walk.

    Attributes
    ----------
    models
        None of them if it failed or found nothing.
    problem
        Why there is no model; empty if there is one.
    rows
        Rows learned from.
    """

    family: str
    seed: int
    symbol: str
    horizons: tuple[int, ...]
    train_at_ms: int
    models: tuple[TrainedModel, ...]
    problem: str
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    family: str
    seed: int
    symbol: str
    horizons: tuple[int, ...]
    train_at_ms: int

    def names_of(self, horizon_minutes: int) -> dict[str, str | int]:
        return {
            "family": self.family,
            "symbol": self.symbol,
            "horizon_minutes": horizon_minutes,
            "train_at_ms": self.train_at_ms,
        }


@dataclass(slots=True, kw_only=True)
class _Counter:
    """Tells how many trainings have ended."""

    total: int
    tell: Tell
    ended: int = 0

    def count(self) -> None:
        self.ended += 1
        self.tell(self.ended / self.total, f"{self.ended} of {self.total} trainings")


class Trainings:
    """Makes all trainings of a walk-forward, point by point.

    Parameters
    ----------
    plan
        What all trainings have in common; its seed is replaced by each of `seeds`.
    learns
        What is learned at each point.
    seeds
        One walk each.
    compute
        Where fits are done.
    scratch
        An empty folder for rows; emptied again.
    """

    def __init__(
        self,
        *,
        plan: TrainingPlan,
        learns: Sequence[Learns],
        seeds: Sequence[int],
        compute: Compute,
        scratch: Path,
    ) -> None:
        self._plan = plan
        self._learns = tuple(learns)
        self._seeds = tuple(seeds)
        self._compute = compute
        self._scratch = scratch
        self._production: dict[tuple[str, int, str, int], ServedBefore] = {}

    async def run(self, history: History, points: Sequence[Due], *, tell: Tell) -> list[Training]:
        """Train at every point, in order.

        A training that fails leaves the model before it in production, as it does in the queue.
        """
        steps = [(due, symbol, first_ms) for due in points for symbol, first_ms in due.trained]
        counter = _Counter(total=len(steps) * len(self._learns) * len(self._seeds), tell=tell)
        done: list[Training] = []
        for due, symbol, first_ms in steps:
            folder = self._scratch / f"rows-{due.train_at_ms}"
            await asyncio.to_thread(_save, folder, history, symbol, first_ms, due.train_at_ms)
            try:
                done += await self._at(due, symbol, folder, counter)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return done

    async def _at(self, due: Due, symbol: str, folder: Path, counter: _Counter) -> list[Training]:
        tasks = [
            _Task(family=family, seed=seed, symbol=symbol, horizons=horizons, train_at_ms=due.train_at_ms)
            for seed in self._seeds
            for horizons, family in self._learns
        ]

        async def train(task: _Task) -> Training:
            training = await self._train(task, folder)
            counter.count()
            return training

        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(train(task)) for task in tasks]
        except BaseExceptionGroup as errors:
            # One cause is easier to act on bare.
            raise errors.exceptions[0] from None
        return [each.result() for each in running]

    async def _train(self, task: _Task, folder: Path) -> Training:
        try:
            result: FitResult = await self._compute.run(fit, self._request(task, folder))
        except (ModelError, TooFewRowsError) as error:
            return _training(task, (), str(error), 0, 0.0)
        if result.model is None:
            return _training(task, (), result.reason, result.training_rows, result.seconds)
        models = tuple(self._model(task, horizon, result) for horizon in task.horizons)
        for model in models:
            if model.decision.promote:
                self._production[_place(task, model.horizon_minutes)] = ServedBefore(
                    version=model.version,
                    train_at_ms=task.train_at_ms,
                    payload=model.graph,
                    sha256=model.sha256,
                )
        return _training(task, models, "", result.training_rows, result.seconds)

    def _request(self, task: _Task, folder: Path) -> FitRequest:
        plan = replace(self._plan, seed=task.seed)
        production = {
            horizon: self._production[_place(task, horizon)]
            for horizon in task.horizons
            if _place(task, horizon) in self._production
        }
        return FitRequest(
            folder=str(folder),
            # an evaluation that is cut off begins anew: nothing of it is left behind
            checkpoint_path="",
            family=task.family,
            settings=plan.family_settings.get(task.family, {}),
            seed=plan.seed_of(
                family=task.family,
                symbol=task.symbol,
                horizon_minutes=task.horizons[-1],
                train_at_ms=task.train_at_ms,
            ),
            symbol=task.symbol,
            horizons=task.horizons,
            train_at_ms=task.train_at_ms,
            feature_names=plan.feature_names,
            schema_hash=plan.schema_hash,
            warm_up_minutes=plan.warm_up_minutes,
            optional_features=plan.optional_features,
            validation_fraction=plan.validation_fraction,
            embargo_minutes=plan.embargo_minutes,
            production=production,
        )

    def _model(self, task: _Task, horizon: int, result: FitResult) -> TrainedModel:
        assert result.model is not None
        found = result.model.by_horizon[horizon]
        return TrainedModel(
            family=task.family,
            seed=task.seed,
            symbol=task.symbol,
            horizon_minutes=horizon,
            train_at_ms=task.train_at_ms,
            effective_from_ms=task.train_at_ms + self._plan.activation_delay_minutes * MINUTE_MS,
            version=naming.model_version(
                family=task.family,
                symbol=task.symbol,
                horizon_minutes=horizon,
                train_at_ms=task.train_at_ms,
                artifact_sha256=result.model.sha256,
            ),
            decision=decide(
                against_no_change=found.against_no_change,
                against_production=found.against_production,
                error_rate=self._plan.error_rate,
            ),
            graph=result.model.graph,
            native=result.model.native,
            sha256=result.model.sha256,
        )


def _place(task: _Task, horizon_minutes: int) -> tuple[str, int, str, int]:
    return task.family, task.seed, task.symbol, horizon_minutes


def _training(
    task: _Task, models: tuple[TrainedModel, ...], problem: str, rows: int, seconds: float
) -> Training:
    return Training(
        family=task.family,
        seed=task.seed,
        symbol=task.symbol,
        horizons=task.horizons,
        train_at_ms=task.train_at_ms,
        models=models,
        problem=problem,
        rows=rows,
        seconds=seconds,
    )


def _save(folder: Path, history: History, symbol: str, first_ms: int, train_at_ms: int) -> None:
    """Write the rows that are known at a point, and no others, as the trainer reads them."""
    frame = history.frame
    begin = int(np.searchsorted(frame.open_time_ms, first_ms, "left"))
    end = int(np.searchsorted(frame.open_time_ms, train_at_ms, "right"))
    known = frame.rows(slice(begin, end))
    index = known.symbol_index
    if symbol != ALL_SYMBOLS:
        known = known.rows(known.symbol_index == frame.symbols.index(symbol))
        index = np.zeros(len(known), np.int32)
    save_rows(
        folder,
        vectors=known.vector,
        symbol_index=index,
        open_time_ms=known.open_time_ms,
        close=known.ohlcv[:, 3],
        is_complete=known.is_complete,
    )

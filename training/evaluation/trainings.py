"""The trainings of a walk-forward: at every point the request and the fit of production."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from domain.evaluation.walk_forward import TooFewRowsError
from domain.models.model import ModelError
from schemas.frames import ALL_SYMBOLS
from training.evaluation.history import History
from training.evaluation.promotions import Promotions
from training.evaluation.row_folders import RowFolders
from training.evaluation.schedule import Due, Learns
from training.evaluation.together import together
from training.evaluation.trained import Task, TrainedModel, Training
from training.fitting import FitRequest, FitResult, fit
from training.request import request_of
from training.rows import Compute
from training.settings import TrainingPlan

#: Told the fraction of all trainings done (0..1), and a few words.
Tell = Callable[[float, str], None]


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
        self._promotions = Promotions(plan=plan, compute=compute, scratch=scratch)

    async def run(self, history: History, points: Sequence[Due], *, tell: Tell) -> list[Training]:
        """Train at every point, in order.

        A training that fails leaves the model before it in production, as it does in the queue.
        """
        each_time = len(self._learns) * len(self._seeds)
        counter = _Counter(total=sum(len(due.trained) for due in points) * each_time, tell=tell)
        done: list[Training] = []
        for due in points:
            await self._promotions.compare_up_to(due.train_at_ms, history)
            async with RowFolders(history, self._scratch) as rows:
                for symbol, first_ms in due.trained:
                    tasks = self._tasks(due, symbol)
                    done += await together([self._train(task, first_ms, rows, counter) for task in tasks])
        await self._promotions.compare_up_to(history.last_ms, history)
        return [
            replace(each, models=tuple(self._promotions.final(model) for model in each.models))
            for each in done
        ]

    def _tasks(self, due: Due, symbol: str) -> list[Task]:
        return [
            Task(family=family, seed=seed, symbol=symbol, horizons=horizons, train_at_ms=due.train_at_ms)
            for seed in self._seeds
            for horizons, family in self._learns
        ]

    async def _train(self, task: Task, first_ms: int, rows: RowFolders, counter: _Counter) -> Training:
        ancestor = self._ancestor(task)
        begin_ms = first_ms
        if ancestor is not None and ancestor.symbol == task.symbol:
            # trained further on what is new to it
            begin_ms = max(first_ms, ancestor.train_at_ms)
        models: tuple[TrainedModel, ...] = ()
        problem, learned, seconds, tuning = "", 0, 0.0, None
        folder = await rows.of(task.symbol, begin_ms, task.train_at_ms)
        try:
            result: FitResult = await self._compute.run(fit, self._request(task, folder, ancestor))
        except (ModelError, TooFewRowsError) as error:
            problem = str(error)
        else:
            problem, learned, seconds = result.reason, result.training_rows, result.seconds
            tuning = result.tuning
            if result.model is not None:
                models = tuple(self._promotions.decide(task, horizon, result) for horizon in task.horizons)
        counter.count()
        return Training(
            family=task.family,
            seed=task.seed,
            symbol=task.symbol,
            horizons=task.horizons,
            train_at_ms=task.train_at_ms,
            models=models,
            problem=problem,
            rows=learned,
            seconds=seconds,
            tuning=tuning,
        )

    def _request(self, task: Task, folder: Path, ancestor: TrainedModel | None) -> FitRequest:
        plan = replace(self._plan, seed=task.seed)
        serving = {horizon: self._promotions.in_production(task.key_of(horizon)) for horizon in task.horizons}
        # an evaluation that is cut off begins anew: no unfinished state is kept
        asked = request_of(
            plan,
            folder=folder,
            family=task.family,
            symbol=task.symbol,
            horizons=task.horizons,
            train_at_ms=task.train_at_ms,
        )
        return replace(
            asked,
            production={
                horizon: model.as_served() for horizon, model in serving.items() if model is not None
            },
            start_from=None if ancestor is None else ancestor.native,
            start_seen_to_ms=None if ancestor is None else ancestor.train_at_ms,
            start_settings={} if ancestor is None else ancestor.settings,
        )

    def _ancestor(self, task: Task) -> TrainedModel | None:
        """Find the earlier model that a training goes on from, as `training.ancestors` does."""
        own = [self._promotions.in_production(task.key_of(horizon)) for horizon in task.horizons]
        if self._plan.mode == "online":
            earlier = _one_file(task, own)
            if earlier is None:
                return None
            goes_on = self._plan.can_go_on(earlier.train_at_ms, task.train_at_ms, task.horizons)
            return earlier if goes_on else None
        if self._plan.mode != "transfer" or any(own):
            return None
        for symbol in (ALL_SYMBOLS, *self._plan.symbols):
            if symbol == task.symbol:
                continue
            other = replace(task, symbol=symbol)
            found = [self._promotions.in_production(other.key_of(horizon)) for horizon in task.horizons]
            served = [
                model
                for model in found
                if model is not None and (model.served_from_ms or 0) <= task.train_at_ms
            ]
            ancestor = _one_file(task, served)
            if ancestor is not None:
                return ancestor
        return None


def _one_file(task: Task, found: Sequence[TrainedModel | None]) -> TrainedModel | None:
    """Give the one model that answers for all horizons of a training; None if there is no such model."""
    models = [model for model in found if model is not None]
    if len(models) != len(task.horizons) or len({model.sha256 for model in models}) != 1:
        return None
    return models[-1] if models[-1].horizons == task.horizons else None

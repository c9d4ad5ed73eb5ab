"""A walk-forward from end to end: trainings, what their models would have said, and how that did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from domain.evaluation.evidence import Verdict, judge
from domain.evaluation.trials import Trial, TrialLedger, settings_text
from domain.models.serving import ServedModel
from domain.trading.costs import Costs
from schemas.frames import MINUTE_MS, Bool, Float64
from training.evaluation import serving
from training.evaluation.earnings import Earnings, Holding, earnings, holding
from training.evaluation.history import History
from training.evaluation.importance import Importance, importances
from training.evaluation.schedule import Learns, Policy, TooShortError, due_points
from training.evaluation.scoring import HorizonScores, horizon_scores, outcomes_pct, scored_rows
from training.evaluation.serving import Said, Stages
from training.evaluation.trained import TrainedModel, Training
from training.evaluation.trainings import Trainings
from training.evaluation.tried import tuned_trials
from training.rows import Compute
from training.settings import TrainingPlan

#: `always`: the newest trained model speaks. `served`: only models that production would have promoted.
Way = Literal["always", "served"]
WAYS: tuple[Way, ...] = ("always", "served")
#: What each family is compared with; it is no trial.
BASELINE = "last_value"
#: Told the fraction done (0..1), and a few words. May raise, to stop the walk.
Tell = Callable[[float, str], None]
#: Shares of the time that trainings take, of what comes after the vectors.
_TRAINING_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What is evaluated.

    Attributes
    ----------
    families, horizons, seeds
        Every family is walked forward with every seed.
    learns
        What each training learns, of all families.
    policy
        When trainings are due.
    plan
        What all trainings have in common.
    costs
        Of trades.
    trade_horizon
        The horizon that the deployment trades.
    strategies
        Names of the strategies that trade each horizon.
    """

    families: tuple[str, ...]
    horizons: tuple[int, ...]
    seeds: tuple[int, ...]
    learns: tuple[Learns, ...]
    policy: Policy
    plan: TrainingPlan
    costs: Costs
    trade_horizon: int
    strategies: Mapping[int, str]
    draws: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One family with one seed, in one of the ways.

    Attributes
    ----------
    horizons
        Scores by horizon.
    earned
        By horizon, what trading it earned.
    """

    family: str
    seed: int
    way: Way
    horizons: Mapping[int, HorizonScores]
    earned: Mapping[int, Earnings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What an evaluation was made of: symbols, candles, and the open times of the first and last minute."""

    symbols: tuple[str, ...]
    candles: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came of a walk-forward.

    Attributes
    ----------
    span_ms
        Event times from the first model's beginning to the end: what is scored and traded.
    runs
        Every family, seed and way.
    verdicts
        By family, horizon and seed: whether there is evidence of skill, after everything that was tried.
    trials
        Every family, horizon, seed and way but the baseline, with what trading it earned each day; and what
        tuning tried.
    data
        What it was made of.
    held
        What holding the symbols earned.
    importance
        Of the features, in the newest model of every family and horizon.
    """

    walk: Walk
    span_ms: tuple[int, int]
    trainings: tuple[Training, ...]
    runs: tuple[Run, ...]
    verdicts: Mapping[tuple[str, int, int], Verdict]
    trials: TrialLedger
    data: Data
    held: Holding
    importance: tuple[Importance, ...]

    def run(self, family: str, seed: int, way: Way) -> Run:
        """Give one of the runs."""
        return next(each for each in self.runs if (each.family, each.seed, each.way) == (family, seed, way))


async def evaluate(
    history: History, walk: Walk, *, stages: Stages, compute: Compute, scratch: Path, tell: Tell
) -> Evaluation:
    """Walk forward over a history.

    Raises
    ------
    TooShortError
        If nothing could be trained or scored; it names what, and why.
    """
    points = due_points(history, walk.policy)
    walked = Trainings(plan=walk.plan, learns=walk.learns, seeds=walk.seeds, compute=compute, scratch=scratch)
    trainings = await walked.run(history, points, tell=lambda done, text: tell(done * _TRAINING_SHARE, text))
    _check_trained(walk, trainings)
    seen = await importances(history, trainings, walk.plan, seed=walk.seeds[0], compute=compute)
    return await asyncio.to_thread(
        score_walk,
        history,
        walk,
        trainings,
        seen,
        stages,
        lambda done, text: tell(_TRAINING_SHARE + (1.0 - _TRAINING_SHARE) * done, text),
    )


def score_walk(
    history: History,
    walk: Walk,
    trainings: Sequence[Training],
    seen: Sequence[Importance],
    stages: Stages,
    tell: Tell,
) -> Evaluation:
    """Let all models speak, and score what they say."""
    actual = outcomes_pct(history, walk.horizons)
    models = [model for training in trainings for model in training.models]
    begins = [model.effective_from_ms for model in models] or [
        training.train_at_ms + walk.plan.activation_delay_minutes * MINUTE_MS for training in trainings
    ]
    span_ms = (min(begins), history.last_ms + MINUTE_MS)
    if span_ms[1] <= span_ms[0]:
        raise TooShortError(
            "the recording ends before its first model begins: take a longer one, or lower"
            " training.window_size"
        )
    combined = [(family, seed) for family in walk.families for seed in walk.seeds]
    runs: list[Run] = []
    for number, (family, seed) in enumerate(combined):
        text = f"{family}, seed {seed}: predicting and trading"

        def part(done: float, number: int = number, text: str = text) -> None:
            tell((number + done) / len(combined), text)

        mine = [model for model in models if (model.family, model.seed) == (family, seed)]
        runs += _runs(history, walk, family, seed, mine, stages, actual, span_ms, part)
    _check_scored(walk, runs)
    tests = {
        (run.family, horizon, run.seed): scores.test
        for run in runs
        if run.way == "always" and run.family != BASELINE
        for horizon, scores in run.horizons.items()
    }
    return Evaluation(
        walk=walk,
        span_ms=span_ms,
        trainings=tuple(trainings),
        runs=tuple(runs),
        verdicts=dict(zip(tests, judge(list(tests.values())), strict=True)) if tests else {},
        trials=TrialLedger().counting(*_trials(runs), *tuned_trials(trainings)),
        data=Data(
            symbols=history.frame.symbols,
            candles=len(history.frame),
            first_ms=int(history.frame.open_time_ms[0]),
            last_ms=history.last_ms,
        ),
        held=holding(history=history, costs=walk.costs, span_ms=span_ms),
        importance=tuple(seen),
    )


def _runs(
    history: History,
    walk: Walk,
    family: str,
    seed: int,
    models: Sequence[TrainedModel],
    stages: Stages,
    actual: Float64,
    span_ms: tuple[int, int],
    tell: Callable[[float], None],
) -> list[Run]:
    """Replay a family's models in both ways, and score both on the same rows.

    Where no training has found anything, there is no change to score in the whole span.
    """
    sessions: dict[str, ServedModel] = {}
    chosen: Bool = np.zeros(actual.shape, np.bool_)
    runs = []
    for way in WAYS:
        chosen_models = serving.always(models) if way == "always" else serving.promoted(models)
        speaks = serving.opened(chosen_models, walk.plan, sessions)

        def part(done: float, way: Way = way) -> None:
            tell((WAYS.index(way) + 0.9 * done) / len(WAYS))

        said = serving.replay(history, speaks, stages, walk.horizons, watched=way == "served", tell=part)
        if way == "always":
            chosen = scored_rows(said, actual)
            known = said.is_stated[:, None] & np.isfinite(actual)
            known &= (history.frame.open_time_ms >= span_ms[0])[:, None]
            spoken_for = {model.horizon_minutes for model in models}
            for column, horizon in enumerate(walk.horizons):
                if horizon not in spoken_for:
                    chosen[:, column] = known[:, column]
        runs.append(_run(history, walk, family, seed, way, said, actual, chosen, span_ms))
    return runs


def _run(
    history: History,
    walk: Walk,
    family: str,
    seed: int,
    way: Way,
    said: Said,
    actual: Float64,
    chosen: Bool,
    span_ms: tuple[int, int],
) -> Run:
    return Run(
        family=family,
        seed=seed,
        way=way,
        horizons={
            horizon: horizon_scores(
                history=history,
                said=said,
                actual=actual,
                chosen=chosen,
                horizon=horizon,
                family=family,
                seed=seed,
                draws=walk.draws,
            )
            for horizon in walk.horizons
        },
        earned={
            horizon: earnings(
                history=history,
                trades=[trade for trade in said.trades if trade["strategy"] == name],
                costs=walk.costs,
                span_ms=span_ms,
                seed=seed,
            )
            for horizon, name in walk.strategies.items()
        },
    )


def _trials(runs: Sequence[Run]) -> list[Trial]:
    return [
        Trial(
            family=run.family,
            horizon_minutes=horizon,
            settings=settings_text({"models": run.way}),
            seed=run.seed,
            daily_returns_pct=tuple(earned.daily_pct.tolist()),
        )
        for run in runs
        if run.family != BASELINE
        for horizon, earned in run.earned.items()
    ]


def _check_trained(walk: Walk, trainings: Sequence[Training]) -> None:
    """Refuse what could not be trained; that a training found nothing to say is a result."""
    for family in walk.families:
        for seed in walk.seeds:
            mine = [each for each in trainings if (each.family, each.seed) == (family, seed)]
            made = {model.horizon_minutes for training in mine for model in training.models}
            for horizon in walk.horizons:
                asked = [each for each in mine if horizon in each.horizons]
                if horizon not in made and not any(each.rows for each in asked):
                    raise TooShortError(
                        f"{family} has no model for {horizon} minutes ahead after"
                        f" {len(asked)} trainings; the last said: {asked[-1].problem}"
                    )


def _check_scored(walk: Walk, runs: Sequence[Run]) -> None:
    for horizon in walk.horizons:
        if not any(run.horizons[horizon].n for run in runs):
            raise TooShortError(
                f"no forecast {horizon} minutes ahead fell due before the recording ended: take a longer"
                " recording, a shorter horizon, or a lower training.window_size"
            )

"""What a model says that never saw a group of features, beside one that saw all, on the same minutes.

At every point at which production would retrain, one model learns from all features and one more for each
group that is hidden: its columns are missing from the rows that are learned from and from those that are
predicted. Everything else is that of production: the purged split, early stopping, calibration, export and
the graph that answers. Where a training finds nothing to learn, the no-change forecast stands, as it would.

To do it in minutes instead of hours, only every so many minutes are learned from and scored. The step divides
every horizon, so that labels are exact; neighbouring minutes share nearly all of their outcome anyway.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.models.serving import ServedModel
from schemas.frames import MINUTE_MS, Bool, Float32, Float64, Int64
from training.evaluation.history import History
from training.evaluation.schedule import Due, Policy, TooShortError, due_points
from training.evaluation.scoring import outcomes_pct
from training.fitting import FitRequest, fit
from training.request import request_of
from training.rows import Compute, save_rows
from training.settings import ALL_SYMBOLS, TrainingPlan

#: The model that everything is compared with.
FULL = "all features"
#: Nothing is hidden, only chance differs: what is seen here is the noise of training.
RESEEDED = "nothing, but another seed"
#: The family whose models are compared.
FAMILY = "xgboost"
#: Days of history before the first training: below that, whole groups are still warming up.
FIRST_MINUTES = 7 * 1440
_WEEK_MINUTES = 7 * 1440
_AHEAD = "ahead.npy"
_COLUMNS = ("vectors", "symbol_index", "open_time_ms", "close", "is_complete")

#: Told the fraction done (0..1), and a few words. May raise, to stop.
Tell = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model that is compared.

    Attributes
    ----------
    hidden
        Names of the features that it never sees.
    seed
        Added to the seed of the training.
    """

    name: str
    hidden: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablated:
    """What all variants said over one recording.

    Attributes
    ----------
    recording, symbols
        Of what.
    hidden
        By variant, how many features it does not see.
    span_ms
        First and last minute that is scored.
    open_time_ms
        Shape (rows,): of each scored row.
    actual_pct
        Shape (rows, horizons): what became of it; NaN where that is not known.
    predicted_pct, probability_up
        By variant, of the same shape.
    trainings, without_model
        How many trainings there were, and how many of them found nothing to learn.
    """

    recording: str
    symbols: tuple[str, ...]
    horizons: tuple[int, ...]
    hidden: Mapping[str, int]
    span_ms: tuple[int, int]
    open_time_ms: Int64
    actual_pct: Float64
    predicted_pct: Mapping[str, Float64] = field(repr=False)
    probability_up: Mapping[str, Float64] = field(repr=False)
    trainings: int
    without_model: int
    seconds: float


def variants_of(
    groups: Mapping[str, Sequence[str]], together: Sequence[tuple[str, ...]] = ()
) -> list[Variant]:
    """List the models to compare: all features, another seed, without each group, without some together."""
    single = [Variant(name=name, hidden=tuple(names)) for name, names in groups.items()]
    joined = [
        Variant(
            name=" + ".join(names),
            hidden=tuple(feature for name in names for feature in groups[name]),
        )
        for names in together
    ]
    return [
        Variant(name=FULL, hidden=()),
        Variant(name=RESEEDED, hidden=(), seed=1),
        *single,
        *joined,
    ]


async def ablate(
    history: History,
    *,
    recording: str,
    plan: TrainingPlan,
    horizons: tuple[int, ...],
    variants: Sequence[Variant],
    step_minutes: int,
    compute: Compute,
    scratch: Path,
    tell: Tell,
) -> Ablated:
    """Train and ask every variant, week by week.

    Parameters
    ----------
    history
        All vectors of a recording.
    recording
        Its name, for the report.
    plan
        What all trainings have in common.
    horizons
        Minutes ahead; one training learns them all.
    variants
        The models to compare, `FULL` among them.
    step_minutes
        Of so many minutes one is learned from and scored; divides every horizon.
    compute, scratch
        Where trainings are done, and an empty folder for their rows.

    Raises
    ------
    TooShortError
        If the recording is over before anything could be scored.
    ValueError
        If the step does not divide a horizon.
    """
    check_step(step_minutes, horizons)
    begun_s = time.monotonic()
    points = weekly_points(history, recording)
    actual = outcomes_pct(history, horizons)
    scored = [
        scored_rows(history, actual, due, following, plan, step_minutes)
        for due, following in zip(points, [*points[1:], None], strict=True)
    ]
    if not sum(map(len, scored)):
        raise TooShortError(f"{recording}: no forecast fell due after its first training: take a longer one")
    folders = [scratch / f"point-{due.train_at_ms}" for due in points]
    ended = 0

    async def one(due: Due, folder: Path, variant: Variant) -> tuple[Float32, Float32, bool]:
        nonlocal ended
        answers: tuple[Float32, Float32, bool] = await compute.run(
            fit_and_ask, _request(plan, due, folder, horizons, variant), variant.hidden
        )
        ended += 1
        tell(ended / (len(points) * len(variants)), f"{recording}: {ended} trainings")
        return answers

    try:
        for due, rows, folder in zip(points, scored, folders, strict=True):
            await asyncio.to_thread(_save, folder, history, due, rows, step_minutes)
        async with asyncio.TaskGroup() as group:
            running = {
                variant.name: [
                    group.create_task(one(due, folder, variant))
                    for due, folder, rows in zip(points, folders, scored, strict=True)
                    if len(rows)
                ]
                for variant in variants
            }
    except BaseExceptionGroup as errors:
        # One cause is easier to act on bare.
        raise errors.exceptions[0] from None
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    said = {name: [task.result() for task in tasks] for name, tasks in running.items()}
    rows = np.concatenate(scored)
    times = history.frame.open_time_ms[rows]
    return Ablated(
        recording=recording,
        symbols=history.frame.symbols,
        horizons=horizons,
        hidden={variant.name: len(variant.hidden) for variant in variants},
        span_ms=(int(times[0]), int(times[-1])),
        open_time_ms=times,
        actual_pct=actual[rows],
        predicted_pct={name: _joined(each, 0) for name, each in said.items()},
        probability_up={name: _joined(each, 1) for name, each in said.items()},
        trainings=sum(map(len, said.values())),
        without_model=sum(not known for each in said.values() for _, _, known in each),
        seconds=time.monotonic() - begun_s,
    )


def check_step(step_minutes: int, horizons: Sequence[int]) -> None:
    """Refuse a step with which there would be no labels.

    Raises
    ------
    ValueError
        If it does not divide every horizon.
    """
    odd = [horizon for horizon in horizons if step_minutes < 1 or horizon % step_minutes]
    if odd:
        raise ValueError(
            f"a step of {step_minutes} minutes does not divide the horizon of {odd[0]} minutes: take a step"
            " that divides every horizon, such as 1"
        )


def fit_and_ask(
    request: FitRequest, hidden: tuple[str, ...], *, progress: Any, cancelled: Any
) -> tuple[Float32, Float32, bool]:
    """Train without some features and predict the week after; runs in a process of the pool.

    Returns
    -------
    Percent change and probability of a rise, shape (rows, horizons), and whether a model said so.
    """
    source = Path(request.folder)
    places = [request.feature_names.index(name) for name in hidden]
    with tempfile.TemporaryDirectory(prefix="without-", dir=source) as own:
        columns = {name: np.load(source / f"{name}.npy", allow_pickle=False) for name in _COLUMNS}
        columns["vectors"][:, places] = np.nan
        save_rows(Path(own), **columns)
        columns.clear()
        may_be_missing = request.optional_features | frozenset(hidden)
        made = fit(
            replace(request, folder=own, optional_features=may_be_missing),
            progress=progress,
            cancelled=cancelled,
        )
    ahead = np.load(source / _AHEAD, allow_pickle=False)
    shape = (len(ahead), len(request.horizons))
    if made.model is None:
        return np.zeros(shape, np.float32), np.full(shape, 0.5, np.float32), False
    ahead[:, places] = np.nan
    served = ServedModel.from_bytes(
        made.model.graph,
        sha256=made.model.sha256,
        feature_names=request.feature_names,
        schema_hash=request.schema_hash,
    )
    answers = served.predict(ahead)
    order = [served.card.horizons.index(horizon) for horizon in request.horizons]
    return answers.predicted_pct[:, order], answers.probability_up[:, order], True


def weekly_points(history: History, recording: str) -> list[Due]:
    """List when models are trained: at the end of the first week, and at every weekly point behind it.

    Raises
    ------
    TooShortError
        If the recording is shorter than that.
    """
    policy = Policy(
        window_minutes=FIRST_MINUTES, every_minutes=_WEEK_MINUTES, groups=(history.frame.symbols,)
    )
    try:
        return due_points(history, policy)
    except TooShortError as error:
        raise TooShortError(
            f"{recording}: shorter than the {FIRST_MINUTES // 1440} days that the first training waits for:"
            " take a longer recording"
        ) from error


def kept_minutes(open_time_ms: Int64, step_minutes: int) -> Bool:
    """Tell which minutes are learned from and scored."""
    kept: Bool = (open_time_ms // MINUTE_MS) % step_minutes == 0
    return kept


def scored_rows(
    history: History,
    actual: Float64,
    due: Due,
    following: Due | None,
    plan: TrainingPlan,
    step_minutes: int,
) -> Int64:
    """Find the rows at which the models of one point speak, and of which an outcome is known."""
    times = history.frame.open_time_ms
    delay_ms = plan.activation_delay_minutes * MINUTE_MS
    chosen = times >= due.train_at_ms + delay_ms
    if following is not None:
        chosen &= times < following.train_at_ms + delay_ms
    chosen &= (
        kept_minutes(history.frame.open_time_ms, step_minutes)
        & history.frame.is_complete
        & np.isfinite(actual).any(axis=1)
    )
    return np.flatnonzero(chosen)


def _save(folder: Path, history: History, due: Due, scored: Int64, step_minutes: int) -> None:
    """Write what is known at a point, and the vectors that its models are asked about."""
    frame = history.frame
    known = frame.rows(
        np.flatnonzero(
            (frame.open_time_ms <= due.train_at_ms) & kept_minutes(history.frame.open_time_ms, step_minutes)
        )
    )
    save_rows(
        folder,
        vectors=known.vector,
        symbol_index=known.symbol_index,
        open_time_ms=known.open_time_ms,
        close=known.ohlcv[:, 3],
        is_complete=known.is_complete,
    )
    np.save(folder / _AHEAD, np.ascontiguousarray(frame.vector[scored], np.float32), allow_pickle=False)


def _request(
    plan: TrainingPlan, due: Due, folder: Path, horizons: tuple[int, ...], variant: Variant
) -> FitRequest:
    return request_of(
        plan,
        folder=folder,
        family=FAMILY,
        symbol=ALL_SYMBOLS,
        horizons=horizons,
        train_at_ms=due.train_at_ms,
        more_seed=variant.seed,
    )


def _joined(answers: Sequence[tuple[Float32, Float32, bool]], which: int) -> Float64:
    return np.concatenate([np.asarray(each[which], np.float64) for each in answers])

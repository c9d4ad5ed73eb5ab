"""What a model says that never saw a group of features, beside one that saw all, on the same minutes.

At every point at which production would retrain, one model learns from all features and one more for each
group that is hidden: its columns are missing from the rows that are learned from and from those that are
predicted. Everything else is that of production: the purged split, early stopping, calibration, export and
the graph that answers. Where a training finds nothing to learn, the no-change forecast stands, as it would.

Only every so many minutes are learned from and scored (`training.evaluation.weekly`).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.models.serving import ServedModel
from schemas.frames import ALL_SYMBOLS, Float32, Float64, Int64
from training.evaluation.history import History
from training.evaluation.schedule import Due, TooShortError
from training.evaluation.scoring import outcomes_pct
from training.evaluation.together import together
from training.evaluation.weekly import Tell, check_step, kept_minutes, scored_rows, weekly_points
from training.fitting import FitRequest, fit
from training.request import request_of
from training.rows import Compute, save_rows, saved_rows
from training.settings import TrainingPlan

#: The model that everything is compared with.
FULL = "all features"
#: Nothing is hidden, only chance differs: what is seen here is the noise of training.
RESEEDED = "nothing, but another seed"
#: The family whose models are compared.
FAMILY = "xgboost"
_AHEAD = "ahead.npy"


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
    groups: Mapping[str, Sequence[str]], hidden_together: Sequence[tuple[str, ...]] = ()
) -> list[Variant]:
    """List the models to compare: all features, another seed, without each group, without some together."""
    single = [Variant(name=name, hidden=tuple(names)) for name, names in groups.items()]
    joined = [
        Variant(
            name=" + ".join(names),
            hidden=tuple(feature for name in names for feature in groups[name]),
        )
        for names in hidden_together
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
    scored = scored_rows(history, actual, points, plan, step_minutes)
    if not sum(map(len, scored)):
        raise TooShortError(f"{recording}: no forecast fell due after its first training: take a longer one")
    folders = [scratch / f"point-{due.train_at_ms}" for due in points]
    ended = 0

    async def one(due: Due, folder: Path, variant: Variant) -> tuple[Float32, Float32, bool]:
        nonlocal ended
        answered: tuple[Float32, Float32, bool] = await compute.run(
            fit_and_ask, _request(plan, due, folder, horizons, variant), variant.hidden
        )
        ended += 1
        tell(ended / (len(points) * len(variants)), f"{recording}: {ended} trainings")
        return answered

    try:
        for due, rows, folder in zip(points, scored, folders, strict=True):
            await asyncio.to_thread(_save, folder, history, due, rows, step_minutes)
        answers = await together(
            [
                together(
                    [
                        one(due, folder, variant)
                        for due, folder, rows in zip(points, folders, scored, strict=True)
                        if len(rows)
                    ]
                )
                for variant in variants
            ]
        )
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    said = {variant.name: each for variant, each in zip(variants, answers, strict=True)}
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
        columns = saved_rows(source)
        columns["vectors"] = np.array(columns["vectors"])
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


def _save(folder: Path, history: History, due: Due, scored: Int64, step_minutes: int) -> None:
    """Write what is known at a point, and the vectors that its models are asked about."""
    frame = history.frame
    known = frame.rows(
        np.flatnonzero(
            (frame.open_time_ms <= due.train_at_ms) & kept_minutes(frame.open_time_ms, step_minutes)
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

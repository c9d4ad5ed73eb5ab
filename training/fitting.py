"""One training, from rows in files to a checked graph with its scores. Runs in a process of its own.

The order is the guard against leakage: cut to what was known, split off the validation part (purged), split
the calibration part off the rest (purged again) and the early-stopping part off that (and again), learn,
calibrate, export, hold the graph against the model, and only then score the graph itself on the validation
part, which nothing has looked at before. While the history is too short for four parts, the early-stopping
part calibrates too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.evaluation.metrics import Comparison, Scores, compare, score
from domain.evaluation.walk_forward import WalkForward
from domain.evaluation.walk_forward_score import WalkForwardScore, walk_forward_score
from domain.features.labels import percent_change_by_symbol
from domain.models import calibration, dissimilarity, families, graph, parity, serving
from domain.models.assembly import assemble
from domain.models.calibration import Calibration
from domain.models.card import ModelCard
from domain.models.model import (
    BadTrainingDataError,
    Cancelled,
    Fitted,
    NoSignalError,
    Progress,
    TrainingRows,
    check_rows,
)
from domain.models.serving import ServedModel
from domain.models.windows import Windows
from schemas.frames import MINUTE_MS, Float32, Int64
from training.checkpoints import FileCheckpoints

#: Minutes of calibration, in longest horizons, below which no rows are kept for it alone.
CALIBRATION_HORIZONS = 100
#: An absence longer than this starts the indicators' warm-up again.
_LONG_GAP_MINUTES = 5
#: Custom indicator lengths and short gaps may stretch a feature's stated warm-up by this much.
_WARM_UP_SLACK = 2
#: Beginnings of calendar features' names, and the minutes after which their cycle has been seen often enough.
_CYCLE_MINUTES = {"day_": 7 * 1440, "week_": 28 * 1440}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBefore:
    """The model in production, to compare with.

    Attributes
    ----------
    version
        Its `model_version`.
    train_at_ms
        Up to where it has seen data.
    payload, sha256
        Its graph and the digest in the registry.
    """

    version: str
    train_at_ms: int
    payload: bytes
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """Everything that a training depends on.

    Attributes
    ----------
    folder
        Where `training.rows.save_rows` put the rows.
    checkpoint_path
        Where an unfinished training leaves its state; empty for nowhere.
    train_at_ms
        Open time of the last candle that is known.
    warm_up_minutes
        Candles after which each feature is there, in the order of `feature_names`.
    optional_features
        Features that may be missing throughout.
    horizons
        Minutes ahead that the one model looks; what is purged is the longest of them.
    production
        The model in production of each horizon that has one.
    start_from
        The native file of an earlier model that is to be trained further; None begins anew.
    start_seen_to_ms
        Open time of the last candle that it knew. Where validation rows lie before that, the training begins
        anew: they must be new to whoever is judged by them.
    """

    folder: str
    checkpoint_path: str
    family: str
    settings: Mapping[str, Any]
    seed: int
    symbol: str
    horizons: tuple[int, ...]
    train_at_ms: int
    feature_names: tuple[str, ...]
    schema_hash: str
    warm_up_minutes: tuple[int, ...] = ()
    optional_features: frozenset[str] = frozenset()
    validation_fraction: float = 0.2
    embargo_minutes: int = 5
    production: Mapping[int, ServedBefore] = field(default_factory=dict)
    start_from: bytes | None = None
    start_seen_to_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonScores:
    """How a model did on the validation rows of one horizon; `walk_forward` is what live is held against."""

    scores: Scores
    walk_forward: WalkForwardScore
    against_no_change: Comparison
    against_production: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model that passed the gate; `by_horizon` has its scores."""

    graph: bytes
    native: bytes
    native_suffix: str
    sha256: str
    by_horizon: Mapping[int, HorizonScores]
    metrics: Mapping[str, float]
    importance: Mapping[str, float]
    best_iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What came of a training.

    Attributes
    ----------
    model
        None if there was nothing to learn; `reason` then says so.
    training_rows, validation_rows
        Rows learned from (early stopping and calibration included), and rows scored.
    train_start_ms, train_end_ms
        Open times of the first and last row learned from.
    baseline
        By horizon, scores of the no-change forecast on the validation rows.
    """

    model: TrainedModel | None
    reason: str
    training_rows: int
    validation_rows: int
    train_start_ms: int
    train_end_ms: int
    baseline: Mapping[int, Scores]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The rows of a training, each part later than the one before, with a purge between.

    Attributes
    ----------
    learn, stop, calibrate
        Rows to learn from, to stop early by, and to calibrate by; the last two are the same while the history
        is short.
    validation
        Rows that nothing looks at before the model is finished.
    """

    learn: TrainingRows
    stop: TrainingRows
    calibrate: TrainingRows
    validation: TrainingRows

    @property
    def known(self) -> int:
        """How many rows a model knows."""
        shared = self.calibrate is self.stop
        return len(self.learn) + len(self.stop) + (0 if shared else len(self.calibrate))


def fit(request: FitRequest, *, progress: Progress, cancelled: Cancelled) -> FitResult:
    """Train, calibrate, export, check and score one model.

    Raises
    ------
    ModelError
        Saying what is wrong with the rows, the settings or the graph.
    """
    started = time.monotonic()
    family = families.load(request.family)
    family.check_settings(request.settings)
    parts = parts_of(request)
    progress(0.05, f"{parts.known} rows to learn from, {len(parts.validation)} to validate on")
    result: dict[str, Any] = {
        "training_rows": parts.known,
        "validation_rows": len(parts.validation),
        "train_start_ms": int(parts.learn.open_time_ms.min()),
        "train_end_ms": int(parts.calibrate.open_time_ms.max()),
        "baseline": {
            horizon: score(actual=rows.target_pct[:, 0], predicted=np.zeros(len(rows)))
            for horizon, rows in _by_horizon(request, parts.validation)
        },
    }
    checkpoints = FileCheckpoints(Path(request.checkpoint_path)) if request.checkpoint_path else None
    try:
        fitted = family.fit(
            train=parts.learn,
            validation=parts.stop,
            settings=request.settings,
            seed=request.seed,
            progress=lambda done, text: progress(0.05 + 0.85 * done, text),
            cancelled=cancelled,
            checkpoints=checkpoints,
            start_from=request.start_from
            if request.start_seen_to_ms < int(parts.validation.open_time_ms.min())
            else None,
        )
    except NoSignalError as nothing:
        model, reason = None, str(nothing)
    else:
        progress(0.9, "calibrating, and holding the graph against the model")
        model, reason = _checked(request, fitted, parts), ""
    if checkpoints is not None:
        checkpoints.clear()
    return FitResult(model=model, reason=reason, seconds=time.monotonic() - started, **result)


def parts_of(request: FitRequest) -> Parts:
    """Read the rows of a training and split them.

    Raises
    ------
    BadTrainingDataError, TooFewRowsError
        If they cannot be learned from.
    """
    rows, usable = labelled(request)
    splitter = WalkForward(
        horizon_minutes=max(request.horizons),
        embargo_minutes=request.embargo_minutes,
        validation_fraction=request.validation_fraction,
        cut_ms=request.train_at_ms + MINUTE_MS,
    )
    times = rows.open_time_ms
    past, last = next(splitter.split(None, groups=times[usable]))
    before, validation = usable[past], usable[last]
    inner, later = next(splitter.split(None, groups=times[before]))
    learn, calibrate = before[inner], before[later]
    stop = calibrate
    if len(np.unique(times[calibrate])) >= CALIBRATION_HORIZONS * max(request.horizons):
        first, second = next(splitter.split(None, groups=times[learn]))
        learn, stop = learn[first], learn[second]
    hidden = unproven_cycles(request.feature_names, times[learn])
    shown = _with_hidden(rows, hidden)
    # the vectors are copied once, here: they are most of the memory of a training
    taken = [shown.take(learn), shown.take(stop)]
    parts = Parts(
        learn=taken[0],
        stop=taken[1],
        calibrate=taken[1] if stop is calibrate else rows.take(calibrate),
        validation=rows.take(validation),
    )
    _check_parts(request, parts)
    return parts


def _with_hidden(rows: TrainingRows, hidden: list[int]) -> TrainingRows:
    """Hide columns from whoever learns; those who score see what they will be served."""
    if not hidden:
        return rows
    vectors = np.array(rows.vectors, np.float32)
    vectors[:, hidden] = np.nan
    return replace(
        rows,
        vectors=vectors,
        history=Windows(vectors=vectors, symbol_index=rows.symbol_index, open_time_ms=rows.open_time_ms),
    )


def _check_parts(request: FitRequest, parts: Parts) -> None:
    everything = frozenset(request.feature_names)
    hidden = unproven_cycles(request.feature_names, parts.learn.open_time_ms)
    missing = _may_be_missing(request, parts.learn.open_time_ms)
    missing |= {request.feature_names[column] for column in hidden}
    for part, rows, optional in (
        ("rows to learn from", parts.learn, missing),
        ("early-stopping rows", parts.stop, everything),
        ("calibration rows", parts.calibrate, everything),
        ("validation rows", parts.validation, everything),
    ):
        check_rows(rows, part=part, feature_names=request.feature_names, may_be_missing=optional)


def unproven_cycles(feature_names: Sequence[str], open_time_ms: Int64) -> list[int]:
    """List the columns of calendar features whose cycle has been seen too few times to learn from.

    In a few days the time of day does not say what comes at that time; it says which day it was, and a model
    would learn the path that the price happened to take. Such columns are hidden from training, so that no
    tree asks for them.
    """
    minutes = (int(open_time_ms.max()) - int(open_time_ms.min())) // MINUTE_MS + 1
    short = tuple(name for name, needed in _CYCLE_MINUTES.items() if minutes < needed)
    return [column for column, name in enumerate(feature_names) if name.startswith(short)] if short else []


def labelled(request: FitRequest) -> tuple[TrainingRows, Int64]:
    """Give all rows with what became of them, and where those are that can be learned from."""
    folder = Path(request.folder)
    columns = {
        name: np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("symbol_index", "open_time_ms", "close", "is_complete")
    }
    open_time_ms = columns["open_time_ms"]
    if not len(open_time_ms):
        raise BadTrainingDataError(
            f"no rows at all of {request.symbol} up to the time of the training: wait for candles"
        )
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    # what came after the cut must not even give a label
    seen = open_time_ms <= request.train_at_ms
    target = np.full((len(vectors), len(request.horizons)), np.nan)
    for column, horizon in enumerate(request.horizons):
        target[seen, column] = percent_change_by_symbol(
            symbol_index=columns["symbol_index"][seen],
            open_time_ms=open_time_ms[seen],
            close=columns["close"][seen],
            horizon_minutes=horizon,
        )
        if not (np.isfinite(target[:, column]) & columns["is_complete"]).any():
            minutes = (int(open_time_ms.max()) - int(open_time_ms.min())) // MINUTE_MS + 1
            raise BadTrainingDataError(
                f"no complete row of {request.symbol} has a label {horizon} minutes ahead: the history of"
                f" {minutes} minutes is too short for this horizon"
            )
    usable = np.flatnonzero(np.isfinite(target).any(axis=1) & columns["is_complete"])
    rows = TrainingRows(
        vectors=vectors,
        target_pct=target,
        open_time_ms=open_time_ms,
        symbol_index=columns["symbol_index"],
        history=Windows(vectors=vectors, symbol_index=columns["symbol_index"], open_time_ms=open_time_ms),
    )
    return rows, usable


def _may_be_missing(request: FitRequest, open_time_ms: Int64) -> frozenset[str]:
    if not request.warm_up_minutes:
        return request.optional_features
    minutes = np.unique(open_time_ms) // MINUTE_MS
    breaks = np.flatnonzero(np.diff(minutes) > _LONG_GAP_MINUTES + 1)
    ends = np.concatenate([breaks, [len(minutes) - 1]])
    starts = np.concatenate([[0], breaks + 1])
    longest = int(np.max(minutes[ends] - minutes[starts])) + 1
    warming = (
        name
        for name, needed in zip(request.feature_names, request.warm_up_minutes, strict=True)
        if needed * _WARM_UP_SLACK > longest
    )
    return request.optional_features | frozenset(warming)


def _by_horizon(request: FitRequest, rows: TrainingRows) -> Iterator[tuple[int, TrainingRows]]:
    for column, horizon in enumerate(request.horizons):
        yield horizon, rows.of_horizon(column)


def _checked(request: FitRequest, fitted: Fitted, parts: Parts) -> TrainedModel:
    family = families.load(request.family)
    card = ModelCard(
        family=request.family,
        symbol=request.symbol,
        horizons=request.horizons,
        window=fitted.window,
        trained_to_ms=request.train_at_ms,
        feature_names=request.feature_names,
        schema_hash=request.schema_hash,
        seed=request.seed,
        settings=dict(request.settings),
        best_iteration=fitted.best_iteration,
        native_sha256=hashlib.sha256(fitted.native).hexdigest(),
    )
    calibrated_by = _calibration(request, fitted, parts.calibrate)
    measure = dissimilarity.fit(np.asarray(parts.learn.vectors, np.float32))
    payload = graph.with_card(assemble(fitted.graph, calibrated_by=calibrated_by, unlike=measure), card)
    report = parity.check(
        family=family,
        fitted=fitted,
        served_graph=payload,
        calibration=calibrated_by,
        unlike=measure,
        rows=parts.learn,
        seed=request.seed,
    )
    sha256 = hashlib.sha256(payload).hexdigest()
    served = _serve(request, payload, sha256)
    return TrainedModel(
        graph=payload,
        native=fitted.native,
        native_suffix=family.native_suffix,
        sha256=sha256,
        by_horizon=_scored(request, served, parts.validation),
        metrics={
            **fitted.metrics,
            **{f"parity_{key}": float(value) for key, value in asdict(report).items()},
        },
        importance={request.feature_names[i]: share for i, share in fitted.importance.items()},
        best_iteration=fitted.best_iteration,
    )


def _calibration(request: FitRequest, fitted: Fitted, rows: TrainingRows) -> Calibration:
    session = serving.open_session(fitted.graph)
    said = in_pieces(lambda inputs: serving.run(session, inputs).log_odds_up, rows, fitted.window)
    return calibration.fit(log_odds=said, rows=rows, horizons=request.horizons)


def in_pieces(say: Callable[[Float32], Float32], rows: TrainingRows, window: int) -> Float32:
    """Ask about rows a few at a time: windows of all of them would fill the memory."""
    return np.concatenate([say(inputs) for inputs in rows.pieces(window)])


def _scored(request: FitRequest, served: ServedModel, validation: TrainingRows) -> dict[int, HorizonScores]:
    said = in_pieces(lambda inputs: _changes_and_probabilities(served, inputs), validation, served.window)
    found = {}
    for column, horizon in enumerate(request.horizons):
        known = np.flatnonzero(np.isfinite(validation.target_pct[:, column]))
        rows, predicted = validation.of_horizon(column), said[known, column]
        actual = rows.target_pct[:, 0]
        found[horizon] = HorizonScores(
            scores=score(actual=actual, predicted=predicted),
            walk_forward=walk_forward_score(
                actual=actual,
                predicted=predicted,
                probability_up=said[known, len(request.horizons) + column],
                open_time_ms=rows.open_time_ms,
                horizon_minutes=horizon,
            ),
            against_no_change=compare(
                actual=actual,
                predicted=predicted,
                reference=np.zeros(len(rows)),
                open_time_ms=rows.open_time_ms,
                horizon_minutes=horizon,
            ),
            against_production=_against_production(request, horizon, rows, predicted),
        )
    return found


def _changes_and_probabilities(served: ServedModel, inputs: Float32) -> Float32:
    answers = served.predict(inputs)
    return np.concatenate([answers.predicted_pct, answers.probability_up], axis=1)


def _serve(request: FitRequest, payload: bytes, sha256: str) -> ServedModel:
    return ServedModel.from_bytes(
        payload, sha256=sha256, feature_names=request.feature_names, schema_hash=request.schema_hash
    )


def _against_production(
    request: FitRequest, horizon: int, validation: TrainingRows, predicted: Float32
) -> Comparison | None:
    before = request.production.get(horizon)
    if before is None:
        return None
    # only rows that the old model has not seen either
    fresh = np.flatnonzero(validation.open_time_ms > before.train_at_ms)
    rows = validation.take(fresh)
    served = _serve(request, before.payload, before.sha256)
    column = served.card.horizons.index(horizon)
    return compare(
        actual=rows.target_pct[:, 0],
        predicted=predicted[fresh],
        reference=in_pieces(
            lambda inputs: served.predict(inputs).predicted_pct[:, column], rows, served.window
        ),
        open_time_ms=rows.open_time_ms,
        horizon_minutes=horizon,
    )

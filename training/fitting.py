"""One training, from rows in files to a checked graph with its scores. Runs in a process of its own.

The order is the guard against leakage: cut to what was known, split off the validation part (purged), split
the early-stopping part off the rest (purged again), learn, export, hold the graph against the model, and only
then score the graph itself on the validation part, which nothing has looked at before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domain.evaluation.metrics import Comparison, Scores, compare, score
from domain.evaluation.walk_forward import WalkForward
from domain.features.labels import percent_change_by_symbol
from domain.models import families, graph, parity
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
from schemas.frames import MINUTE_MS, Float32, Float64, Int64
from training.checkpoints import FileCheckpoints

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
    """

    folder: str
    checkpoint_path: str
    family: str
    settings: Mapping[str, Any]
    seed: int
    symbol: str
    horizon_minutes: int
    train_at_ms: int
    feature_names: tuple[str, ...]
    schema_hash: str
    warm_up_minutes: tuple[int, ...] = ()
    optional_features: frozenset[str] = frozenset()
    validation_fraction: float = 0.2
    embargo_minutes: int = 5
    production: ServedBefore | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model that passed the gate."""

    graph: bytes
    native: bytes
    native_suffix: str
    sha256: str
    scores: Scores
    against_no_change: Comparison
    against_production: Comparison | None
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
        Rows learned from (early stopping included), and rows scored.
    train_start_ms, train_end_ms
        Open times of the first and last row learned from.
    baseline
        Scores of the no-change forecast on the validation rows.
    """

    model: TrainedModel | None
    reason: str
    training_rows: int
    validation_rows: int
    train_start_ms: int
    train_end_ms: int
    baseline: Scores
    seconds: float


def fit(request: FitRequest, *, progress: Progress, cancelled: Cancelled) -> FitResult:
    """Train, export, check and score one model.

    Raises
    ------
    ModelError
        Saying what is wrong with the rows, the settings or the graph.
    """
    started = time.monotonic()
    family = families.load(request.family)
    family.check_settings(request.settings)
    learn, stop, validation = _parts(request)
    known = len(learn) + len(stop)
    progress(0.05, f"{known} rows to learn from, {len(validation)} to validate on")
    no_change = np.zeros(len(validation))
    result: dict[str, Any] = {
        "training_rows": known,
        "validation_rows": len(validation),
        "train_start_ms": int(learn.open_time_ms.min()),
        "train_end_ms": int(stop.open_time_ms.max()),
        "baseline": score(actual=validation.target_pct, predicted=no_change),
    }
    checkpoints = FileCheckpoints(Path(request.checkpoint_path)) if request.checkpoint_path else None
    try:
        fitted = family.fit(
            train=learn,
            validation=stop,
            settings=request.settings,
            seed=request.seed,
            progress=lambda done, text: progress(0.05 + 0.85 * done, text),
            cancelled=cancelled,
            checkpoints=checkpoints,
        )
    except NoSignalError as nothing:
        model, reason = None, str(nothing)
    else:
        progress(0.9, "holding the graph against the model")
        model, reason = _checked(request, fitted, learn, validation), ""
    if checkpoints is not None:
        checkpoints.clear()
    return FitResult(model=model, reason=reason, seconds=time.monotonic() - started, **result)


def _parts(request: FitRequest) -> tuple[TrainingRows, TrainingRows, TrainingRows]:
    vectors, target, open_time_ms, usable = _labelled(request)
    splitter = WalkForward(
        horizon_minutes=request.horizon_minutes,
        embargo_minutes=request.embargo_minutes,
        validation_fraction=request.validation_fraction,
        cut_ms=request.train_at_ms + MINUTE_MS,
    )
    past, last = next(splitter.split(None, groups=open_time_ms[usable]))
    before = usable[past]
    inner, stopping = next(splitter.split(None, groups=open_time_ms[before]))
    chosen = (before[inner], before[stopping], usable[last])
    # the vectors are copied once, here: they are most of the memory of a training
    learn, stop, validation = (
        TrainingRows(
            vectors=np.asarray(vectors[rows], np.float32),
            target_pct=target[rows],
            open_time_ms=open_time_ms[rows],
        )
        for rows in chosen
    )
    everything = frozenset(request.feature_names)
    missing = _may_be_missing(request, learn.open_time_ms)
    for part, rows, optional in (
        ("rows to learn from", learn, missing),
        ("early-stopping rows", stop, everything),
        ("validation rows", validation, everything),
    ):
        check_rows(rows, part=part, feature_names=request.feature_names, may_be_missing=optional)
    hidden = unproven_cycles(request.feature_names, learn.open_time_ms)
    for rows in (learn, stop):
        rows.vectors[:, hidden] = np.nan
    return learn, stop, validation


def unproven_cycles(feature_names: Sequence[str], open_time_ms: Int64) -> list[int]:
    """List the columns of calendar features whose cycle has been seen too few times to learn from.

    In a few days the time of day does not say what comes at that time; it says which day it was, and a model
    would learn the path that the price happened to take. Such columns are hidden from training, so that no
    tree asks for them.
    """
    minutes = (int(open_time_ms.max()) - int(open_time_ms.min())) // MINUTE_MS + 1
    short = tuple(name for name, needed in _CYCLE_MINUTES.items() if minutes < needed)
    return [column for column, name in enumerate(feature_names) if name.startswith(short)] if short else []


def _labelled(request: FitRequest) -> tuple[Float32, Float64, Int64, Int64]:
    """Give vectors, targets and open times of all rows, and where those are that can be learned from."""
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
    target = np.full(len(vectors), np.nan)
    target[seen] = percent_change_by_symbol(
        symbol_index=columns["symbol_index"][seen],
        open_time_ms=open_time_ms[seen],
        close=columns["close"][seen],
        horizon_minutes=request.horizon_minutes,
    )
    usable = np.flatnonzero(np.isfinite(target) & columns["is_complete"])
    if not len(usable):
        minutes = (int(open_time_ms.max()) - int(open_time_ms.min())) // MINUTE_MS + 1
        raise BadTrainingDataError(
            f"no complete row of {request.symbol} has a label {request.horizon_minutes} minutes ahead: the"
            f" history of {minutes} minutes is too short for this horizon"
        )
    return vectors, target, open_time_ms, usable


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


def _checked(
    request: FitRequest, fitted: Fitted, learn: TrainingRows, validation: TrainingRows
) -> TrainedModel:
    family = families.load(request.family)
    card = ModelCard(
        family=request.family,
        symbol=request.symbol,
        horizon_minutes=request.horizon_minutes,
        trained_to_ms=request.train_at_ms,
        feature_names=request.feature_names,
        schema_hash=request.schema_hash,
        seed=request.seed,
        settings=dict(request.settings),
        best_iteration=fitted.best_iteration,
        native_sha256=hashlib.sha256(fitted.native).hexdigest(),
    )
    payload = graph.with_card(fitted.graph, card)
    report = parity.check(
        family=family,
        native=fitted.native,
        graph=payload,
        vectors=learn.vectors,
        target_pct=learn.target_pct,
        seed=request.seed,
    )
    sha256 = hashlib.sha256(payload).hexdigest()
    served = _serve(request, payload, sha256)
    predicted = served.predict(validation.vectors).predicted_pct
    return TrainedModel(
        graph=payload,
        native=fitted.native,
        native_suffix=family.native_suffix,
        sha256=sha256,
        scores=score(actual=validation.target_pct, predicted=predicted),
        against_no_change=compare(
            actual=validation.target_pct,
            predicted=predicted,
            reference=np.zeros(len(validation)),
            open_time_ms=validation.open_time_ms,
            horizon_minutes=request.horizon_minutes,
        ),
        against_production=_against_production(request, validation, predicted),
        metrics={
            **fitted.metrics,
            **{f"parity_{key}": float(value) for key, value in asdict(report).items()},
        },
        importance={request.feature_names[i]: share for i, share in fitted.importance.items()},
        best_iteration=fitted.best_iteration,
    )


def _serve(request: FitRequest, payload: bytes, sha256: str) -> ServedModel:
    return ServedModel.from_bytes(
        payload, sha256=sha256, feature_names=request.feature_names, schema_hash=request.schema_hash
    )


def _against_production(
    request: FitRequest, validation: TrainingRows, predicted: Float32
) -> Comparison | None:
    before = request.production
    if before is None:
        return None
    # only rows that the old model has not seen either
    fresh = np.flatnonzero(validation.open_time_ms > before.train_at_ms)
    rows = validation.take(fresh)
    return compare(
        actual=rows.target_pct,
        predicted=predicted[fresh],
        reference=_serve(request, before.payload, before.sha256).predict(rows.vectors).predicted_pct,
        open_time_ms=rows.open_time_ms,
        horizon_minutes=request.horizon_minutes,
    )

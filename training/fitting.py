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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.evaluation.metrics import Comparison, Scores, compare, score
from domain.evaluation.walk_forward_score import WalkForwardScore, walk_forward_score
from domain.models import calibration, dissimilarity, families, graph, parity, serving
from domain.models.assembly import assemble
from domain.models.calibration import Calibration
from domain.models.card import ModelCard
from domain.models.model import (
    Cancelled,
    Fitted,
    NoSignalError,
    Progress,
    TrainingRows,
)
from domain.models.serving import ServedModel
from schemas.frames import Float32
from training.checkpoints import FileCheckpoints, TuningCheckpoints
from training.parts import Parts, parts_of
from training.tuning import Tuning, is_due, kept_settings, tune


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
    start_settings
        What the earlier model was trained with.
    tuning_trials
        How many settings are tried before the training, the given ones included; 0 trains with them as given.
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
    start_seen_to_ms: int | None = None
    start_settings: Mapping[str, Any] = field(default_factory=dict)
    tuning_trials: int = 0

    def __post_init__(self) -> None:
        """Refuse an earlier model of which it is not known what it has seen."""
        if (self.start_from is None) != (self.start_seen_to_ms is None):
            raise ValueError("start_from and start_seen_to_ms are given together, or neither is")


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonScores:
    """How a model did on the validation rows of one horizon; `walk_forward` is what live is held against."""

    scores: Scores
    walk_forward: WalkForwardScore
    against_no_change: Comparison
    against_production: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model that passed the gate; `by_horizon` has its scores, `settings` what it was trained with."""

    settings: Mapping[str, Any]
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
    tuning
        What was tried before; None where nothing was to be tried.
    """

    model: TrainedModel | None
    reason: str
    training_rows: int
    validation_rows: int
    train_start_ms: int
    train_end_ms: int
    baseline: Mapping[int, Scores]
    seconds: float
    tuning: Tuning | None = None


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
    file = FileCheckpoints(Path(request.checkpoint_path)) if request.checkpoint_path else None
    checkpoints: FileCheckpoints | TuningCheckpoints | None = file
    start = _start(request, parts)
    settings = kept_settings(request, family) if start is not None else request.settings
    tuning, tuned_to = None, 0.05
    if start is None and is_due(request, family):
        checkpoints = TuningCheckpoints(file) if file is not None else None
        tuned_to += 0.85 * request.tuning_trials / (request.tuning_trials + 1)
        tuning = tune(
            request,
            family,
            parts.learn,
            progress=_part_of(progress, 0.05, tuned_to),
            cancelled=cancelled,
            checkpoints=checkpoints,
        )
        settings = tuning.applied(settings)
    try:
        fitted = family.fit(
            train=parts.learn,
            validation=parts.stop,
            settings=settings,
            seed=request.seed,
            progress=_part_of(progress, tuned_to, 0.9),
            cancelled=cancelled,
            checkpoints=checkpoints,
            start_from=start,
        )
    except NoSignalError as nothing:
        model, reason = None, str(nothing)
    else:
        progress(0.9, "calibrating, and holding the graph against the model")
        model, reason = _checked(replace(request, settings=settings), fitted, parts), ""
        if tuning is not None:
            model = replace(model, metrics={**model.metrics, **tuning.metrics})
    if file is not None:
        file.clear()
    return FitResult(model=model, reason=reason, seconds=time.monotonic() - started, tuning=tuning, **result)


def _part_of(progress: Progress, low: float, high: float) -> Progress:
    """Tell the progress of a part that reaches from one fraction to another."""
    return lambda done, text: progress(low + (high - low) * done, text)


def _start(request: FitRequest, parts: Parts) -> bytes | None:
    """Give the earlier model to go on from, if it has not seen what the new one is judged by."""
    seen_to_ms = request.start_seen_to_ms
    is_honest = seen_to_ms is not None and seen_to_ms < int(parts.validation.open_time_ms.min())
    return request.start_from if is_honest else None


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
        settings=request.settings,
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

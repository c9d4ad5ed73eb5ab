"""A recurrent network (LSTM) over the last minutes: all horizons at once, two heads each.

A horizon has a head for the percent change and one for the logit of a rise. Both begin at "no change, one
half". Features are made comparable inside the network, by a scaling learned from the training rows alone. An
epoch is the unit that a killed training goes on from; its order and what is left out at random depend on the
seed and the epoch alone, so it ends in the same bytes as one that ran through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from domain.models import lstm_graph, lstm_network, lstm_shrinkage
from domain.models.lstm_model import Model, Scaling, Shape
from domain.models.lstm_rows import deviations, fit_scaling
from domain.models.lstm_settings import LSTMSettings
from domain.models.lstm_training import Course, Training
from domain.models.model import (
    BadSettingsError,
    BadTrainingDataError,
    Cancelled,
    Checkpoints,
    Fitted,
    NoSignalError,
    Predictions,
    Progress,
    TrainingRows,
)
from domain.models.search_space import Range
from schemas.frames import Float32, Float64

_USUAL = LSTMSettings()
#: What tuning may change.
SEARCH_SPACE: tuple[Range, ...] = (
    Range(name="hidden_size", low=8, high=128, usual=_USUAL.hidden_size, log=True, whole=True),
    Range(name="learning_rate", low=0.0005, high=0.02, usual=_USUAL.learning_rate, log=True),
    Range(name="dropout", low=0.0, high=0.5, usual=_USUAL.dropout),
    Range(name="weight_decay", low=0.005, high=0.5, usual=_USUAL.weight_decay, log=True),
)


class LSTM:
    """The family."""

    name = "lstm"
    native_suffix = "json"
    is_joint = True
    search_space = SEARCH_SPACE

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse unknown settings and values out of range."""
        LSTMSettings.of(settings)

    def fit(
        self,
        *,
        train: TrainingRows,
        validation: TrainingRows,
        settings: Mapping[str, Any],
        seed: int,
        progress: Progress,
        cancelled: Cancelled,
        checkpoints: Checkpoints | None = None,
        start_from: bytes | None = None,
    ) -> Fitted:
        """Learn epoch by epoch, take the best one, and keep of each head what held on the stopping rows.

        Parameters
        ----------
        start_from
            Native bytes of a model of the same shape that learning goes on from: its weights and its scaling
            of the features are taken over, the units of the targets are measured anew.
        """
        chosen = LSTMSettings.of(settings)
        _check_moves(train, validation)
        start = Model.from_bytes(start_from) if start_from is not None else None
        shape = _shape(chosen, train)
        scaling = _scaling(train, shape, start)
        device = lstm_network.device_of(chosen.device)
        with lstm_network.repeatable(device=device, threads=chosen.threads):
            training = Training(
                settings=chosen,
                seed=seed,
                device=device,
                shape=shape,
                scaling=scaling,
                train=train,
                validation=validation,
                start=start,
            )
            course = training.begin(checkpoints, cancelled)
            while not training.is_done(course):
                training.epoch(course, cancelled)
                if checkpoints is not None:
                    checkpoints.save(training.state(course))
                progress(
                    course.epochs / chosen.max_epochs,
                    f"epoch {course.epochs}, score {course.scores[-1]:.4f} (1 is no forecast)",
                )
            fitted = _fitted(training, course, scaling, cancelled)
        progress(1.0, f"{course.epochs} epochs")
        return fitted

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Predict with PyTorch itself, on the processor."""
        with lstm_network.repeatable(device="cpu", threads=1):
            return lstm_network.predict(Model.from_bytes(native), inputs)


def _check_moves(train: TrainingRows, validation: TrainingRows) -> None:
    for part, rows in (("training rows", train), ("early-stopping rows", validation)):
        if not ((rows.target_pct > 0).any(axis=0) & (rows.target_pct < 0).any(axis=0)).all():
            raise BadTrainingDataError(f"{part}: the target only ever moves one way; wait for more history")


def _shape(settings: LSTMSettings, train: TrainingRows) -> Shape:
    return Shape(
        features=int(train.vectors.shape[1]),
        window=settings.lookback_minutes,
        horizons=train.horizons,
        hidden_size=settings.hidden_size,
        layers=settings.layers,
        attention=settings.attention,
        missing_share=settings.missing_share,
    )


def _scaling(train: TrainingRows, shape: Shape, start: Model | None) -> Scaling:
    if start is None:
        return fit_scaling(train)
    if start.shape != shape:
        raise BadSettingsError(
            f"lstm: cannot go on from a model of another shape: {start.shape}, not {shape}"
        )
    return replace(start.scaling, deviation=deviations(train.target_pct))


def _fitted(training: Training, course: Course, scaling: Scaling, cancelled: Cancelled) -> Fitted:
    training.network.load(course.best)
    factors = _factors(training, training.say(cancelled).astype(np.float64))
    if not any(factors):
        raise NoSignalError(
            f"{course.epochs} epochs, and no head does better than no forecast on the early-stopping rows;"
            " the no-change forecast stays"
        )
    believed = np.array(factors, np.float32)
    weights = {
        **course.best,
        "heads.weight": course.best["heads.weight"] * believed[:, None],
        "heads.bias": course.best["heads.bias"] * believed,
    }
    model = Model(shape=training.shape, scaling=scaling, weights=weights)
    best = training.best_epoch(course)
    heads = [f"{kind}{column}" for kind in ("change", "rise") for column in range(training.shape.horizons)]
    return Fitted(
        native=model.to_bytes(),
        graph=lstm_graph.build(model),
        best_iteration=max(0, best - 1),
        window=training.shape.window,
        metrics={
            "stopping_score": course.scores[best],
            "epochs": float(course.epochs),
            **{f"believed_{head}": factor for head, factor in zip(heads, factors, strict=True)},
        },
    )


def _factors(training: Training, said: Float64) -> list[float]:
    part, asked = training.validation, training.asked
    times = part.rows.open_time_ms[asked]
    # what was left out between the two parts is how far their outcomes reach
    left_out = int(times.min()) - training.learned_to_ms
    blocks = lstm_shrinkage.blocks_of(times, overlap_ms=left_out)
    target = part.target[asked].astype(np.float64)
    changes, rises = np.split(said, 2, axis=1)
    horizons = range(training.shape.horizons)
    return [
        *(
            lstm_shrinkage.of_changes(changes[:, k], target[:, k], part.known[asked, k], blocks)
            for k in horizons
        ),
        *(
            lstm_shrinkage.of_rises(rises[:, k], part.rose[asked, k], part.moved[asked, k], blocks)
            for k in horizons
        ),
    ]


FAMILY = LSTM()

"""What a model family is, and the values that go in and out of it.

A family is one file of this folder with a `FAMILY`; `families.py` lists them. It learns from rows, gives its
model away as native bytes (the truth that training goes on from) and as an ONNX graph (what serves), and can
predict natively, so that the graph can be checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from schemas.frames import Float32, Float64, Int64

#: Names in every family's graph.
INPUT = "features"
OUTPUTS = ("predicted_pct", "probability_up")
#: Fewest rows that anything is learned from.
MIN_ROWS = 50


class ModelError(ValueError):
    """Something about a model is wrong; the message says what and what to do."""


class BadTrainingDataError(ModelError):
    """The rows cannot be learned from."""


class NoSignalError(ModelError):
    """Nothing was found in the rows: the model would say the same about every input."""


class UnknownFamilyError(ModelError):
    """No model family of this name is installed."""


class BadSettingsError(ModelError):
    """A family does not know a setting, or not with this value."""


class ModelRefusedError(ModelError):
    """A model file is not what the registry says it is, or does not fit this program; it must not serve."""


class ParityError(ModelError):
    """The graph does not predict what the model predicts; it must not be registered."""


class TrainingCancelledError(Exception):
    """The training was asked to stop."""


class Predictions(NamedTuple):
    """One value a row: percent change, and probability of a rise in 0..1."""

    predicted_pct: Float32
    probability_up: Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Rows to learn from, in key order.

    Attributes
    ----------
    vectors
        Shape (rows, features), float32; NaN where a feature was not warm.
    target_pct
        Percent change over the horizon.
    open_time_ms
        Open time of each row's candle.
    """

    vectors: Float32
    target_pct: Float64
    open_time_ms: Int64

    def __len__(self) -> int:
        return len(self.target_pct)

    def take(self, rows: Int64) -> TrainingRows:
        """Keep the rows at these positions."""
        return TrainingRows(
            vectors=self.vectors[rows], target_pct=self.target_pct[rows], open_time_ms=self.open_time_ms[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model.

    Attributes
    ----------
    native
        The family's own text format.
    graph
        ONNX bytes: input `INPUT` of shape (rows, features), outputs `OUTPUTS` of shape (rows,).
    best_iteration
        The round or epoch that the model was taken from, counted from 0.
    metrics
        What the family measured while training.
    importance
        Share of each feature (by position) in what the model does; empty where that has no meaning.
    """

    native: bytes
    graph: bytes
    best_iteration: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    importance: Mapping[int, float] = field(default_factory=dict)


#: Called with the fraction done (0..1) and a few words.
Progress = Callable[[float, str], None]
#: Tells whether the training should stop.
Cancelled = Callable[[], bool]


class Checkpoints(Protocol):
    """Where an unfinished training leaves what it has, so that a killed one goes on identically."""

    def load(self) -> bytes | None:
        """Give back what was saved last; None at the beginning."""
        ...

    def save(self, state: bytes) -> None:
        """Keep the state of an unfinished training in place of the one before."""
        ...


class Family(Protocol):
    """A kind of model."""

    name: str
    #: Ending of the native file, without the dot.
    native_suffix: str

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Check settings without training.

        Raises
        ------
        BadSettingsError
            If a key is unknown or a value not allowed.
        """
        ...

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
    ) -> Fitted:
        """Learn from `train`, stop early by `validation`.

        The same arguments give the same bytes, whether or not the training was killed and went on from
        `checkpoints` in between.

        Raises
        ------
        BadTrainingDataError
            If the rows cannot be learned from.
        NoSignalError
            If the model would say the same about every input.
        TrainingCancelledError
            Soon after `cancelled` says so.
        """
        ...

    def predict(self, *, native: bytes, vectors: Float32) -> Predictions:
        """Predict with the native model, through the family's own library."""
        ...


def check_rows(
    rows: TrainingRows,
    *,
    part: str,
    feature_names: tuple[str, ...],
    may_be_missing: frozenset[str] = frozenset(),
) -> None:
    """Refuse rows that nothing can be learned from.

    Parameters
    ----------
    rows
        What is checked.
    part
        What the rows are, for the message.
    feature_names
        Name of each column of the vectors.
    may_be_missing
        Features that may be NaN throughout, because the history is shorter than their warm-up.

    Raises
    ------
    BadTrainingDataError
        If there are too few rows, the target never changes or is not finite, or a feature is always missing.
    """
    if rows.vectors.shape != (len(rows), len(feature_names)):
        raise BadTrainingDataError(
            f"{part}: vectors of shape {rows.vectors.shape}, expected ({len(rows)}, {len(feature_names)})"
        )
    if len(rows) < MIN_ROWS:
        raise BadTrainingDataError(
            f"{part}: {len(rows)} rows are too few, at least {MIN_ROWS} are needed; wait for more history"
        )
    if not np.isfinite(rows.target_pct).all():
        raise BadTrainingDataError(
            f"{part}: {int((~np.isfinite(rows.target_pct)).sum())} targets are not numbers"
        )
    if np.ptp(rows.target_pct) == 0:
        raise BadTrainingDataError(
            f"{part}: the target is {rows.target_pct[0]:g} in all {len(rows)} rows; there is nothing to learn"
        )
    infinite = np.flatnonzero(np.isinf(rows.vectors).any(axis=0))
    if len(infinite):
        raise BadTrainingDataError(
            f"{part}: infinite values in {', '.join(feature_names[i] for i in infinite)}"
        )
    missing = [
        feature_names[i]
        for i in np.flatnonzero(np.isnan(rows.vectors).all(axis=0))
        if feature_names[i] not in may_be_missing
    ]
    if missing:
        raise BadTrainingDataError(
            f"{part}: no value at all of {', '.join(missing)} in {len(rows)} rows; its indicator is broken or"
            " the history is shorter than its warm-up"
        )

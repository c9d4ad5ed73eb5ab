"""What a model family is, and the values that go in and out of it.

A family is one file of this folder with a `FAMILY`; `families.py` lists them. It learns from rows, for one
horizon or several at once, gives its model away as native bytes (the truth that training goes on from) and as
an ONNX graph (what serves), and can predict natively, so that the graph can be checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from domain.models.search_space import Range
from domain.models.windows import Windows
from schemas.frames import Float32, Float64, Int32, Int64

#: Input of a graph that looks at one minute: shape (rows, features).
INPUT = "features"
#: Input of a graph that looks back: shape (rows, minutes, features), the row's own minute last.
WINDOW_INPUT = "window"
#: What every family's graph says, each of shape (rows, horizons).
OUTPUTS = ("predicted_pct", "log_odds_up")
#: What a graph that serves says: percent change and calibrated probability, each of shape (rows, horizons),
#: and how unlike the training rows a row is, of shape (rows,).
SERVED_OUTPUTS = ("predicted_pct", "probability_up", "dissimilarity")
#: Fewest rows that anything is learned from.
MIN_ROWS = 50
#: Rows that are looked at at a time where each brings a window.
_PIECE = 2_000


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
    """Percent change, and log-odds of a rise (not calibrated), each of shape (rows, horizons)."""

    predicted_pct: Float32
    log_odds_up: Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Rows to learn from, in key order.

    Attributes
    ----------
    vectors
        Shape (rows, features), float32; NaN where a feature was not warm.
    target_pct
        Shape (rows, horizons): percent change over each horizon; NaN where that is not known, or must not be.
    open_time_ms
        Open time of each row's candle.
    symbol_index
        Which symbol each row is of; the numbers mean nothing but "the same" and "another".
    history
        The minutes before and between the rows, for families that look back; None where there are none.
    """

    vectors: Float32
    target_pct: Float64
    open_time_ms: Int64
    symbol_index: Int32
    history: Windows | None = None

    def __len__(self) -> int:
        return len(self.target_pct)

    @property
    def horizons(self) -> int:
        """How many targets there are."""
        return int(self.target_pct.shape[1])

    def take(self, rows: Int64) -> TrainingRows:
        """Keep the rows at these positions."""
        return TrainingRows(
            vectors=self.vectors[rows],
            target_pct=self.target_pct[rows],
            open_time_ms=self.open_time_ms[rows],
            symbol_index=self.symbol_index[rows],
            history=self.history,
        )

    def of_horizon(self, column: int) -> TrainingRows:
        """Keep the rows whose target of one horizon is known, and only that target."""
        known = np.flatnonzero(np.isfinite(self.target_pct[:, column]))
        rows = self.take(known)
        return TrainingRows(
            vectors=rows.vectors,
            target_pct=rows.target_pct[:, [column]],
            open_time_ms=rows.open_time_ms,
            symbol_index=rows.symbol_index,
            history=rows.history,
        )

    def inputs(self, window: int) -> Float32:
        """Give what a graph is fed with: the vectors, or for `window` minutes the windows that end with them.

        Windows are many times as large as the vectors: take few rows at a time.
        """
        if not window:
            return self.vectors
        if self.history is None:
            raise BadTrainingDataError("a family that looks back needs the history of its rows")
        return self.history.of(symbol_index=self.symbol_index, open_time_ms=self.open_time_ms, minutes=window)

    def pieces(self, window: int) -> Iterator[Float32]:
        """Give what a graph is fed with, in order, a few rows at a time where each of them is a window."""
        if not window:
            yield np.asarray(self.vectors, np.float32)
            return
        places = np.arange(len(self))
        for first in range(0, len(self), _PIECE):
            yield self.take(places[first : first + _PIECE]).inputs(window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model.

    Attributes
    ----------
    native
        The family's own text format.
    graph
        ONNX bytes: input `INPUT` or `WINDOW_INPUT`, outputs `OUTPUTS` of shape (rows, horizons).
    best_iteration
        The round or epoch that the model was taken from, counted from 0.
    window
        Minutes that the graph looks at; 0 for one that takes single vectors.
    metrics
        What the family measured while training.
    importance
        Share of each feature (by position) in what the model does; empty where that has no meaning.
    """

    native: bytes
    graph: bytes
    best_iteration: int
    window: int = 0
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
    #: Whether one training for all horizons is the family's usual way.
    is_joint: bool
    #: What may be tuned; empty for a family that is trained as it is.
    search_space: tuple[Range, ...]

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
        start_from: bytes | None = None,
    ) -> Fitted:
        """Learn from `train`, stop early by `validation`; one model for all their horizons.

        With `start_from`, the native file of an earlier model, that one is trained further.

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

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Predict with the native model, through the family's own library, from vectors or windows."""
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
    if np.isinf(rows.target_pct).any():
        raise BadTrainingDataError(f"{part}: {int(np.isinf(rows.target_pct).sum())} targets are infinite")
    for column in range(rows.horizons):
        _check_target(rows.target_pct[:, column], part)
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


def _check_target(target_pct: Float64, part: str) -> None:
    known = target_pct[np.isfinite(target_pct)]
    if len(known) < MIN_ROWS:
        raise BadTrainingDataError(
            f"{part}: {len(known)} rows with a known target are too few, at least {MIN_ROWS} are needed; wait"
            " for more history"
        )
    if np.ptp(known) == 0:
        raise BadTrainingDataError(
            f"{part}: the target is {known[0]:g} in all {len(known)} rows; where the price never moves,"
            " or always alike, there is nothing to learn: leave out symbols that nobody trades, or wait for"
            " more history"
        )

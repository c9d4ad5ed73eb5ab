"""Columnar frames: what stages receive and hand on, many symbols and minutes at once.

A frame is a table of equally long NumPy columns. Rows are sorted by open time, and within one minute by
the order of `symbols`. Times are candle *open* times in milliseconds UTC; what is decided from a candle
happens at its event time, `open_time_ms + MINUTE_MS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
#: Stands for NULL in a column of milliseconds.
NULL_MS = -(2**63)
#: Stands for a symbol where something is of all symbols together.
ALL_SYMBOLS = "ALL"

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


class Origin(IntEnum):
    """Where a candle comes from."""

    TRADED = 0  # closed on the live stream
    BACKFILLED = 1  # fetched from the exchange's history
    SYNTHETIC = 2  # the exchange was alive and nothing traded: flat, zero volume
    REVISED = 3  # the exchange changed its mind after the minute was processed


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleFrame:
    """Closed candles.

    Attributes
    ----------
    symbols
        The names that `symbol_index` points into.
    symbol_index, open_time_ms, origin
        One entry a row; `origin` holds `Origin` values.
    ohlcv
        Shape (rows, 5): open, high, low, close in quote currency, volume in base currency.
    """

    symbols: tuple[str, ...]
    symbol_index: Int32
    open_time_ms: Int64
    ohlcv: Float64
    origin: Int8

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def rows(self, chosen: slice | Bool | Int64) -> Self:
        """Keep the chosen rows, in their order."""
        columns: dict[str, Any] = {
            f.name: getattr(self, f.name)[chosen]
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **columns)

    @classmethod
    def concat(cls, frames: Sequence[Self]) -> Self:
        """Put frames over the same symbols behind one another; scalars are those of the last frame."""
        first, last = frames[0], frames[-1]
        if any(frame.symbols != first.symbols for frame in frames):
            raise ValueError("frames over different symbols cannot be joined")
        columns: dict[str, Any] = {
            f.name: np.concatenate([getattr(frame, f.name) for frame in frames])
            for f in fields(first)
            if isinstance(getattr(first, f.name), np.ndarray)
        }
        return replace(last, **columns)

    @classmethod
    def empty(cls, symbols: tuple[str, ...]) -> CandleFrame:
        """Make a frame without rows."""
        return CandleFrame(
            symbols=symbols,
            symbol_index=np.empty(0, np.int32),
            open_time_ms=np.empty(0, np.int64),
            ohlcv=np.empty((0, 5)),
            origin=np.empty(0, np.int8),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFrame(CandleFrame):
    """Candles with what was computed from them.

    Attributes
    ----------
    vector
        Shape (rows, features), float32; NaN where a feature is not warm.
    is_complete
        True once every indicator of the chart table is warm.
    complete_to_ms
        Every open minute up to and including this one is in, or absent for good, for every symbol of the
        partition. Rows may reach past it.
    schema_hash
        Identifies the ordered feature names; a model trained on another is refused.
    as_of_ms
        One entry a row: the exchange's clock when the row was computed; in a replay the row's event time.
        What is old by this clock is not acted on. None stands for the event time.
    """

    vector: Float32
    is_complete: Bool
    complete_to_ms: int
    schema_hash: str
    as_of_ms: Int64 | None = None

    def age_ms(self) -> Int64:
        """Tell how long after its event time each row was computed."""
        if self.as_of_ms is None:
            return np.zeros(len(self), np.int64)
        age: Int64 = np.maximum(self.as_of_ms - (self.open_time_ms + MINUTE_MS), 0)
        return age


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFrame(FeatureFrame):
    """Candles, vectors and what the serving models say; one row for every candle, model or not.

    Attributes
    ----------
    horizons
        Minutes ahead, one a column of the arrays below.
    predicted_pct
        Shape (rows, horizons): percent change of the close; 0 from the no-change baseline.
    probability_up
        Shape (rows, horizons): probability of a rise, in 0..1; NaN where no model spoke.
    model_index
        Shape (rows, horizons): position in `models`; 0 is always the baseline `last_value`.
    reason
        Shape (rows, horizons): a `Reason`.
    models
        Versions of the models that spoke in this frame; `models[0]` is `last_value`.
    widen
        Shape (rows, horizons): factor on the intervals of what is predicted; None stands for 1 everywhere.
    """

    horizons: tuple[int, ...]
    predicted_pct: Float32
    probability_up: Float32
    model_index: Int16
    reason: Int8
    models: tuple[str, ...]
    widen: Float32 | None = None

    def widened(self) -> Float32:
        """Give the factor on the intervals for every row and horizon."""
        if self.widen is None:
            return np.ones(self.predicted_pct.shape, np.float32)
        return self.widen

    @classmethod
    def concat(cls, frames: Sequence[Self]) -> Self:
        """Put frames behind one another; the model numbers are rewritten to one common list."""
        models = tuple(dict.fromkeys(model for frame in frames for model in frame.models))
        aligned = []
        for frame in frames:
            if frame.models != models:
                renumber = np.array([models.index(model) for model in frame.models], np.int16)
                frame = replace(frame, models=models, model_index=renumber[frame.model_index])
            aligned.append(replace(frame, widen=frame.widened()))
        # The short form of super() does not work in a class that slots=True makes anew.
        return super(PredictionFrame, cls).concat(aligned)


class Reason(IntEnum):
    """Why a prediction may not be acted on."""

    NONE = 0
    NO_MODEL = 1
    WARMING = 2  # the vector is not complete
    TOO_OLD = 3  # made later than the maximum prediction age
    BELOW_THRESHOLD = 4  # decided where the signal is made
    UNLIKE = 5  # the vector is unlike nearly all that the model was trained on
    DRIFT = 6  # the model has been worse than no change for too long


REASON_TEXT: dict[Reason, str | None] = {
    Reason.NONE: None,
    Reason.NO_MODEL: "no model",
    Reason.WARMING: "warming",
    Reason.TOO_OLD: "too old",
    Reason.BELOW_THRESHOLD: "below threshold",
    Reason.UNLIKE: "unlike the training rows",
    Reason.DRIFT: "drifted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedBatch:
    """What the feed hands to the feature stage.

    Attributes
    ----------
    candles
        Closed minutes never handed out before, in order per symbol.
    known_to_ms
        One entry a symbol of `candles.symbols`: every open minute up to this one was handed out, in this
        batch or before, or does not exist (a halt). `NULL_MS` before the first.
    revisions
        Minutes handed out before, whose values the exchange has changed since.
    as_of_ms
        The exchange's clock when the batch was handed out; None in a replay, where event time is the clock.
    """

    candles: CandleFrame
    known_to_ms: Int64
    revisions: CandleFrame
    as_of_ms: int | None = None

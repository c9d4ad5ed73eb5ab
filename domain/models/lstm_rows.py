"""What the LSTM is shown: windows gathered a batch at a time, and targets in units that its heads can say."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from domain.models.lstm_model import Scaling, Shape
from domain.models.lstm_network import standardise
from domain.models.model import BadTrainingDataError, TrainingRows
from domain.models.windows import Windows
from schemas.frames import Float32, Float64, Int64

#: Distance between the quartiles of a normal distribution, in standard deviations.
_QUARTILES = 1.349
#: Spreads that are too small to be divided by in float32, and too small beside what they spread around.
_TINY, _ROUNDING = 1e-30, 1e-6
#: 1.4826 times the median absolute value is the standard deviation of a normal distribution around 0.
_MEDIAN = 1.4826


def fit_scaling(rows: TrainingRows) -> Scaling:
    """Learn the scaling of features and targets from the rows to learn from.

    A feature that is always missing, or always the same, is hidden: nothing was learned about other values.
    """
    features = rows.vectors.shape[1]
    centre, scale = np.zeros(features, np.float32), np.zeros(features, np.float32)
    for column in range(features):
        values = np.asarray(rows.vectors[:, column], np.float64)
        values = values[np.isfinite(values)]
        if not len(values) or np.ptp(values) == 0:
            continue
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        # what rests on one value for more than half of the time still varies
        spread = max((high - low) / _QUARTILES, 0.1 * float(np.std(values)))
        # what only varies by rounding is as good as constant
        if spread > max(_TINY, _ROUNDING * abs(middle)):
            centre[column], scale[column] = middle, 1.0 / spread
    return Scaling(centre=centre, scale=scale, deviation=deviations(rows.target_pct))


def deviations(target_pct: Float64) -> Float32:
    """Measure how far each horizon's target usually is from 0."""
    found = []
    for column in range(target_pct.shape[1]):
        known = target_pct[np.isfinite(target_pct[:, column]), column]
        robust = _MEDIAN * float(np.median(np.abs(known)))
        found.append(robust if robust > 0 else float(np.std(known)))
    return np.array(found, np.float32)


class Part:
    """The rows of one part of a training.

    Attributes
    ----------
    target
        Shape (rows, horizons): change in deviations, pulled in; 0 where it is not known.
    known, rose, moved
        Of the same shape: whether it is known, went up, and is known to have gone anywhere.
    """

    def __init__(
        self, rows: TrainingRows, *, shape: Shape, scaling: Scaling, clip_deviations: float, table: Table
    ) -> None:
        self.rows = rows
        self._shape = shape
        self._table = table
        known = np.isfinite(rows.target_pct)
        target = np.where(known, rows.target_pct, 0.0) / scaling.deviation
        self.target = np.clip(target, -clip_deviations, clip_deviations).astype(np.float32)
        self.known = known
        self.rose = target > 0
        self.moved = known & (target != 0)

    def __len__(self) -> int:
        return len(self.rows)

    def windows(self, chosen: Int64) -> Any:
        """Gather the standardised windows of some rows, of shape (window, rows, inputs)."""
        return self._table.windows(
            self.rows.symbol_index[chosen], self.rows.open_time_ms[chosen], self._shape.window
        )

    def outcomes(self, chosen: Int64) -> tuple[Any, Any, Any, Any]:
        """Give target, known, rose and moved of some rows as tensors of numbers."""
        device = self._table.device
        return tuple(
            torch.from_numpy(values[chosen].astype(np.float32)).to(device)
            for values in (self.target, self.known, self.rose, self.moved)
        )


class Table:
    """Every minute of a history, standardised once; windows are cut from it batch by batch.

    Parameters
    ----------
    device
        Where it is kept.
    """

    def __init__(self, history: Windows, *, shape: Shape, scaling: Scaling, device: str) -> None:
        self.device = device
        self._history = history
        vectors = np.full((len(history) + 1, shape.features), np.nan, np.float32)
        vectors[:-1] = history.at(np.arange(len(history)))
        # the last one is what an absent minute looks like: its place is -1
        self._minutes = standardise(
            torch.from_numpy(vectors).to(device), scaling, missing_share=shape.missing_share
        )

    def windows(self, symbol_index: Any, open_time_ms: Int64, minutes: int) -> Any:
        """Cut the windows that end with these minutes, of shape (minutes, rows, inputs)."""
        places = self._history.places(symbol_index=symbol_index, open_time_ms=open_time_ms, minutes=minutes)
        return self._minutes[torch.from_numpy(np.ascontiguousarray(places.T)).to(self.device)]


def history_of(rows: TrainingRows) -> Windows:
    """Give the history of rows, which a family that looks back cannot do without."""
    if rows.history is None:
        raise BadTrainingDataError("lstm looks back: it needs the history of its rows")
    return rows.history

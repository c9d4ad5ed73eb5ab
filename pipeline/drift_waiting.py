"""What models have said and is not due yet, and the losses of what has fallen due, as `DriftStage` sums them.

Losses are whole numbers: their sums are the same in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from domain.drift.watch import block_minutes
from schemas.frames import Float32, Float64, Int64

#: Losses count units of 2**-30 of a squared percent.
UNIT = 2.0**30
#: No change counts with more percent.
_MOST_PCT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Minutes whose forecasts are not due yet.

    Attributes
    ----------
    position
        Shape (minutes,): of the symbol among those of the stage.
    minute, close
        Of the same shape: when it was said, and at which price.
    predicted, up, model
        Shape (minutes, horizons): percent change, probability of a rise, and the place of the version in the
        stage's list; -1 where none is to be scored.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("position", "minute", "close", "predicted", "up", "model")

    position: Int64
    minute: Int64
    close: Float64
    predicted: Float32
    up: Float32
    model: Int64

    @classmethod
    def none(cls, horizons: int) -> Waiting:
        """Begin."""
        return cls(
            position=np.empty(0, np.int64),
            minute=np.empty(0, np.int64),
            close=np.empty(0),
            predicted=np.empty((0, horizons), np.float32),
            up=np.empty((0, horizons), np.float32),
            model=np.empty((0, horizons), np.int64),
        )

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """Give all columns by name."""
        return {name: getattr(self, name) for name in self.NAMES}

    def kept(self, chosen: np.ndarray[Any, Any]) -> Waiting:
        """Take some minutes."""
        return Waiting(**{name: column[chosen] for name, column in self.columns().items()})

    def joined(self, other: Waiting) -> Waiting:
        """Put other minutes behind these."""
        more = other.columns()
        return Waiting(
            **{name: np.concatenate([column, more[name]]) for name, column in self.columns().items()}
        )

    def losses(self, column: int, horizon: int, actual_pct: Float64) -> Iterator[tuple[int, int, list[int]]]:
        """Sum up, by version and block, what forecasts of one horizon lost, now that outcomes are known.

        Parameters
        ----------
        column, horizon
            Which horizon, and its minutes.
        actual_pct
            Shape (minutes,).

        Returns
        -------
        The place of the version and the number of the block, with outcomes, those with a direction, and the
        sums of model error, no-change error and Brier loss above 1/4, in units of `UNIT`.
        """
        actual = np.clip(actual_pct, -_MOST_PCT, _MOST_PCT)
        said = np.clip(self.predicted[:, column].astype(np.float64), -_MOST_PCT, _MOST_PCT)
        moved = actual != 0.0
        brier = np.where(moved, (self.up[:, column].astype(np.float64) - (actual > 0.0)) ** 2 - 0.25, 0.0)
        parts = np.stack([(said - actual) ** 2, actual**2, brier], axis=1)
        units = np.rint(parts * UNIT).astype(np.int64)
        block = (self.minute + horizon) // block_minutes(horizon)
        keys, inverse = np.unique(np.stack([self.model[:, column], block]), axis=1, return_inverse=True)
        sums = np.zeros((keys.shape[1], 5), np.int64)
        np.add.at(sums, inverse.ravel(), np.column_stack([np.ones(len(moved), np.int64), moved, units]))
        for (model, number), added in zip(keys.T.tolist(), sums.tolist(), strict=True):
            yield model, number, added

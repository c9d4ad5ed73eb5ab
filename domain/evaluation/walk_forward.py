"""The one splitter: chronological, purged, with an embargo.

Rows are split by time, never by position, because many symbols share a minute. A row may be learned from
only if its label was known, and the embargo had passed, when the first candle of the validation part opened.
So no label interval of a training row touches that of a validation row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.features.labels import known_at_ms
from schemas.frames import MINUTE_MS, Int64

#: Minutes between the last known label and the first validation candle, unless asked otherwise.
DEFAULT_EMBARGO_MINUTES = 5


class TooFewRowsError(ValueError):
    """The history is too short for this split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForward:
    """Split rows into a past to learn from and the part of time that follows it, once or several times.

    It has the interface of scikit-learn's splitters, with the open times given as `groups`.

    Attributes
    ----------
    horizon_minutes
        Minutes ahead that the labels look; also what is purged.
    embargo_minutes
        Minutes left out in addition.
    validation_fraction
        Share of the covered time in each validation part.
    n_splits
        Validation parts, one behind the other, the last one ending with the data.
    cut_ms
        Event time of the training: rows whose label was not known then are in no part. None: all were known.
    """

    horizon_minutes: int
    embargo_minutes: int = DEFAULT_EMBARGO_MINUTES
    validation_fraction: float = 0.2
    n_splits: int = 1
    cut_ms: int | None = None

    def __post_init__(self) -> None:
        if self.horizon_minutes < 1:
            raise ValueError(f"horizon_minutes must be at least 1, not {self.horizon_minutes}")
        if self.embargo_minutes < 0:
            raise ValueError(f"embargo_minutes must not be negative, is {self.embargo_minutes}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be inside 0..1, not {self.validation_fraction}")
        if self.n_splits < 1 or self.n_splits * self.validation_fraction >= 1:
            raise ValueError(
                f"{self.n_splits} validation parts of {self.validation_fraction:g} leave nothing to learn"
                " from"
            )

    def split(self, X: Any, y: Any = None, groups: Int64 | None = None) -> Iterator[tuple[Int64, Int64]]:  # noqa: N803 - scikit-learn's names
        """Yield (training rows, validation rows) as positions, earliest validation part first.

        Parameters
        ----------
        X, y
            Only their length is looked at.
        groups
            Open time of each row, milliseconds UTC, in any order.

        Raises
        ------
        TooFewRowsError
            If a part would be empty.
        """
        if groups is None:
            raise ValueError("give the open time of every row, in milliseconds, as `groups`")
        open_time_ms = np.asarray(groups, np.int64)
        if X is not None and len(X) != len(open_time_ms):
            raise ValueError(f"{len(X)} rows but {len(open_time_ms)} open times")
        known = known_at_ms(open_time_ms=open_time_ms, horizon_minutes=self.horizon_minutes)
        usable = np.ones(len(known), np.bool_) if self.cut_ms is None else known <= self.cut_ms
        if not usable.any():
            raise TooFewRowsError(
                f"no label of {self.horizon_minutes} minutes is known yet: the history is shorter than the"
                " horizon"
            )
        for begin_ms, end_ms in self._validation_parts(open_time_ms[usable]):
            train = usable & (known + self.embargo_minutes * MINUTE_MS <= begin_ms)
            validation = usable & (open_time_ms >= begin_ms) & (open_time_ms < end_ms)
            if not train.any() or not validation.any():
                raise TooFewRowsError(
                    f"{int(usable.sum())} rows are too few: after purging {self.horizon_minutes} minutes and"
                    f" an embargo of {self.embargo_minutes}, {int(train.sum())} are left to learn from and"
                    f" {int(validation.sum())} to validate on; wait for more history or take a shorter"
                    " horizon"
                )
            yield np.flatnonzero(train), np.flatnonzero(validation)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803
        """Tell how many pairs `split` yields."""
        return self.n_splits

    def _validation_parts(self, open_time_ms: Int64) -> Iterator[tuple[int, int]]:
        first, last = int(open_time_ms.min()), int(open_time_ms.max())
        minutes = (last - first) // MINUTE_MS + 1
        length = max(1, round(minutes * self.validation_fraction))
        end = last + MINUTE_MS
        for part in range(self.n_splits, 0, -1):
            begin = end - part * length * MINUTE_MS
            yield begin, begin + length * MINUTE_MS

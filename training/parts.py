"""The rows of a training: read, labelled, and split into parts that do not know of each other.

Purged of each other and in the order of time: rows to learn from, to stop early by, to calibrate by, and to
validate on. While the history is too short for four parts, the early-stopping part calibrates too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domain.evaluation.walk_forward import TooFewRowsError, WalkForward
from domain.features.labels import percent_change_by_symbol
from domain.models.model import MIN_ROWS, BadTrainingDataError, TrainingRows, check_rows
from domain.models.windows import Windows
from schemas.frames import MINUTE_MS, Int64

if TYPE_CHECKING:
    from training.fitting import FitRequest

#: Minutes of calibration, in longest horizons, below which no rows are kept for it alone.
CALIBRATION_HORIZONS = 100
#: An absence longer than this starts the indicators' warm-up again.
_LONG_GAP_MINUTES = 5
#: Custom indicator lengths and short gaps may stretch a feature's stated warm-up by this much.
_WARM_UP_SLACK = 2
#: Beginnings of calendar features' names, and the minutes after which their cycle has been seen often enough.
_CYCLE_MINUTES = {"day_": 7 * 1440, "week_": 28 * 1440}


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


def are_enough(
    minutes: int, *, horizons: Sequence[int], validation_fraction: float, embargo_minutes: int
) -> bool:
    """Tell whether so many minutes of one symbol, without gaps, make parts that can be learned from."""
    splitter = WalkForward(
        horizon_minutes=max(horizons),
        embargo_minutes=embargo_minutes,
        validation_fraction=validation_fraction,
        cut_ms=minutes * MINUTE_MS,
    )
    # the last minutes have no label yet
    times = np.arange(max(0, minutes - min(horizons))) * MINUTE_MS
    try:
        before, validation = next(splitter.split(None, groups=times))
        learn, stop = next(splitter.split(None, groups=times[before]))
    except TooFewRowsError:
        return False
    return min(len(validation), len(learn), len(stop)) >= MIN_ROWS


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

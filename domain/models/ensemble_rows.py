"""Which rows the members of an ensemble learn from, and which ones weigh them.

How far labels reach is not told to a family, but to be seen: between the training and the validation rows
the splitter has left out as many minutes. The same distance is purged wherever rows are split here.
"""

from __future__ import annotations

from domain.evaluation.walk_forward import TooFewRowsError, WalkForward
from domain.models.ensemble_weights import overlap
from domain.models.model import MIN_ROWS, TrainingRows
from schemas.frames import MINUTE_MS, Int64

#: Longest horizons that must fit into each half of the validation rows, for them to be halved.
_HALF_HORIZONS = 20
#: Share of the training rows that is foretold by models of earlier ones, and share of those that stops them.
_FORETOLD, _STOPPED_BY = 0.6, 0.2
#: No label reaches further.
_LONGEST_MINUTES = 10_080


def reach(train: TrainingRows, validation: TrainingRows) -> tuple[int, tuple[int, ...]]:
    """Tell how many minutes must be purged, and how many rows' labels of each horizon overlap.

    Rows to validate on that do not follow the training rows say nothing about the minutes; then as many as
    the overlap that is measured are purged.
    """
    left_out = (int(validation.open_time_ms.min()) - int(train.open_time_ms.max())) // MINUTE_MS
    measured = overlap(train, longest_minutes=left_out if left_out > 0 else _LONGEST_MINUTES)
    return left_out if left_out > 0 else max(measured), measured


def halves(open_time_ms: Int64, *, purge_minutes: int) -> tuple[Int64, Int64] | None:
    """Split validation rows into those that stop the members and those that weigh them; None if too short."""
    minutes = (int(open_time_ms.max()) - int(open_time_ms.min())) // MINUTE_MS + 1
    if minutes < (2 * _HALF_HORIZONS + 1) * purge_minutes:
        return None
    try:
        stop, judge = next(_splitter(purge_minutes, 0.5, 1).split(None, groups=open_time_ms))
    except TooFewRowsError:
        return None
    return (stop, judge) if min(len(stop), len(judge)) >= 2 * MIN_ROWS else None


def folds(open_time_ms: Int64, *, purge_minutes: int, count: int) -> list[tuple[Int64, Int64, Int64]]:
    """Split training rows several times: to learn from, to stop by, and to foretell; none if too short."""
    outer = _splitter(purge_minutes, _FORETOLD / count, count)
    inner = _splitter(purge_minutes, _STOPPED_BY, 1)
    found = []
    try:
        for past, ahead in outer.split(None, groups=open_time_ms):
            learn, stop = next(inner.split(None, groups=open_time_ms[past]))
            found.append((past[learn], past[stop], ahead))
    except TooFewRowsError:
        return []
    return found if min(len(part) for fold in found for part in fold) >= MIN_ROWS else []


def _splitter(purge_minutes: int, fraction: float, count: int) -> WalkForward:
    return WalkForward(
        horizon_minutes=purge_minutes, embargo_minutes=0, validation_fraction=fraction, n_splits=count
    )

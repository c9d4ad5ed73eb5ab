"""What drift detectors found, as rows of `"driftChecks"` and as lines for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.stage import LogEntry, Rows
from schemas.frames import MINUTE_MS, NULL_MS

TABLE = "driftChecks"
CATEGORY = "drift"
#: Stands for all features in the column `subject`.
ALL_FEATURES = "features"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCheck:
    """One look of a detector; the fields are the columns of the table.

    Attributes
    ----------
    at_ms
        Event time up to which the detector has seen.
    train_at_ms
        Event time of the training that is asked for, or `NULL_MS`.
    """

    at_ms: int
    symbol: str
    kind: str
    subject: str
    horizon_minutes: int
    statistic: str
    value: float
    threshold: float
    drifted: bool
    reaction: str | None = None
    train_at_ms: int = NULL_MS


def rows_of(checks: Sequence[DriftCheck]) -> list[Rows]:
    """Make rows; no rows of no checks."""
    if not checks:
        return []
    columns = {
        "at": np.array([check.at_ms for check in checks], np.int64),
        "symbol": [check.symbol for check in checks],
        "kind": [check.kind for check in checks],
        "subject": [check.subject for check in checks],
        "forecast_horizon": np.array([check.horizon_minutes for check in checks], np.int64),
        "statistic": [check.statistic for check in checks],
        "value": np.array([check.value for check in checks]),
        "threshold": np.array([check.threshold for check in checks]),
        "drifted": np.array([check.drifted for check in checks], np.bool_),
        "reaction": [check.reaction for check in checks],
        "train_at": np.array([check.train_at_ms for check in checks], np.int64),
    }
    return [Rows(table=TABLE, op="insert", columns=columns)]


def warning_of(check: DriftCheck, message: str) -> LogEntry:
    """Make the line that tells of a drift."""
    return LogEntry(
        level="warning",
        category=CATEGORY,
        subcategory=check.kind,
        message=message,
        context={
            "at_ms": check.at_ms,
            "subject": check.subject,
            "horizon_minutes": check.horizon_minutes,
            "statistic": check.statistic,
            "value": round(check.value, 4),
            "threshold": round(check.threshold, 4),
            "reaction": check.reaction,
        },
        symbol=check.symbol,
    )


def next_checkpoint_ms(after_ms: int, every_minutes: int) -> int:
    """Give the first point of event time behind `after_ms` at which drift may ask for a training."""
    every_ms = every_minutes * MINUTE_MS
    return (after_ms // every_ms + 1) * every_ms

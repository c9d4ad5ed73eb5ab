"""What a stage is: a pure step from a batch of events to rows, events and its own state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from schemas.frames import FeatureFrame

InT = TypeVar("InT", contravariant=True)
Op = Literal["insert", "upsert", "update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows for one table, by column.

    Attributes
    ----------
    table
        Name as in `db.tables.TABLES`.
    op
        `insert`: new keys only. `upsert`: replace the row of that key. `update`: the key columns and some
        others; rows whose key is not there are left out.
    columns
        Equally long NumPy arrays or lists. Milliseconds for time columns (`NULL_MS` is NULL), floats for
        numeric columns (NaN is NULL), str or None for text, dict for JSON, 2-D arrays for real[].
    """

    table: str
    op: Op
    columns: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A line for `"systemLogs"` that a pure stage asks the runner to write."""

    level: Literal["debug", "info", "warning", "error"]
    category: str
    subcategory: str
    message: str
    context: Mapping[str, Any] = field(default_factory=dict)
    symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step decided.

    Attributes
    ----------
    rows
        To be written in this order, in the transaction of the checkpoint.
    out
        The frame for the next stage, or None where nothing follows.
    event_time_ms
        How far the stage has come: the open minute up to which all its input is processed.
    logs
        Not part of any fingerprint.
    """

    rows: Sequence[Rows] = ()
    out: FeatureFrame | None = None
    event_time_ms: int
    logs: Sequence[LogEntry] = ()


class StateVersionError(ValueError):
    """A snapshot was written by another version of the stage, or for other settings: replay instead."""


class Stage(Protocol, Generic[InT]):
    """A pure stage.

    `step(a + b)` leaves the same state and the same rows as `step(a)` followed by `step(b)`. `step` must not
    change its state when it raises.
    """

    name: str
    version: int

    def step(self, batch: InT) -> StepResult:
        """Process a batch of events."""
        ...

    def snapshot(self) -> bytes:
        """Write the whole state; `restore` of these bytes gives a stage that goes on identically."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over a snapshot.

        Raises
        ------
        StateVersionError
            If the snapshot is of another version or other settings.
        """
        ...

    def summary(self) -> dict[str, Any]:
        """Describe the state in a few JSON values for `"recoveryState".state_data`."""
        ...

"""What a runner tells goes to the log, the metrics and the health page."""

from __future__ import annotations

import time
from typing import Any, Protocol

from pipeline.stage import LogEntry
from runtime.health import Health
from runtime.metrics import Metrics


class Observer(Protocol):
    """Is told what a runner does: logs and metrics."""

    def log(self, entry: LogEntry, stack_trace: str | None = None) -> None:
        """Take a log line."""
        ...

    def batch(
        self, service: str, rows: int, event_time_ms: int, step_s: float, commit_s: float, age_s: float | None
    ) -> None:
        """Count a committed batch; `age_s` is how old its newest candle was by the exchange's clock."""
        ...

    def rows(self, table: str, count: int) -> None:
        """Count committed rows."""
        ...

    def latency(self, seconds: float) -> None:
        """Take the time from a candle's arrival to its committed rows."""
        ...

    def status(self, service: str, status: str, waiting_for: str | None = None) -> None:
        """Take the state of the service: starting, running, waiting, stopping."""
        ...

    def recovered(self, service: str, seconds: float, relived_rows: int) -> None:
        """Take how long recovery took."""
        ...


class WorkerObserver:
    """Passes on what runners tell.

    Parameters
    ----------
    log
        A structlog logger.
    metrics, health
        Of the process.
    """

    def __init__(self, *, log: Any, metrics: Metrics, health: Health) -> None:
        self._log = log
        self._metrics = metrics
        self._health = health
        self._born = time.monotonic()

    def log(self, entry: LogEntry, stack_trace: str | None = None) -> None:
        """Write a log line; errors are counted."""
        if entry.level == "error":
            self._metrics.error(entry.subcategory)
        values: dict[str, Any] = {
            "category": entry.category,
            "subcategory": entry.subcategory,
            "action": entry.subcategory,
            **entry.context,
        }
        if entry.symbol is not None:
            values["symbol"] = entry.symbol
        if stack_trace is not None:
            values["exception"] = stack_trace
        getattr(self._log, entry.level)(entry.message, **values)

    def batch(
        self, service: str, rows: int, event_time_ms: int, step_s: float, commit_s: float, age_s: float | None
    ) -> None:
        """Count a committed batch; `age_s` is how old its newest candle was by the exchange's clock."""
        if age_s is not None:
            self._health.details["input_age_s"] = round(age_s, 3)
        self._metrics.events(rows)
        self._metrics.step(step_s + commit_s)
        self._metrics.event_time(event_time_ms)
        self._health.last_event_time_ms = event_time_ms

    def rows(self, table: str, count: int) -> None:
        """Count committed rows."""
        self._metrics.rows(table, count)

    def latency(self, seconds: float) -> None:
        """Take the time from a candle's arrival to its committed rows."""
        self._metrics.candle_to_row(seconds)

    def status(self, service: str, status: str, waiting_for: str | None = None) -> None:
        """Take the state of a runner."""
        if status in ("starting", "running", "stopping"):
            self._health.status = status  # type: ignore[assignment]
        self._health.wait("stage", waiting_for)
        if status == "waiting" and waiting_for is not None:
            self._health.trouble.started_over(time.monotonic(), waiting_for)

    def recovered(self, service: str, seconds: float, relived_rows: int) -> None:
        """Take how long it took to be working again."""
        self._metrics.recovered(seconds)
        self._health.details["recovery_s"] = round(seconds, 3)
        self._health.details["relived_messages"] = relived_rows

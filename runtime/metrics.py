"""What a worker counts and measures, for Prometheus. Importing or using it starts no server."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
_TRAINING_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """The numbers of one worker, in a registry of its own.

    Parameters
    ----------
    worker
        Label of every number.
    """

    def __init__(self, worker: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._worker = worker
        self._candle_to_row = self._histogram(
            "candle_to_row_seconds", "From the arrival of a candle to its rows being committed", _LATENCY_S
        )
        self._step = self._histogram("step_seconds", "One batch: computing and committing", _LATENCY_S)
        self._events = self._counter("events", "Events processed", "stream")
        self._rows = self._counter("rows", "Rows committed", "table")
        self._errors = self._counter("errors", "Errors, by what went wrong", "kind")
        self._dead_letters = self._counter("dead_letters", "Inputs put aside as unusable", "kind")
        self._logs_dropped = self._counter("log_records_dropped", "Log records that the database never got")
        self._lag_s = self._gauge("lag_seconds", "Event time between the newest input and what is processed")
        self._lag_rows = self._gauge("lag_rows", "Input rows waiting")
        self._event_time = self._gauge(
            "event_time_seconds", "Open time of the last processed minute, since 1970"
        )
        self._recovery = self._gauge(
            "recovery_seconds", "From the start of the process to its first new commit"
        )
        self._completeness = self._gauge("completeness_ratio", "Complete rows out of those expected, 0 to 1")
        self._open_trades = self._gauge("open_trades", "Simulated trades that are open")
        self._training = self._histogram("training_seconds", "One training", _TRAINING_S, "model_type")

    def candle_to_row(self, seconds: float) -> None:
        """Record how long a candle took from its arrival to its committed rows."""
        self._candle_to_row.labels(self._worker).observe(seconds)

    def step(self, seconds: float) -> None:
        """Record how long one batch took."""
        self._step.labels(self._worker).observe(seconds)

    def events(self, count: int, stream: str = "input") -> None:
        """Count processed events."""
        self._events.labels(self._worker, stream).inc(count)

    def rows(self, table: str, count: int) -> None:
        """Count committed rows."""
        self._rows.labels(self._worker, table).inc(count)

    def error(self, kind: str) -> None:
        """Count an error; `kind` is one of few words, never a message."""
        self._errors.labels(self._worker, kind).inc()

    def dead_letter(self, kind: str, count: int = 1) -> None:
        """Count inputs put aside."""
        self._dead_letters.labels(self._worker, kind).inc(count)

    def logs_dropped(self, count: int) -> None:
        """Count log records that were lost since the last call."""
        self._logs_dropped.labels(self._worker).inc(count)

    def lag(self, seconds: float, rows: int) -> None:
        """Say how far behind its input the worker is."""
        self._lag_s.labels(self._worker).set(seconds)
        self._lag_rows.labels(self._worker).set(rows)

    def event_time(self, open_time_ms: int) -> None:
        """Say which minute was processed last."""
        self._event_time.labels(self._worker).set(open_time_ms / 1000)

    def recovered(self, seconds: float) -> None:
        """Record how long it took to be working again."""
        self._recovery.labels(self._worker).set(seconds)

    def completeness(self, fraction: float) -> None:
        """Say which share of the expected rows is complete."""
        self._completeness.labels(self._worker).set(fraction)

    def open_trades(self, count: int) -> None:
        """Say how many simulated trades are open."""
        self._open_trades.labels(self._worker).set(count)

    def training(self, seconds: float, model_type: str) -> None:
        """Record a training."""
        self._training.labels(self._worker, model_type).observe(seconds)

    def values(self) -> dict[str, float]:
        """Read all numbers, by name and, in braces, labels other than the worker."""
        found: dict[str, float] = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                labels = {name: text for name, text in sample.labels.items() if name != "worker"}
                inside = ",".join(f"{name}={text}" for name, text in sorted(labels.items()))
                found[f"{sample.name}{{{inside}}}" if inside else sample.name] = sample.value
        return found

    def page(self) -> bytes:
        """Write all numbers in Prometheus' text format."""
        return generate_latest(self.registry)

    def _options(self, name: str, labels: tuple[str, ...]) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": "tidecast",
            "labelnames": ("worker", *labels),
            "registry": self.registry,
        }

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(documentation=says, **self._options(name, labels))

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(documentation=says, **self._options(name, labels))

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(documentation=says, buckets=buckets, **self._options(name, labels))

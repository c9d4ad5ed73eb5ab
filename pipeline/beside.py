"""Two stages on the same input, in the same step and transaction."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.stage import LogEntry, Stage, StateVersionError, StepResult


class Beside:
    """Runs a second stage on the input of a first; what the first hands on goes out.

    Parameters
    ----------
    first, second
        Stages; the rows of both are written together. The second must not refuse what the first takes.
    """

    def __init__(self, first: Stage[Any], second: Stage[Any]) -> None:
        self.name = f"{first.name}|{second.name}"
        self.version = first.version * 1000 + second.version
        self._first = first
        self._second = second

    def step(self, batch: Any) -> StepResult:
        """Step both stages."""
        one, other = self._first.step(batch), self._second.step(batch)
        return StepResult(
            rows=[*one.rows, *other.rows],
            out=one.out,
            event_time_ms=one.event_time_ms,
            logs=[*one.logs, *other.logs],
        )

    def tick(self, now_ms: int) -> list[LogEntry]:
        """Let the first stage look at the clock."""
        tick = getattr(self._first, "tick", None)
        entries: list[LogEntry] = [] if tick is None else tick(now_ms)
        return entries

    def snapshot(self) -> bytes:
        """Write both states."""
        return msgspec.msgpack.encode([self._first.snapshot(), self._second.snapshot()])

    def restore(self, state: bytes) -> None:
        """Take over both states.

        Raises
        ------
        StateVersionError
            If either is damaged, or of another version or other settings.
        """
        try:
            first, second = msgspec.msgpack.decode(state, type=tuple[bytes, bytes])
        except msgspec.MsgspecError as error:
            raise StateVersionError(f"the snapshot is not of two stages: {error}") from error
        self._first.restore(first)
        self._second.restore(second)

    def summary(self) -> dict[str, Any]:
        """Describe both states."""
        return {**self._first.summary(), self._second.name: self._second.summary()}

"""Two stages as one: what the first hands on is the second's input, in the same step and transaction."""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.stage import Stage, StateVersionError, StepResult


class Chain:
    """Runs a second stage on the output of a first; what the last of them hands on goes out.

    Parameters
    ----------
    first, second
        Stages; the rows of both are written together.
    """

    def __init__(self, first: Stage[Any], second: Stage[Any]) -> None:
        self.name = f"{first.name}+{second.name}"
        self.version = first.version * 1000 + second.version
        self._first = first
        self._second = second

    def step(self, batch: Any) -> StepResult:
        """Step both stages."""
        handed_on = self._first.step(batch)
        if handed_on.out is None:
            return handed_on
        decided = self._second.step(handed_on.out)
        return StepResult(
            rows=[*handed_on.rows, *decided.rows],
            out=handed_on.out if decided.out is None else decided.out,
            event_time_ms=handed_on.event_time_ms,
            logs=[*handed_on.logs, *decided.logs],
        )

    def snapshot(self) -> bytes:
        """Write both states."""
        return msgspec.msgpack.encode([self._first.snapshot(), self._second.snapshot()])

    def restore(self, state: bytes) -> None:
        """Take over both states.

        Raises
        ------
        StateVersionError
            If either is of another version or other settings.
        """
        parts = msgspec.msgpack.decode(state)
        if len(parts) != 2:
            raise StateVersionError("the snapshot is not of two stages")
        self._first.restore(parts[0])
        self._second.restore(parts[1])

    def summary(self) -> dict[str, Any]:
        """Describe both states."""
        return {**self._first.summary(), self._second.name: self._second.summary()}

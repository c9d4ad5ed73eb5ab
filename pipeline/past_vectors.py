"""The vectors of the last minutes of every symbol, for models that look back."""

from __future__ import annotations

import numpy as np

from domain.models.windows import Windows
from schemas.frames import MINUTE_MS, Bool, FeatureFrame, Float32, Int32, Int64


class PastVectors:
    """Keeps the last minutes before the batch that is being looked at.

    Parameters
    ----------
    minutes
        How far models look back, their own minute included.
    """

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self._names: list[str] = []
        self._symbol = np.empty(0, np.int32)
        self._open_time_ms = np.empty(0, np.int64)
        self._vector = np.empty((0, 0), np.float32)

    def join(self, batch: FeatureFrame) -> tuple[Windows, Int32]:
        """Put a batch behind what is kept; gives where windows are cut from, and each row's symbol there."""
        symbol = self._positions(batch)
        if not len(self._symbol):
            self._vector = np.empty((0, batch.vector.shape[1]), np.float32)
        joined = (
            np.concatenate([self._symbol, symbol]),
            np.concatenate([self._open_time_ms, batch.open_time_ms]),
            np.concatenate([self._vector, batch.vector]),
        )
        recent = self._is_recent(*joined[:2])
        self._symbol, self._open_time_ms, self._vector = (column[recent] for column in joined)
        windows = Windows(symbol_index=joined[0], open_time_ms=joined[1], vectors=joined[2])
        return windows, symbol

    def _positions(self, batch: FeatureFrame) -> Int32:
        for name in batch.symbols:
            if name not in self._names:
                self._names.append(name)
        places = np.array([self._names.index(name) for name in batch.symbols], np.int32)
        positions: Int32 = places[batch.symbol_index]
        return positions

    def _is_recent(self, symbol: Int32, open_time_ms: Int64) -> Bool:
        newest = np.full(len(self._names), np.iinfo(np.int64).min)
        np.maximum.at(newest, symbol, open_time_ms)
        recent: Bool = open_time_ms > newest[symbol] - (self.minutes - 1) * MINUTE_MS
        return recent

    def state(self) -> dict[str, object]:
        """Write what is kept."""
        return {
            "names": list(self._names),
            "symbol": self._symbol.tobytes(),
            "open_time_ms": self._open_time_ms.tobytes(),
            "vector": self._vector.tobytes(),
            "features": self._vector.shape[1],
        }

    def take(self, state: dict[str, object]) -> None:
        """Go on from what `state` wrote."""
        self._names = [str(name) for name in _list(state["names"])]
        self._symbol = np.frombuffer(_bytes(state["symbol"]), np.int32)
        self._open_time_ms = np.frombuffer(_bytes(state["open_time_ms"]), np.int64)
        vector: Float32 = np.frombuffer(_bytes(state["vector"]), np.float32)
        self._vector = vector.reshape(len(self._symbol), int(str(state["features"])))


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value

"""Windows of minutes: the vectors of the last minutes before, and of, a row.

A window is made of minutes, not of rows: a minute that is absent is a slot of NaN. So it looks the same in
training, in a replay and live, however the rows came.
"""

from __future__ import annotations

from copy import copy

import numpy as np

from schemas.frames import MINUTE_MS, Float32, Int32, Int64

#: Larger than any number of minutes since the epoch.
_SYMBOL_STEP = 1 << 40


class Windows:
    """Vectors by symbol and minute, from which windows are cut.

    Parameters
    ----------
    vectors
        Shape (rows, features).
    symbol_index, open_time_ms
        Of each row, in any order, none twice.
    """

    def __init__(self, *, vectors: Float32, symbol_index: Int32, open_time_ms: Int64) -> None:
        keys = _keys(symbol_index, open_time_ms)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._order = order
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def features(self) -> int:
        """How many features a vector has."""
        return int(self._vectors.shape[1])

    def without(self, columns: list[int]) -> Windows:
        """Give the same minutes with these columns of the vectors hidden."""
        vectors = np.array(self._vectors, np.float32)
        vectors[:, columns] = np.nan
        hidden = copy(self)
        hidden._vectors = vectors
        return hidden

    def places(self, *, symbol_index: Int32, open_time_ms: Int64, minutes: int) -> Int64:
        """Find the rows of windows that end with these minutes.

        Returns
        -------
        Shape (rows, minutes), the oldest minute first; -1 where a minute is absent.
        """
        wanted = _keys(symbol_index, open_time_ms)[:, None] - np.arange(minutes - 1, -1, -1)
        found = np.searchsorted(self._keys, wanted)
        found[found == len(self._keys)] = 0
        there = self._keys[found] == wanted if len(self._keys) else np.zeros(wanted.shape, np.bool_)
        places: Int64 = np.where(there, self._order[found] if len(self._keys) else 0, -1)
        return places

    def at(self, places: Int64) -> Float32:
        """Cut the windows at places that `places` found."""
        cut = self._vectors[places]
        cut[places < 0] = np.nan
        windows: Float32 = np.ascontiguousarray(cut, np.float32)
        return windows

    def of(self, *, symbol_index: Int32, open_time_ms: Int64, minutes: int) -> Float32:
        """Cut the windows that end with these minutes, of shape (rows, minutes, features)."""
        return self.at(self.places(symbol_index=symbol_index, open_time_ms=open_time_ms, minutes=minutes))


def _keys(symbol_index: Int32, open_time_ms: Int64) -> Int64:
    keys: Int64 = symbol_index.astype(np.int64) * _SYMBOL_STEP + open_time_ms // MINUTE_MS
    return keys

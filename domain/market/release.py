"""Decided candles on their way out: handed out in time order across symbols, as far as that is known."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

import numpy as np

from domain.market.candle import Candle
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, Origin

Row = tuple[int, int, Candle, Origin]  # open time, symbol index: the order of a frame


class Outbox:
    """Queues decided candles by symbol until they are taken.

    Parameters
    ----------
    symbols
        Give the order of rows within a minute.
    """

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self._symbols = symbols
        self._index = {symbol: index for index, symbol in enumerate(symbols)}
        self._queues: list[deque[Row]] = [deque() for _ in symbols]
        self._revised: dict[tuple[int, int], Candle] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def has_revisions(self) -> bool:
        """Tell whether a revision waits."""
        return bool(self._revised)

    def add(self, symbol: str, candle: Candle, origin: Origin) -> None:
        """Queue the next candle of a symbol."""
        index = self._index[symbol]
        self._queues[index].append((candle.open_time_ms, index, candle, origin))
        self._count += 1

    def revise(self, symbol: str, candle: Candle) -> None:
        """Change a minute: in the queue if it is still there, as a revision if it was taken or never was."""
        index = self._index[symbol]
        queue = self._queues[index]
        if queue and queue[0][0] <= candle.open_time_ms:
            for at, (t, _, _, origin) in enumerate(queue):
                if t == candle.open_time_ms:
                    queue[at] = (t, index, candle, origin)
                    return
        self._revised[(candle.open_time_ms, index)] = candle

    def head_ms(self, symbol: str) -> int | None:
        """Tell the open time of a symbol's first queued candle."""
        queue = self._queues[self._index[symbol]]
        return queue[0][0] if queue else None

    def take(self, max_rows: int, horizon_ms: int | None) -> CandleFrame:
        """Take candles in time order, none past the horizon."""
        rows: list[Row] = []
        heads = [queue[0] for queue in self._queues if queue]
        heapq.heapify(heads)
        while heads and len(rows) < max_rows:
            row = heads[0]
            if horizon_ms is not None and row[0] > horizon_ms:
                break
            rows.append(row)
            queue = self._queues[row[1]]
            queue.popleft()
            if queue:
                heapq.heapreplace(heads, queue[0])
            else:
                heapq.heappop(heads)
        self._count -= len(rows)
        return frame_of(self._symbols, rows)

    def take_revisions(self) -> CandleFrame:
        """Take all revisions."""
        rows = [(t, index, candle, Origin.REVISED) for (t, index), candle in sorted(self._revised.items())]
        self._revised.clear()
        return frame_of(self._symbols, rows)

    def known_to(self, settled_to_ms: Sequence[int | None]) -> list[int]:
        """Tell by symbol up to where everything was taken, from where everything is settled."""
        known = []
        for queue, settled in zip(self._queues, settled_to_ms, strict=True):
            if queue:
                known.append(queue[0][0] - MINUTE_MS)
            else:
                known.append(NULL_MS if settled is None else settled)
        return known


def frame_of(symbols: tuple[str, ...], rows: Sequence[Row]) -> CandleFrame:
    """Lay rows out in columns, in the order given."""
    if not rows:
        return CandleFrame.empty(symbols)
    return CandleFrame(
        symbols=symbols,
        symbol_index=np.array([row[1] for row in rows], np.int32),
        open_time_ms=np.array([row[0] for row in rows], np.int64),
        ohlcv=np.array([row[2][1:] for row in rows], np.float64),
        origin=np.array([row[3] for row in rows], np.int8),
    )

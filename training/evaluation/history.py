"""A recording as the feature stage sees it: candles in batches, and the vectors that come of them.

The batches say what a feed would say: all minutes up to the end of a batch are known, those without a candle
are absent for good, and nothing is known of what comes after the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from schemas.frames import MINUTE_MS, CandleFrame, FeatureFrame, FeedBatch, Float64, Int64, Origin

#: Told the fraction done (0..1).
Tell = Callable[[float], None]


class Step(Protocol):
    """What a stage decided in one step; see `pipeline.stage.StepResult`."""

    @property
    def rows(self) -> Sequence[Any]:
        """Rows by table."""
        ...

    @property
    def out(self) -> Any:
        """The frame for the next stage."""
        ...


class Stage(Protocol):
    """A pure stage, as it is driven here."""

    def step(self, batch: Any) -> Step:
        """Process a batch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All vectors of a recording.

    Attributes
    ----------
    frame
        Every row, in the order in which the feature stage gave them: by time, then by symbol.
    stops, complete_to_ms
        One entry a batch: where its rows end, and up to which minute everything was known then.
    """

    frame: FeatureFrame
    stops: tuple[int, ...]
    complete_to_ms: tuple[int, ...]

    def batches(self) -> Iterator[FeatureFrame]:
        """Give the frames again as the feature stage gave them."""
        begin = 0
        for stop, complete_to_ms in zip(self.stops, self.complete_to_ms, strict=True):
            yield replace(self.frame.rows(slice(begin, stop)), complete_to_ms=complete_to_ms)
            begin = stop

    def first_ms(self, symbols: Sequence[str]) -> int | None:
        """Tell the first open minute of any of these symbols; None if they have none."""
        wanted = [self.frame.symbols.index(symbol) for symbol in symbols]
        mine = np.isin(self.frame.symbol_index, wanted)
        return int(self.frame.open_time_ms[mine].min()) if mine.any() else None

    @property
    def last_ms(self) -> int:
        """Up to which open minute everything is known."""
        return self.complete_to_ms[-1]


def feed_batches(
    candles: Mapping[str, Float64], symbols: tuple[str, ...], *, batch_minutes: int
) -> Iterator[FeedBatch]:
    """Cut recorded candles into batches of minutes, in time order, and within a minute by symbol.

    Parameters
    ----------
    candles
        By symbol, shape (rows, 6): open time in milliseconds, open, high, low, close, volume.
    symbols
        Give the order of rows within a minute.
    batch_minutes
        Minutes of one batch.
    """
    frame = _in_order(candles, symbols)
    if not len(frame):
        return
    times = frame.open_time_ms
    first_ms, last_ms = int(times[0]), int(times[-1])
    begin = 0
    for start_ms in range(first_ms, last_ms + MINUTE_MS, batch_minutes * MINUTE_MS):
        known_ms = min(start_ms + (batch_minutes - 1) * MINUTE_MS, last_ms)
        stop = int(np.searchsorted(times, known_ms, "right"))
        yield FeedBatch(
            candles=frame.rows(slice(begin, stop)),
            known_to_ms=np.full(len(symbols), known_ms, np.int64),
            revisions=CandleFrame.empty(symbols),
        )
        begin = stop


def _in_order(candles: Mapping[str, Float64], symbols: tuple[str, ...]) -> CandleFrame:
    rows = np.concatenate([candles[symbol] for symbol in symbols])
    index = np.concatenate(
        [np.full(len(candles[symbol]), place, np.int32) for place, symbol in enumerate(symbols)]
    )
    times = rows[:, 0].astype(np.int64)
    order = np.lexsort((index, times))
    return CandleFrame(
        symbols=symbols,
        symbol_index=index[order],
        open_time_ms=times[order],
        ohlcv=np.ascontiguousarray(rows[order, 1:]),
        origin=np.full(len(order), Origin.BACKFILLED, np.int8),
    )


def compute_history(stage: Stage, batches: Sequence[FeedBatch], *, tell: Tell) -> History:
    """Run the feature stage over batches and keep what it hands on.

    Raises
    ------
    ValueError
        If the batches make no row at all.
    """
    frames: list[FeatureFrame] = []
    for number, batch in enumerate(batches, start=1):
        made = stage.step(batch).out
        if made is not None:
            frames.append(made)
        tell(number / len(batches))
    if not frames:
        raise ValueError("the candles make no vector")
    stops: Int64 = np.cumsum([len(frame) for frame in frames])
    complete_to_ms = tuple(frame.complete_to_ms for frame in frames)
    whole = FeatureFrame.concat(frames)
    return History(frame=whole, stops=tuple(stops.tolist()), complete_to_ms=complete_to_ms)

"""What the sequencer decided, on its way to the caller: queued, reported, and cut into batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from domain.market.lane import Span
from domain.market.release import Outbox
from domain.market.sequencer import Sequencer
from exchanges.alarms import Alarms
from exchanges.feed_settings import FeedReport
from schemas.frames import FeedBatch


class Outflow:
    """Queues what was decided and gives it out.

    Parameters
    ----------
    symbols
        Give the order within a minute.
    sequencer
        Decides.
    first_ms
        By symbol without a committed minute, the first wanted one.
    last_ms
        Nothing is known to be absent after this open minute: a recording ends with it.
    alarms, report
        Are told of refused values, holes and counts.
    """

    def __init__(
        self,
        *,
        symbols: tuple[str, ...],
        sequencer: Sequencer,
        first_ms: Mapping[str, int],
        last_ms: int | None,
        alarms: Alarms,
        report: FeedReport,
    ) -> None:
        self._symbols = symbols
        self._sequencer = sequencer
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._alarms = alarms
        self._report = report
        self._outbox = Outbox(symbols)
        self._handed: list[int] | None = None
        self._hole_to_ms: dict[str, int] = {}
        self.emitted_s = time.monotonic()

    def __len__(self) -> int:
        return len(self._outbox)

    def head_ms(self, symbol: str) -> int | None:
        """Tell the open time of a symbol's first queued candle."""
        return self._outbox.head_ms(symbol)

    def settle(self) -> tuple[bool, int]:
        """Queue what was decided since; tell whether there is news, and the number of revisions."""
        decided = self._sequencer.take()
        for symbol, candle, origin in decided.emitted:
            self._outbox.add(symbol, candle, origin)
        for symbol, candle in decided.revised:
            self._outbox.revise(symbol, candle)
        for symbol, candle, kind, message in decided.rejected:
            self._alarms.dead_letter(kind, raw_row(symbol, candle), symbol, message)
        for symbol, span in joined(decided.absent):
            self._absent(symbol, span)
        if decided.emitted:
            self.emitted_s = time.monotonic()
            self._report.count("candles", len(decided.emitted))
            for symbol in {symbol for symbol, _, _ in decided.emitted}:
                if not self._sequencer[symbol].halted:
                    self._alarms.over("halt", symbol)
        if decided.duplicates:
            self._report.count("duplicates", decided.duplicates)
        if decided.revised:
            self._report.count("revisions", len(decided.revised))
        return bool(decided.emitted or decided.revised or decided.absent), len(decided.revised)

    def has_news(self) -> bool:
        """Tell whether a batch could be cut."""
        return bool(len(self._outbox) or self._outbox.has_revisions or self.known_to() != self._handed)

    def batch(self, max_rows: int, horizon_ms: int | None, as_of_ms: int | None) -> FeedBatch | None:
        """Cut a batch in time order, none of it past the horizon; None if that leaves nothing."""
        # What frames have decided but nobody has queued yet must not count as handed out.
        self.settle()
        candles = self._outbox.take(max_rows, horizon_ms)
        revisions = self._outbox.take_revisions()
        known_to = self.known_to()
        if not len(candles) and not len(revisions) and known_to == self._handed:
            return None
        self._handed = known_to
        return FeedBatch(
            candles=candles,
            known_to_ms=np.array(known_to, np.int64),
            revisions=revisions,
            as_of_ms=as_of_ms,
        )

    def known_to(self) -> list[int]:
        """Tell by symbol up to where everything was handed out or is absent."""
        settled = [self._settled(symbol) for symbol in self._symbols]
        return self._outbox.known_to(settled)

    def _settled(self, symbol: str) -> int | None:
        known_to = self._sequencer[symbol].known_to_ms
        if self._last_ms is not None:
            known_to = min(known_to, self._last_ms)
        first = self._first_ms.get(symbol)
        return known_to if first is None or known_to >= first else None

    def _absent(self, symbol: str, span: Span) -> None:
        if self._last_ms is not None and span.from_ms > self._last_ms:
            return
        lane = self._sequencer[symbol]
        self._report.count("absent_minutes", span.minutes)
        goes_on = self._hole_to_ms.get(symbol) == span.from_ms
        self._hole_to_ms[symbol] = span.to_ms
        if not lane.begun or goes_on:
            return
        text = f"{span.minutes} minutes from {iso_time(span.from_ms)} are not in the exchange's history"
        if lane.halted:
            self._alarms.raise_once("halt", f"{text}; it goes on when they come again", symbol)
        else:
            self._alarms.raise_once(
                "absent", f"{text}, though later ones are", symbol, about=str(span.from_ms)
            )


def joined(spans: Iterable[tuple[str, Span]]) -> list[tuple[str, Span]]:
    """Join the spans of each symbol that follow one another without a gap."""
    whole: list[tuple[str, Span]] = []
    last: dict[str, int] = {}
    for symbol, span in spans:
        at = last.get(symbol)
        if at is not None and whole[at][1].to_ms == span.from_ms:
            whole[at] = (symbol, Span(from_ms=whole[at][1].from_ms, to_ms=span.to_ms))
        else:
            last[symbol] = len(whole)
            whole.append((symbol, span))
    return whole


def raw_row(symbol: str, row: Any) -> str:
    """Write a row of the history as a dead letter's raw input."""
    return orjson.dumps({"symbol": symbol, "history": list(row)}, default=repr).decode()


def iso_time(at_ms: int) -> str:
    """Write a time for people."""
    return f"{np.datetime64(at_ms, 'ms')}Z"

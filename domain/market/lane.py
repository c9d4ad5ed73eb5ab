"""One symbol's way from frames and history answers to closed candles, each exactly once and in order.

A minute is *known* once its candle was emitted, or once the exchange's history, answering well, shows that it
never had one. Nothing is emitted past a minute that is not known. The rule:

- a frame that the exchange flags as closed is emitted if it is the next minute, and parked if it is later;
- once a minute's end lies the grace behind the exchange's clock and it is still not known, the history is
  asked; what it says of minutes that are over by more than the grace is final;
- a minute that the history leaves out, though it has later ones, is absent for good;
- a history without later minutes says nothing for `max_hole_ms`; after that the symbol is halted, and every
  further empty answer makes the minutes up to its own final one absent;
- what comes later for a known minute, and differs, is a revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.market.candle import Candle, FaultKind, jumps, last_final_ms
from schemas.frames import MINUTE_MS, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Minutes to ask the history for: `from_ms` up to, not including, `to_ms`."""

    from_ms: int
    to_ms: int

    @property
    def minutes(self) -> int:
        """Count the minutes."""
        return (self.to_ms - self.from_ms) // MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A good answer of the history.

    Attributes
    ----------
    from_ms
        First minute asked for.
    rows
        What it has, sorted, unique and each valid by itself; the minute in progress may be the last.
    covered_to_ms
        No other minute exists from `from_ms` up to and including this one.
    as_of_ms
        The exchange's clock no later than the answer was made.
    """

    from_ms: int
    rows: Sequence[Candle]
    covered_to_ms: int
    as_of_ms: int


@dataclass(slots=True, kw_only=True)
class Decisions:
    """What the lanes decided since it was last looked at; the reader empties it."""

    emitted: list[tuple[str, Candle, Origin]] = field(default_factory=list)
    revised: list[tuple[str, Candle]] = field(default_factory=list)
    rejected: list[tuple[str, Candle, FaultKind, str]] = field(default_factory=list)
    absent: list[tuple[str, Span]] = field(default_factory=list)
    duplicates: int = 0

    def take(self) -> Decisions:
        """Hand over what was decided, and start anew."""
        taken = Decisions(
            emitted=self.emitted,
            revised=self.revised,
            rejected=self.rejected,
            absent=self.absent,
            duplicates=self.duplicates,
        )
        self.emitted, self.revised, self.rejected, self.absent = [], [], [], []
        self.duplicates = 0
        return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRules:
    """What all lanes of a market go by.

    Attributes
    ----------
    grace_ms
        How long after its end a minute may still be on its way.
    max_hole_ms
        How long a hole at the edge of the history is asked about before it counts as a halt.
    jump_limit_pct
        A close further than this from the last one must be said twice by the history.
    memory_minutes
        For how many of the last minutes a changed value is recognised as a revision.
    park_limit
        Closed frames kept while a hole before them is filled; later ones come from the history.
    """

    grace_ms: int = 5_000
    max_hole_ms: int = 10 * MINUTE_MS
    jump_limit_pct: float = 50.0
    memory_minutes: int = 120
    park_limit: int = 2_000


class Lane:
    """Decides the candles of one symbol.

    Parameters
    ----------
    symbol
        Named in every decision.
    known_to_ms
        The last open minute that is settled already.
    rules
        Shared by all lanes.
    decisions
        Where decisions go.
    """

    def __init__(self, *, symbol: str, known_to_ms: int, rules: LaneRules, decisions: Decisions) -> None:
        self.symbol = symbol
        self.known_to_ms = known_to_ms
        #: The edge of the history has been empty for too long; the next candle ends it.
        self.halted = False
        #: The last known minute came over the stream, so the next is probably on its way.
        self.is_streaming = False
        self._rules = rules
        self._out = decisions
        self._memory: dict[int, Candle | None] = {}  # None: absent
        self._parked: dict[int, Candle] = {}
        self._disputed: set[int] = set()
        self._suspect: Candle | None = None
        self._last_close: float | None = None
        self._last_close_ms = -MINUTE_MS

    @property
    def begun(self) -> bool:
        """Tell whether the symbol has had a candle at all."""
        return self._last_close is not None

    @property
    def parked(self) -> int:
        """Count the closed frames that wait for minutes before them."""
        return len(self._parked)

    def stream(self, candle: Candle) -> None:
        """Take a candle that the exchange flagged as closed; it is valid by itself and not ahead of time."""
        t = candle.open_time_ms
        following = self.known_to_ms + MINUTE_MS
        if t < following:
            self._late(candle, asked=False)
        elif t in self._disputed:
            self._out.duplicates += 1
        elif t == following:
            if self._passes(candle):
                self._emit(candle, Origin.TRADED)
                self._drain()
        elif (other := self._parked.get(t)) is None:
            if len(self._parked) < self._rules.park_limit:
                self._parked[t] = candle
        elif other == candle:
            self._out.duplicates += 1
        else:
            # Two closed versions of one minute: the history decides.
            del self._parked[t]
            self._disputed.add(t)

    def history(self, page: Page) -> None:
        """Take a good answer of the history."""
        final_to = last_final_ms(page.as_of_ms, self._rules.grace_ms)
        for row in page.rows:
            t = row.open_time_ms
            if t <= self.known_to_ms:
                self._late(row, asked=False)
                continue
            # The minute in progress is not taken, but proves that those before it, left out, never were.
            self._skip_to(min(t - MINUTE_MS, final_to))
            if t > final_to:
                break
            if not self._twice(row):
                return
            self._emit(row, Origin.BACKFILLED)
        self._close_edge(page, min(page.covered_to_ms, final_to))
        self._drain()

    def wanted(self, now_ms: int) -> Span | None:
        """Tell what to ask the history for, by the exchange's clock; None while nothing is overdue."""
        first = self.known_to_ms + MINUTE_MS
        final_to = last_final_ms(now_ms, self._rules.grace_ms)
        if final_to < first:
            return None
        # Up to the first parked minute, and with it, so that the answer shows what comes after the hole.
        to = min(final_to, min(self._parked)) if self._parked else final_to
        # The minute before gives the last close where none is remembered.
        return Span(from_ms=first - (self._last_close is None) * MINUTE_MS, to_ms=to + MINUTE_MS)

    def revise(self, rows: Sequence[Candle]) -> None:
        """Take minutes that somebody asked for again: what differs, or is not remembered, is a revision."""
        for row in rows:
            if row.open_time_ms <= self.known_to_ms:
                self._late(row, asked=True)

    def vouch(self, candle: Candle) -> None:
        """Take an operator's word for a candle: the history need say it only once."""
        self._suspect = candle

    def parked_after(self, at_ms: int) -> list[int]:
        """List the parked open minutes past a point."""
        return [t for t in self._parked if t > at_ms]

    def evict(self, times_ms: Sequence[int]) -> None:
        """Reject parked minutes that turned out to lie ahead of the exchange's clock."""
        for t in times_ms:
            candle = self._parked.pop(t, None)
            if candle is not None:
                self._reject(candle, "future", "lies ahead of the exchange's clock")

    def _close_edge(self, page: Page, end_ms: int) -> None:
        """Settle minutes behind the last row: only a hole that has lasted is a halt."""
        waited_ms = page.as_of_ms - (self.known_to_ms + 2 * MINUTE_MS)
        if end_ms > self.known_to_ms and (self.halted or waited_ms >= self._rules.max_hole_ms):
            self._skip_to(end_ms)
            self.halted = True

    def _skip_to(self, last_ms: int) -> None:
        """Declare the minutes after the known ones, up to and including this one, absent for good."""
        if last_ms <= self.known_to_ms:
            return
        span = Span(from_ms=self.known_to_ms + MINUTE_MS, to_ms=last_ms + MINUTE_MS)
        self._out.absent.append((self.symbol, span))
        self.is_streaming = False
        first_kept = max(span.from_ms, span.to_ms - self._rules.memory_minutes * MINUTE_MS)
        self._remember(dict.fromkeys(range(first_kept, span.to_ms, MINUTE_MS)))
        self._know(last_ms)

    def _emit(self, candle: Candle, origin: Origin) -> None:
        self._out.emitted.append((self.symbol, candle, Origin.SYNTHETIC if candle.is_quiet else origin))
        self._closed(candle)
        self.is_streaming = origin is Origin.TRADED
        self._suspect = None
        self.halted = False
        self._remember({candle.open_time_ms: candle})
        self._know(candle.open_time_ms)

    def _know(self, to_ms: int) -> None:
        self.known_to_ms = to_ms
        if self._disputed:
            self._disputed = {t for t in self._disputed if t > to_ms}
        if self._parked and min(self._parked) <= to_ms:
            # The history was quicker; it is the later word.
            for t in [t for t in self._parked if t <= to_ms]:
                del self._parked[t]
                self._out.duplicates += 1

    def _drain(self) -> None:
        while self._parked:
            candle = self._parked.pop(self.known_to_ms + MINUTE_MS, None)
            if candle is None or not self._passes(candle):
                return
            self._emit(candle, Origin.TRADED)

    def _passes(self, candle: Candle) -> bool:
        """Tell whether a streamed candle is near enough to the last close; otherwise leave it to history."""
        if not jumps(candle, self._last_close, self._rules.jump_limit_pct):
            return True
        self._disputed.add(candle.open_time_ms)
        self._reject_jump(candle)
        return False

    def _twice(self, row: Candle) -> bool:
        """Tell whether the history's candle is near enough to the last close, or said a second time."""
        if not jumps(row, self._last_close, self._rules.jump_limit_pct) or row == self._suspect:
            return True
        self._suspect = row
        self._reject_jump(row)
        return False

    def _late(self, candle: Candle, *, asked: bool) -> None:
        t = candle.open_time_ms
        if t in self._memory:
            if self._memory[t] == candle:
                self._out.duplicates += 1
                return
        elif not asked:
            # From before this process: what was handed out then is not remembered, so take it as the same.
            self._baseline(candle)
            return
        self._memory[t] = candle
        self._closed(candle)
        self._out.revised.append((self.symbol, candle))

    def _baseline(self, candle: Candle) -> None:
        self._out.duplicates += 1
        self._closed(candle)
        self._remember({candle.open_time_ms: candle})

    def _closed(self, candle: Candle) -> None:
        if candle.open_time_ms >= self._last_close_ms:
            self._last_close, self._last_close_ms = candle.close, candle.open_time_ms

    def _remember(self, minutes: dict[int, Candle | None]) -> None:
        self._memory.update(minutes)
        # Forget in bulk: dropping one entry per minute from the front of a dict is slow.
        keep = self._rules.memory_minutes
        if len(self._memory) > 2 * keep + 64:
            newest = sorted(self._memory)[-keep:] if keep else []
            self._memory = {t: self._memory[t] for t in newest}

    def _reject_jump(self, candle: Candle) -> None:
        self._reject(
            candle,
            "jump",
            f"close {candle.close} is more than {self._rules.jump_limit_pct} % from {self._last_close}",
        )

    def _reject(self, candle: Candle, kind: FaultKind, message: str) -> None:
        self._out.rejected.append((self.symbol, candle, kind, message))

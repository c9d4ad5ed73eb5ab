"""Exchanges whose history leaves out minutes without trades: which of them were quiet, which a halt.

The rule, in terms of the exchange's own rows only, so that it gives the same answer in whatever order
the rows were learnt:

- a minute in which any symbol of the market has a row is *alive*: symbols without a row in it were quiet, and
  get a flat candle at their last close;
- a minute in which no symbol has a row is *dead*. A run of at most `max_hole_ms` of dead minutes is a quiet
  market; a longer one is a halt, and its minutes stay absent for every symbol.

A dead minute is therefore decided only once every symbol's history covers the whole run, or the run has
become too long. A symbol has no candles before its first row, not even flat ones, and none once it has not
traded for `MAX_QUIET_MINUTES` while others did: then it is halted or gone.
"""

from __future__ import annotations

from typing import Literal

from domain.market.candle import Candle, last_final_ms
from domain.market.lane import Decisions, Lane, LaneRules, Page, Span
from schemas.frames import MINUTE_MS, Origin

#: Flat candles follow a trade for at most so long.
MAX_QUIET_MINUTES = 240
#: How far back to look on a start: for the last close, and for the runs of dead minutes that reach over it.
LOOK_BACK_MINUTES = 300
#: Minutes asked for again at every poll, so that a late trade is noticed as a revision.
RECHECK_MINUTES = 2


class Evidence:
    """Which minutes were alive, and how far each symbol's history is known."""

    def __init__(self, *, max_hole_ms: int) -> None:
        self._longest = max_hole_ms // MINUTE_MS
        self._alive: set[int] = set()
        self._covered: dict[str, tuple[int, int]] = {}

    def row(self, open_time_ms: int) -> None:
        """Note that some symbol traded in a minute."""
        self._alive.add(open_time_ms)

    def cover(self, symbol: str, from_ms: int, to_ms: int) -> None:
        """Note that a symbol's rows are known from the one up to and including the other minute."""
        self._covered[symbol] = (from_ms, to_ms)

    def verdict(self, t: int) -> Literal["quiet", "halt", "unknown"]:
        """Tell what a minute without a row was."""
        if t in self._alive:
            return "quiet"
        if not self._is_dead(t):
            return "unknown"
        length = 1
        for step in (-MINUTE_MS, MINUTE_MS):
            at = t + step
            while length <= self._longest and self._is_dead(at):
                length += 1
                at += step
            if length <= self._longest and step > 0 and at not in self._alive:
                return "unknown"
        return "quiet" if length <= self._longest else "halt"

    def forget(self, before_ms: int) -> None:
        """Drop what no run that is still to be decided can reach."""
        if len(self._alive) > 32 * LOOK_BACK_MINUTES:
            edge = before_ms - (self._longest + 2) * MINUTE_MS
            self._alive = {t for t in self._alive if t >= edge}

    def _is_dead(self, t: int) -> bool:
        """Tell whether no symbol has a row, as far as they reach back; not while one is still behind."""
        if t in self._alive:
            return False
        begun = [to for since, to in self._covered.values() if since <= t]
        return bool(begun) and min(begun) >= t


class QuietLane(Lane):
    """A lane that is driven by the history alone, and fills quiet minutes with flat candles.

    It is stepped by `history` and then `advance`, because what a gap means depends on the other symbols.
    """

    def __init__(
        self, *, symbol: str, known_to_ms: int, rules: LaneRules, decisions: Decisions, evidence: Evidence
    ) -> None:
        super().__init__(symbol=symbol, known_to_ms=known_to_ms, rules=rules, decisions=decisions)
        self._evidence = evidence
        self._rows: dict[int, Candle] = {}
        self._traded_ms = -MINUTE_MS
        self._begin = known_to_ms
        self._covered_from = max(0, known_to_ms - (LOOK_BACK_MINUTES - 1) * MINUTE_MS)
        self._covered_to = self._covered_from - MINUTE_MS
        evidence.cover(symbol, self._covered_from, self._covered_to)

    @property
    def parked(self) -> int:
        """Count the rows that wait for a decision about minutes before them."""
        return len(self._rows)

    def stream(self, candle: Candle) -> None:
        """Take a candle replayed by hand: the history brings what is new, so only revisions count."""
        if candle.open_time_ms <= self.known_to_ms:
            self._late(candle, asked=False)

    def history(self, page: Page) -> None:
        """Take a good answer of the history; `advance` decides what follows from it."""
        final_to = last_final_ms(page.as_of_ms, self._rules.grace_ms)
        for row in page.rows:
            t = row.open_time_ms
            if t > final_to:
                break
            self._evidence.row(t)
            if t > self.known_to_ms:
                self._rows[t] = row
            else:
                self._traded_ms = max(self._traded_ms, t)
                self._late(row, asked=False)
        if page.from_ms <= self._covered_to + MINUTE_MS:
            self._covered_to = max(self._covered_to, min(page.covered_to_ms, final_to))
            self._evidence.cover(self.symbol, self._covered_from, self._covered_to)

    def advance(self) -> None:
        """Emit what is decided by now."""
        while self.known_to_ms < self._covered_to:
            t = self.known_to_ms + MINUTE_MS
            row = self._rows.get(t)
            if row is not None:
                if not self._twice(row):
                    # Ask again from here; the second time it passes.
                    self._rows = {at: other for at, other in self._rows.items() if at < t}
                    self._covered_to = t - MINUTE_MS
                    self._evidence.cover(self.symbol, self._covered_from, self._covered_to)
                    return
                del self._rows[t]
                self._traded_ms = t
                self._emit(row, Origin.BACKFILLED)
                continue
            verdict = self._evidence.verdict(t)
            if verdict == "unknown":
                return
            is_over = t - self._traded_ms > MAX_QUIET_MINUTES * MINUTE_MS
            if verdict == "halt" or is_over or self._last_close is None:
                self.halted = self.halted or is_over
                self._skip_to(t)
            else:
                self._emit(Candle.flat(t, self._last_close), Origin.SYNTHETIC)

    def wanted(self, now_ms: int) -> Span | None:
        """Tell what to ask the history for, by the exchange's clock; None while nothing is overdue."""
        final_to = last_final_ms(now_ms, self._rules.grace_ms)
        if final_to <= self._covered_to:
            return None
        recheck = RECHECK_MINUTES if self._covered_to >= self._begin else 0
        first = max(self._covered_to + MINUTE_MS - recheck * MINUTE_MS, self._covered_from)
        return Span(from_ms=first, to_ms=final_to + MINUTE_MS)

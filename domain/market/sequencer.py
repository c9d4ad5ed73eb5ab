"""All symbols of a market: frames and history answers in, closed candles out, exactly once and in order.

The same frames in any order, repeated or missing, with a history to ask, give the same candles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from domain.market.candle import Candle
from domain.market.lane import Decisions, Lane, LaneRules, Page, Span
from domain.market.quiet import Evidence, QuietLane


class Sequencer:
    """Decides the candles of all symbols.

    Parameters
    ----------
    known_to_ms
        By symbol, the last open minute that is settled already.
    rules
        Shared by all symbols.
    omits_quiet
        The exchange's history leaves out minutes without trades, and no frame says that a minute is closed.
    """

    def __init__(self, *, known_to_ms: Mapping[str, int], rules: LaneRules, omits_quiet: bool) -> None:
        self._decisions = Decisions()
        self._evidence = Evidence(max_hole_ms=rules.max_hole_ms)
        self._omits_quiet = omits_quiet
        self._lanes: dict[str, Lane] = {}
        for symbol, known_to in known_to_ms.items():
            if omits_quiet:
                self._lanes[symbol] = QuietLane(
                    symbol=symbol,
                    known_to_ms=known_to,
                    rules=rules,
                    decisions=self._decisions,
                    evidence=self._evidence,
                )
            else:
                self._lanes[symbol] = Lane(
                    symbol=symbol, known_to_ms=known_to, rules=rules, decisions=self._decisions
                )

    def __getitem__(self, symbol: str) -> Lane:
        return self._lanes[symbol]

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    @property
    def parked(self) -> int:
        """Count the candles that wait inside for minutes before them."""
        return sum(lane.parked for lane in self._lanes.values())

    def stream(self, symbol: str, candle: Candle) -> None:
        """Take a candle flagged as closed; it is valid by itself and not ahead of the exchange's clock."""
        self._lanes[symbol].stream(candle)

    def history(self, symbol: str, page: Page) -> None:
        """Take a good answer of the exchange's history."""
        lane = self._lanes[symbol]
        lane.history(page)
        if self._omits_quiet:
            # What one symbol traded can decide what was quiet in another.
            for other in self._lanes.values():
                if isinstance(other, QuietLane):
                    other.advance()
            self._evidence.forget(min(lane.known_to_ms for lane in self._lanes.values()))

    def revise(self, symbol: str, rows: Sequence[Candle]) -> None:
        """Take minutes that somebody asked for again."""
        self._lanes[symbol].revise(rows)

    def wanted(self, symbol: str, now_ms: int) -> Span | None:
        """Tell what to ask the history for; None while nothing is overdue."""
        return self._lanes[symbol].wanted(now_ms)

    def take(self) -> Decisions:
        """Hand over what was decided since the last call."""
        return self._decisions.take()

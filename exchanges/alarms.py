"""Reports each trouble once, not with every frame that has it."""

from __future__ import annotations

import time

from exchanges.feed_settings import AlarmKind, FeedReport

#: A dead letter's raw input is cut here in an alarm; the dead letter itself keeps all.
_RAW_SHOWN = 300


class Alarms:
    """Passes on alarms of one feed, the same one again only after a long time or once it was over.

    Parameters
    ----------
    report
        Where they go.
    again_s
        The same alarm is not repeated sooner.
    """

    def __init__(self, report: FeedReport, again_s: float) -> None:
        self._report = report
        self._again_s = again_s
        self._raised_s: dict[tuple[str, str | None], float] = {}

    def raise_once(
        self, kind: AlarmKind, message: str, symbol: str | None = None, *, about: str | None = None
    ) -> None:
        """Report a trouble, unless the same was reported lately; `about` tells troubles of a kind apart."""
        key = (f"{kind}/{about or ''}", symbol)
        now_s = time.monotonic()
        if now_s - self._raised_s.get(key, -self._again_s) < self._again_s:
            return
        self._raised_s[key] = now_s
        self._report.alarm(kind, message, symbol)

    def is_raised(self, kind: AlarmKind, symbol: str | None = None) -> bool:
        """Tell whether a trouble stands."""
        return (f"{kind}/", symbol) in self._raised_s

    def over(self, kind: AlarmKind, symbol: str | None = None) -> None:
        """Learn that a trouble is over: the next of its kind is reported at once."""
        self._raised_s.pop((f"{kind}/", symbol), None)

    def dead_letter(self, kind: str, raw: str | bytes, symbol: str | None, error: str) -> None:
        """Hand on a refused input, and report the first of its kind with the input itself."""
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        self._report.count("dead_letters", 1)
        self._report.dead_letter(kind, text, symbol, error)
        shown = text if len(text) <= _RAW_SHOWN else text[:_RAW_SHOWN] + "..."
        self.raise_once("bad_data", f"refused as {kind}: {error}; input: {shown}", about=kind)

"""What can be set on a feed, and whom it tells what it met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

AlarmKind = Literal[
    "dead_feed",  # neither stream nor history answers
    "feed_alive",  # answers again after dead_feed
    "silent_socket",  # the stream says nothing although time passes
    "quiet_market",  # the exchange answers, and has nothing new for any symbol
    "halt",  # a symbol has had no candle for longer than a hole may last
    "absent",  # the history leaves out minutes in the middle: they never were
    "history",  # the history cannot be asked; tried again for ever
    "rate_limit",  # told to wait, or banned
    "clock_skew",  # this machine's clock and the exchange's differ
    "unknown_symbol",  # not listed
    "bad_data",  # the first dead letter of its kind
    "buffer_full",  # frames were dropped; the history brings them again
]


class FeedReport(Protocol):
    """Is told what the feed met; must not block."""

    def dead_letter(self, kind: str, raw: str, symbol: str | None, error: str) -> None:
        """Take one input that was refused, in a form that `Feed.replay_dead_letter` reads."""
        ...

    def alarm(self, kind: str, message: str, symbol: str | None) -> None:
        """Take something an operator should see; repeated only after a long time or a recovery."""
        ...

    def count(self, name: str, n: int) -> None:
        """Take an increment of a counter."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """How a feed behaves.

    Attributes
    ----------
    grace_s
        Seconds of the exchange's clock after the end of a minute before the history is asked about it.
    max_hole_minutes
        A hole at the edge of the history is asked about for so long before it counts as a halt.
    stale_data_s
        A feed that hears nothing is called dead within so many seconds.
    idle_s
        A stream that says nothing for so long, while the exchange's clock goes on, is connected again; one
        that still answers pings gets twice that.
    keep_alive_s
        A ping is sent so often.
    page_rows
        Rows a request to the history asks for at most; the exchange's own limit holds too.
    buffer_rows
        Candles held in all; then the history waits, and frames are dropped and asked for later.
    jump_limit_pct
        A close further than this from the last one must be said twice by the history.
    memory_minutes
        For how many of the last minutes a changed value is noticed as a revision.
    merge_lag_minutes
        A symbol further behind the exchange's clock than this holds back later minutes of the others, so that
        history comes out in time order.
    merge_patience_s
        A symbol whose history cannot be read for so long holds nobody back any more.
    gather_s
        A batch waits so long for the other symbols of the same minute.
    requests_at_once
        Requests to the history under way at the same time.
    request_timeout_s
        A request that takes longer has failed.
    retry_first_s, retry_most_s
        Back-off of failed requests and connections; each wait is drawn from the upper half of its range.
    skew_limit_s
        A greater difference of clocks is alarmed; decisions go by the exchange's clock in any case.
    clock_every_s
        How often a real exchange's clock is asked; a simulated one is asked five times a second.
    alarm_again_s
        The same alarm is not repeated sooner.
    """

    grace_s: float = 5.0
    max_hole_minutes: int = 10
    stale_data_s: float = 300.0
    idle_s: float = 60.0
    keep_alive_s: float = 15.0
    page_rows: int = 1_000
    buffer_rows: int = 20_000
    jump_limit_pct: float = 50.0
    memory_minutes: int = 120
    merge_lag_minutes: int = 15
    merge_patience_s: float = 30.0
    gather_s: float = 0.002
    requests_at_once: int = 4
    request_timeout_s: float = 10.0
    retry_first_s: float = 0.5
    retry_most_s: float = 30.0
    skew_limit_s: float = 2.0
    clock_every_s: float = 60.0
    alarm_again_s: float = 3_600.0

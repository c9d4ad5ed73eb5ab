"""A quiet market, a silent socket and a dead feed told apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What the silence means."""

    ALIVE = "alive"
    QUIET = "quiet"  # the exchange answers, and has nothing new for any symbol
    SILENT_SOCKET = "silent_socket"  # the stream says nothing although time passes: connect again
    DEAD = "dead"  # neither the stream nor the history has answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """When signs of life were last seen, in seconds of one steady clock.

    Attributes
    ----------
    now_s
        Now.
    frame_s
        A frame with data came in on the stream.
    pong_s
        The stream answered a ping.
    connected_s
        The stream was last told to connect.
    rest_s
        The history or the exchange's time was answered well.
    candle_s
        A new closed minute of any symbol was learnt, from whichever side.
    exchange_passed_s
        By how much the exchange's clock has moved on since the last frame.
    """

    now_s: float
    frame_s: float
    pong_s: float
    connected_s: float
    rest_s: float
    candle_s: float
    exchange_passed_s: float


def judge(pulse: Pulse, *, idle_s: float, stale_data_s: float) -> Verdict:
    """Tell what the silence means.

    A dead feed is called dead early enough that a check every tenth of `stale_data_s` alarms in time. Pongs
    alone are no data: they tell a quiet stream from a cut one, not a live feed from a dead one.
    """
    alarm_after_s = 0.8 * stale_data_s
    if pulse.now_s - max(pulse.frame_s, pulse.rest_s) >= alarm_after_s:
        return Verdict.DEAD
    # A stream that still answers pings gets twice the time: thin markets push rarely.
    patience_s = idle_s if pulse.now_s - pulse.pong_s >= idle_s else 2 * idle_s
    silent_s = pulse.now_s - max(pulse.frame_s, pulse.connected_s)
    if silent_s >= patience_s and pulse.exchange_passed_s >= idle_s:
        return Verdict.SILENT_SOCKET
    if pulse.now_s - pulse.candle_s >= alarm_after_s:
        return Verdict.QUIET
    return Verdict.ALIVE

"""Watches over a feed: is the exchange alive, is its clock sane, and does a paced one know where we are."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp

from domain.market.candle import last_final_ms
from domain.market.liveness import Pulse, Verdict, judge
from domain.market.sequencer import Sequencer
from exchanges.alarms import Alarms
from exchanges.connection import BadAnswerError
from exchanges.exchange_clock import ExchangeClock
from exchanges.feed_settings import FeedReport, FeedSettings
from exchanges.frame_reader import FrameReader
from exchanges.history import History
from exchanges.live_stream import LiveStream
from exchanges.outflow import Outflow
from schemas.frames import MINUTE_MS

#: How often a simulated exchange's clock is asked.
_VIRTUAL_CLOCK_S = 0.2
#: A paced exchange forgets what was acknowledged when it is started again.
_ACKNOWLEDGE_AGAIN_S = 2.0


async def watch_clock(
    *, clock: ExchangeClock, sequencer: Sequencer, settings: FeedSettings, virtual: bool, alarms: Alarms
) -> None:
    """Keep the exchange's clock known, alarm a skew, and refuse frames that turn out to be ahead of it."""
    every_s = _VIRTUAL_CLOCK_S if virtual else min(settings.clock_every_s, settings.stale_data_s / 4)
    while True:
        await asyncio.sleep(every_s)
        doubtful = [(lane, lane.parked_after(clock.sure_ms + 60 * MINUTE_MS)) for lane in sequencer]
        try:
            await clock.refresh()
        except BadAnswerError:
            continue
        newest = last_final_ms(clock.sure_ms, 0)
        for lane, times_ms in doubtful:
            lane.evict([t for t in times_ms if t > newest])
        if not virtual and abs(clock.skew_s) > settings.skew_limit_s:
            message = (
                f"the exchange's clock is {clock.skew_s:+.1f} s from this machine's: mend its time service"
            )
            alarms.raise_once("clock_skew", message)


class LifeWatch:
    """Tells a quiet market, a silent stream and a dead feed apart, and acts on it.

    Parameters
    ----------
    name
        The exchange's, for messages.
    reader
        Sees frames and pongs.
    clock
        The exchange's.
    settings
        After how long what is called dead.
    alarms, report
        Are told.
    """

    def __init__(
        self,
        *,
        name: str,
        reader: FrameReader,
        clock: ExchangeClock,
        settings: FeedSettings,
        alarms: Alarms,
        report: FeedReport,
    ) -> None:
        self._name = name
        self._reader = reader
        self._clock = clock
        self._settings = settings
        self._alarms = alarms
        self._report = report
        self._connected_s = time.monotonic()
        self.history: History | None = None
        self.stream: LiveStream | None = None
        self.outflow: Outflow | None = None

    async def run(self) -> None:
        """Watch until cancelled; from before the first answer, so that a feed born dead is noticed."""
        settings, signs = self._settings, self._reader.signs
        while True:
            await asyncio.sleep(min(1.0, settings.stale_data_s / 10, settings.idle_s / 4))
            self._report.count("frames", signs.frames)
            signs.frames = 0
            if signs.exchange_ms_at_frame == 0:
                # Before the first frame: time passes from when the exchange's clock is known.
                signs.exchange_ms_at_frame = self._clock.now_ms
            pulse = Pulse(
                now_s=time.monotonic(),
                frame_s=signs.frame_s,
                pong_s=signs.pong_s,
                connected_s=self._connected_s,
                rest_s=self.history.answered_s if self.history else signs.frame_s,
                candle_s=self.outflow.emitted_s if self.outflow else signs.frame_s,
                exchange_passed_s=(self._clock.now_ms - signs.exchange_ms_at_frame) / 1000,
            )
            self._act_on(judge(pulse, idle_s=settings.idle_s, stale_data_s=settings.stale_data_s))

    def _act_on(self, verdict: Verdict) -> None:
        alarms, name = self._alarms, self._name
        if verdict is Verdict.DEAD:
            alarms.raise_once("dead_feed", f"{name}: neither the stream nor the history answers")
            return
        if alarms.is_raised("dead_feed"):
            alarms.over("dead_feed")
            self._report.alarm("feed_alive", f"{name} answers again", None)
        if verdict is Verdict.SILENT_SOCKET and self.stream is not None:
            alarms.raise_once("silent_socket", f"{name}: the stream is silent; connecting again")
            self._connected_s = time.monotonic()
            self.stream.reconnect("silent")
        elif verdict is Verdict.QUIET and not self._clock.stands:
            alarms.raise_once("quiet_market", f"{name} answers, but has nothing new for any symbol")
        elif verdict is Verdict.ALIVE:
            alarms.over("quiet_market")
            alarms.over("silent_socket")


class Acknowledger:
    """Tells a paced exchange how far it may go, and again from time to time.

    Parameters
    ----------
    base_url
        The simulated exchange's address.
    report
        Counts what went wrong; it is tried again.
    timeout_s
        For one request.
    """

    def __init__(self, *, base_url: str, report: FeedReport, timeout_s: float) -> None:
        self._url = f"{base_url.rstrip('/')}/sim/ack"
        self._report = report
        self._timeout_s = timeout_s
        self._to_ms: int | None = None
        self._now = asyncio.Event()

    def tell(self, open_time_ms: int) -> None:
        """Everything up to this open minute is done."""
        if self._to_ms is None or open_time_ms > self._to_ms:
            self._to_ms = open_time_ms
            self._now.set()

    async def run(self) -> None:
        """Send until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ACKNOWLEDGE_AGAIN_S):
                        await self._now.wait()
                self._now.clear()
                if self._to_ms is None:
                    continue
                try:
                    async with session.post(self._url, json={"open_time_ms": self._to_ms}) as answer:
                        answer.raise_for_status()
                except (aiohttp.ClientError, TimeoutError):
                    self._report.count("acknowledge_errors", 1)

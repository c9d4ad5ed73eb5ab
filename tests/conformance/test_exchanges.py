"""Every exchange's plug-in, over its own wire protocol: each minute once, in order, with the right values."""

import asyncio
import math
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from domain.market.candle import Candle
from exchanges.connection import EXCHANGES
from exchanges.feed import Feed, FeedSettings
from exchanges.generator import GeneratedMarket
from exchanges.simulated import SimulatedExchange
from runtime.ports import free_ports
from schemas.frames import MINUTE_MS, NULL_MS, Origin

SYMBOLS = ("BTCUSDT", "ETHUSDT", "HBARUSDT")
START_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
SETTINGS = FeedSettings(stale_data_s=20.0)
HISTORY_MINUTES = 60
#: What only keeps a test from hanging for ever.
PATIENCE_S = 300.0

#: Each of them waits for servers that answer, fall silent, or die.
pytestmark = pytest.mark.slow


class Report:
    """Keeps what a feed reported."""

    def __init__(self):
        self.letters = []
        self.alarms = []
        self.counts = defaultdict(int)

    def dead_letter(self, kind, raw, symbol, error):
        self.letters.append((kind, raw, symbol, error))

    def alarm(self, kind, message, symbol):
        self.alarms.append((kind, message, symbol))

    def count(self, name, n):
        self.counts[name] += n


class Taken:
    """Takes batches, checks what every batch promises, and keeps the candles."""

    def __init__(self, symbols):
        self.symbols = symbols
        self.rows = {symbol: {} for symbol in symbols}
        self.origins = {symbol: {} for symbol in symbols}
        self.known_to = np.full(len(symbols), NULL_MS)

    def take(self, batch):
        frame = batch.candles
        assert frame.symbols == self.symbols
        times = frame.open_time_ms
        assert np.all(np.diff(times) >= 0), "in order of time within a batch"
        for index, t, ohlcv, origin in zip(
            frame.symbol_index.tolist(),
            times.tolist(),
            frame.ohlcv.tolist(),
            frame.origin.tolist(),
            strict=True,
        ):
            rows = self.rows[self.symbols[index]]
            assert t > max(rows, default=0), "each minute once, and in order"
            assert t > self.known_to[index], "nothing after its minute was called known"
            assert t <= batch.known_to_ms[index], "a candle handed out is known"
            rows[t] = Candle(t, *ohlcv)
            self.origins[self.symbols[index]][t] = Origin(origin)
        revised = batch.revisions
        for index, t, ohlcv in zip(
            revised.symbol_index.tolist(), revised.open_time_ms.tolist(), revised.ohlcv.tolist(), strict=True
        ):
            assert t <= batch.known_to_ms[index], "only what was handed out is revised"
            self.rows[self.symbols[index]][t] = Candle(t, *ohlcv)
        assert np.all(batch.known_to_ms >= self.known_to), "what is known stays known"
        self.known_to = batch.known_to_ms


@asynccontextmanager
async def feeding(
    name, url, *, resume=None, start_ms=START_MS, paced=True, settings=SETTINGS, symbols=SYMBOLS
):
    report = Report()
    feed = Feed(
        exchange=name,
        symbols=symbols,
        resume=resume or {},
        start_ms=start_ms,
        base_url=url,
        paced=paced,
        settings=settings,
        report=report,
    )
    task = asyncio.create_task(feed.run())
    try:
        yield feed, report, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def take_until(feed, task, to_ms, *, taken=None, timeout_s=PATIENCE_S, max_rows=1_000):
    """Take batches, and acknowledge them, until everything up to a minute is known."""
    taken = taken or Taken(SYMBOLS)
    async with asyncio.timeout(timeout_s):
        while taken.known_to.min() < to_ms:
            batch = await feed.next(max_rows=max_rows, timeout_s=0.2)
            if task.done():
                task.result()
            if batch is not None:
                taken.take(batch)
                await feed.acknowledge(int(taken.known_to.min()))
    return taken


def expected(name, exchange, symbol, from_ms, to_ms):
    """The truth; where the exchange leaves out quiet minutes, filled as the rule has it."""
    begin = from_ms - 300 * MINUTE_MS if name == "coinbase" else from_ms
    rows = {int(row[0]): Candle(int(row[0]), *row[1:]) for row in exchange.tape.truth(symbol, begin, to_ms)}
    if name != "coinbase":
        return {t: row for t, row in rows.items() if t >= from_ms}
    alive = {
        int(row[0])
        for each in exchange.tape.market.symbols
        for row in exchange.tape.truth(each, from_ms, to_ms)
        if row[5] > 0
    }
    dead = [t for t in range(from_ms, to_ms, MINUTE_MS) if t not in alive]
    assert all(later - t > 10 * MINUTE_MS for t, later in zip(dead, dead[10:], strict=False)), "no long halt"
    filled, price = {}, None
    for t in range(begin, to_ms, MINUTE_MS):
        row = rows.get(t)
        if row is not None and row.volume > 0:
            price = row.close
            filled[t] = row
        elif price is not None:
            filled[t] = Candle.flat(t, price)
    return {t: row for t, row in filled.items() if t >= from_ms}


def check(name, exchange, taken, from_ms, to_ms):
    for symbol in taken.symbols:
        truth = expected(name, exchange, symbol, from_ms, to_ms)
        got = {t: row for t, row in taken.rows[symbol].items() if t < to_ms}
        assert sorted(got) == sorted(truth)
        assert got == truth


def simulated(*, speed=math.inf, history_minutes=HISTORY_MINUTES, **options):
    # A small lead, so that most minutes come over the stream.
    options = {"limited": False, "window_minutes": 30} | options
    return SimulatedExchange(
        GeneratedMarket(SYMBOLS, seed=11),
        speed=speed,
        start_ms=START_MS + history_minutes * MINUTE_MS,
        history_days=(history_minutes + 600) / 1_440,
        **options,
    )


# --- without faults ---


@pytest.mark.parametrize("name", EXCHANGES)
async def test_history_and_then_the_stream_give_every_minute_once_with_its_values(name):
    end = START_MS + 400 * MINUTE_MS
    async with simulated() as exchange, feeding(name, exchange.url) as (feed, report, task):
        taken = await take_until(feed, task, end)
        check(name, exchange, taken, START_MS, end)
    assert report.letters == []
    assert report.alarms == []
    origins = {origin for each in taken.origins.values() for origin in each.values()}
    traded = {Origin.TRADED} if name != "coinbase" else set()
    assert {Origin.BACKFILLED, *traded} <= origins <= {Origin.BACKFILLED, Origin.SYNTHETIC, *traded}
    assert set(feed.seen_ms) == set(SYMBOLS)
    assert feed.exchange_now_ms > end


@pytest.mark.parametrize("name", EXCHANGES)
async def test_a_feed_that_was_killed_goes_on_with_the_next_minute(name):
    end = START_MS + 300 * MINUTE_MS
    async with simulated() as exchange:
        taken = Taken(SYMBOLS)
        for stop in (40, 130, 131, 300):
            resume = {s: int(at) for s, at in zip(SYMBOLS, taken.known_to, strict=True) if at != NULL_MS}
            async with feeding(name, exchange.url, resume=resume) as (feed, _, task):
                await take_until(feed, task, START_MS + stop * MINUTE_MS, taken=taken, max_rows=50)
        check(name, exchange, taken, START_MS, end)


@pytest.mark.parametrize("name", EXCHANGES)
async def test_without_a_start_it_begins_with_the_minute_in_progress(name):
    async with (
        simulated(speed=1_200) as exchange,
        feeding(name, exchange.url, start_ms=None, paced=False) as (feed, _, task),
    ):
        async with asyncio.timeout(PATIENCE_S):
            batch = None
            while batch is None or not len(batch.candles):
                batch = await feed.next(max_rows=10, timeout_s=0.2)
        first = int(batch.candles.open_time_ms.min())
        assert START_MS + HISTORY_MINUTES * MINUTE_MS <= first
        taken = Taken(SYMBOLS)
        taken.take(batch)
        assert batch.as_of_ms >= first + MINUTE_MS
        to_ms = first + 20 * MINUTE_MS
        await take_until(feed, task, to_ms, taken=taken)
        check(name, exchange, taken, first, to_ms)


# --- faults ---

FAULTS = {
    "frames lost": {"missing": {"probability": 0.05, "seed": 1}},
    "frames doubled": {"duplicates": {"probability": 0.3, "seed": 2}},
    "frames out of order": {"disorder": {"probability": 0.2, "seed": 3}},
    "frames cut short": {"truncated": {"probability": 0.05, "seed": 4}},
    "nonsense between frames": {"garbage": {"probability": 0.2, "seed": 5}},
    "connection cut": {"cut": {"probability": 0.02, "count": 4, "seed": 6}},
    "history refuses": {"429": {"probability": 0.3, "count": 2, "delay_s": 1}},
    "history bans": {"418": {"count": 1, "delay_s": 1}},
    "history fails": {"5xx": {"probability": 0.3, "count": 10, "seed": 7}},
    "history answers half": {"truncated_rest": {"probability": 0.3, "count": 10, "seed": 8}},
    "history breaks off": {"cut_rest": {"probability": 0.3, "count": 10, "seed": 9}},
    "minutes that never were": {"halt": {"probability": 0.05, "count": 8, "seed": 10}},
    "all at once": {
        "missing": {"probability": 0.03},
        "duplicates": {"probability": 0.1},
        "disorder": {"probability": 0.1},
        "garbage": {"probability": 0.05},
        "truncated": {"probability": 0.02},
        "cut": {"probability": 0.005, "count": 3},
        "5xx": {"probability": 0.1, "count": 10},
        "truncated_rest": {"probability": 0.1, "count": 10},
        "halt": {"probability": 0.02, "count": 5},
    },
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", EXCHANGES)
async def test_the_same_candles_come_out_in_spite_of(name, fault):
    end = START_MS + 300 * MINUTE_MS
    async with simulated() as exchange, feeding(name, exchange.url) as (feed, _, task):
        exchange.faults.set(FAULTS[fault])
        taken = await take_until(feed, task, end)
        check(name, exchange, taken, START_MS, end)
        struck = sum(exchange.faults.counts[switch] for switch in FAULTS[fault])
        # Where there are no candle frames, there may be too few frames at all for rare faults.
        assert struck > 0 or name == "coinbase"


@pytest.mark.parametrize("name", EXCHANGES)
async def test_values_that_change_after_their_minute_went_out_come_as_revisions(name):
    end = START_MS + 300 * MINUTE_MS
    async with simulated() as exchange, feeding(name, exchange.url) as (feed, report, task):
        exchange.faults.set({"revisions": {"probability": 0.1, "seed": 3}})
        taken = await take_until(feed, task, end - 20 * MINUTE_MS)
        exchange.faults.set({"all": False})
        await take_until(feed, task, end, taken=taken)
        check(name, exchange, taken, START_MS, end)
        assert name == "coinbase" or exchange.faults.counts["revisions"] > 0
        assert name == "coinbase" or report.counts["revisions"] > 0


@pytest.mark.parametrize("name", EXCHANGES)
async def test_a_silent_stream_costs_no_minute_and_is_connected_again(name):
    async with (
        simulated(speed=1_200) as exchange,
        feeding(name, exchange.url, paced=False, settings=replace(SETTINGS, idle_s=0.5)) as (
            feed,
            report,
            task,
        ),
    ):
        taken = await take_until(feed, task, START_MS + 70 * MINUTE_MS)
        if name == "coinbase":
            exchange.faults.set({"silence": {"duration_s": 2.0}})
        else:
            # not over before it was noticed
            exchange.faults.set({"silence": {"duration_s": PATIENCE_S}})
            async with asyncio.timeout(PATIENCE_S):
                while "silent_socket" not in {kind for kind, *_ in report.alarms}:
                    batch = await feed.next(max_rows=1_000, timeout_s=0.05)
                    if batch is not None:
                        taken.take(batch)
            exchange.faults.set({"all": False})
        end = START_MS + 140 * MINUTE_MS
        await take_until(feed, task, end, taken=taken)
        check(name, exchange, taken, START_MS, end)
    if name != "coinbase":
        assert report.counts["reconnects"] > 0


@pytest.mark.parametrize("name", EXCHANGES)
async def test_a_server_that_dies_and_comes_back_costs_no_minute(name, tmp_path):
    clock_file = tmp_path / "clock.json"
    settings = replace(SETTINGS, idle_s=0.5, stale_data_s=1.0)
    # not one that any outgoing connection might take while the server is away
    (port,) = free_ports(1)
    async with (
        simulated(speed=1_200, clock_file=clock_file, port=port) as first,
        feeding(name, first.url, paced=False, settings=settings) as (feed, report, task),
    ):
        taken = await take_until(feed, task, START_MS + 80 * MINUTE_MS)
        await first.stop()
        async with asyncio.timeout(PATIENCE_S):
            while "dead_feed" not in {kind for kind, *_ in report.alarms}:
                late = await feed.next(max_rows=1, timeout_s=0.05)
                if late is not None:
                    taken.take(late)
        async with simulated(speed=1_200, clock_file=clock_file, port=port) as second:
            end = START_MS + 130 * MINUTE_MS
            await take_until(feed, task, end, taken=taken)
            check(name, second, taken, START_MS, end)
        assert "feed_alive" in {kind for kind, *_ in report.alarms}

"""The feed against a simulated exchange: history in order, slow readers, late listings, back-fill."""

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import orjson
import pytest

from exchanges.feed import Feed, FeedSettings, UnknownSymbolError
from exchanges.generator import GeneratedMarket
from exchanges.recording import RecordedMarket
from exchanges.simulated import SimulatedExchange
from schemas.frames import MINUTE_MS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
START_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
SETTINGS = FeedSettings(stale_data_s=20.0)


class Report:
    def __init__(self):
        self.letters, self.alarms, self.counts = [], [], {}
        self.dropped = asyncio.Event()

    def dead_letter(self, kind, raw, symbol, error):
        self.letters.append((kind, raw, symbol))

    def alarm(self, kind, message, symbol):
        self.alarms.append((kind, message, symbol))

    def count(self, name, n):
        self.counts[name] = self.counts.get(name, 0) + n
        if name == "dropped_frames":
            self.dropped.set()


@asynccontextmanager
async def feeding(url, **options):
    report = Report()
    options = {
        "exchange": "binanceus",
        "symbols": SYMBOLS,
        "resume": {},
        "start_ms": START_MS,
        "paced": True,
        "settings": SETTINGS,
    } | options
    feed = Feed(base_url=url, report=report, **options)
    task = asyncio.create_task(feed.run())
    try:
        yield feed, report, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def simulated(*, speed=math.inf, history_minutes=600, market=None, **options):
    return SimulatedExchange(
        market or GeneratedMarket(SYMBOLS, seed=5),
        speed=speed,
        start_ms=START_MS + history_minutes * MINUTE_MS,
        history_days=history_minutes / 1_440,
        **({"limited": False, "window_minutes": 30} | options),
    )


async def batches_until(feed, task, to_ms, *, max_rows=500, timeout_s=300.0):
    got, known_to = [], -math.inf
    async with asyncio.timeout(timeout_s):
        while known_to < to_ms:
            batch = await feed.next(max_rows=max_rows, timeout_s=0.2)
            if task.done():
                task.result()
            if batch is not None:
                got.append(batch)
                known_to = int(batch.known_to_ms.min())
                await feed.acknowledge(known_to)
    return got


def times(batches):
    return np.concatenate([batch.candles.open_time_ms for batch in batches])


async def test_history_comes_in_order_of_time_across_symbols_and_batches():
    async with simulated() as exchange, feeding(exchange.url) as (feed, _, task):
        got = await batches_until(feed, task, START_MS + 560 * MINUTE_MS, max_rows=100)
    history = times(got)
    history = history[history < START_MS + 550 * MINUTE_MS]
    assert np.all(np.diff(history) >= 0)
    assert len(history) == 550 * len(SYMBOLS)
    assert all(len(batch.candles) <= 100 for batch in got)


async def test_a_small_buffer_is_never_exceeded_by_more_than_a_page_and_loses_nothing():
    settings = replace(SETTINGS, buffer_rows=600)
    async with (
        simulated(speed=6_000) as exchange,
        feeding(exchange.url, settings=settings, paced=False) as (feed, report, task),
    ):
        async with asyncio.timeout(300):
            await report.dropped.wait()  # nobody takes anything until the buffer is full
        assert len(feed._outflow) <= 600 + 2 * 200
        end = feed.exchange_now_ms // MINUTE_MS * MINUTE_MS
        got = await batches_until(feed, task, end)
        rows = times(got)
        assert len(rows[rows <= end]) == ((end - START_MS) // MINUTE_MS + 1) * len(SYMBOLS)
    assert "buffer_full" in {kind for kind, *_ in report.alarms}


async def test_request_limits_of_the_exchange_are_met_with_patience_and_not_with_a_ban():
    async with (
        simulated(history_minutes=2_500, limited=True) as exchange,
        feeding(exchange.url, exchange="coinbase") as (feed, report, task),
    ):
        got = await batches_until(feed, task, START_MS + 2_400 * MINUTE_MS, max_rows=5_000)
    assert len(times(got)) >= 2_401 * len(SYMBOLS)
    assert "rate_limit" in {kind for kind, *_ in report.alarms}


async def test_a_symbol_that_is_not_listed_holds_nobody_back():
    async with (
        simulated() as exchange,
        feeding(exchange.url, symbols=("BTCUSDT", "BTCUSDX")) as (feed, report, task),
    ):
        got = await batches_until(feed, task, START_MS + 620 * MINUTE_MS)
    assert len(times(got)) >= 621
    assert [kind for kind, _, symbol in report.alarms if symbol == "BTCUSDX"] == ["unknown_symbol"]


async def test_a_feed_of_nothing_but_unknown_symbols_ends_with_their_names():
    async with simulated() as exchange, feeding(exchange.url, symbols=("NOSUCH",)) as (_, _, task):
        with pytest.raises(UnknownSymbolError, match="NOSUCH is not listed on binanceus"):
            async with asyncio.timeout(120):
                await task


async def test_backfill_gives_what_the_history_has_and_revises_only_what_is_not_remembered():
    async with simulated() as exchange, feeding(exchange.url) as (feed, _, task):
        await batches_until(feed, task, START_MS + 650 * MINUTE_MS)
        from_ms, to_ms = START_MS + 640 * MINUTE_MS, START_MS + 645 * MINUTE_MS
        frame = await feed.backfill("ETHUSDT", from_ms, to_ms)
        assert frame.open_time_ms.tolist() == list(range(from_ms, to_ms, MINUTE_MS))
        truth = exchange.tape.truth("ETHUSDT", from_ms, to_ms)
        assert frame.ohlcv.tolist() == [list(row[1:]) for row in truth]
        batch = await feed.next(max_rows=1, timeout_s=0.0)
        assert batch is None or not len(batch.revisions)

        await feed.backfill("ETHUSDT", START_MS, START_MS + 3 * MINUTE_MS)
        batch = await feed.next(max_rows=1, timeout_s=60.0)
        assert batch.revisions.open_time_ms.tolist() == [START_MS + n * MINUTE_MS for n in range(3)]
        with pytest.raises(UnknownSymbolError, match="NOSUCH is not fed"):
            await feed.backfill("NOSUCH", 0, 1)


async def test_a_dead_letter_is_replayed_once_it_can_be_read():
    async with simulated() as exchange, feeding(exchange.url) as (feed, _, task):
        got = await batches_until(feed, task, START_MS + 650 * MINUTE_MS)
        t = START_MS + 640 * MINUTE_MS
        row = exchange.tape.truth("BTCUSDT", t, t + MINUTE_MS)[0]
        same = orjson.dumps({"symbol": "BTCUSDT", "history": row}).decode()
        assert feed.replay_dead_letter(same) == ["known"]
        fields = dict(zip("ohlcv", (str(value) for value in row[1:]), strict=True))
        fields["v"] = "123.5"
        frame = {"e": "kline", "k": {"t": t, "s": "BTCUSDT", "i": "1m", "x": True, **fields}}
        assert feed.replay_dead_letter(orjson.dumps(frame).decode()) == ["revised"]
        batch = await feed.next(max_rows=1, timeout_s=60.0)
        assert batch.revisions.ohlcv[0, 4] == 123.5
        for raw in ("{", '{"e":"kline","k":{}}', '{"symbol":"NOSUCH","history":[60000,1,1,1,1,1]}'):
            with pytest.raises(ValueError, match="still"):
                feed.replay_dead_letter(raw)
        assert len(times(got)) > 0


async def test_symbols_that_begin_and_end_at_different_minutes_come_out_as_recorded(tmp_path):
    spans = {"AAAUSDT": (0, 120), "BBBUSDT": (50, 200), "CCCUSDT": (0, 200)}
    for symbol, (first, last) in spans.items():
        lines = ["timestamp,open,high,low,close,volume"]
        lines += [
            f"{START_MS + n * MINUTE_MS},1,2,0.5,{1 + n / 1000},7"
            for n in range(first, last)
            if not 90 <= n < 115  # a halt
        ]
        (tmp_path / f"{symbol}-1m.csv").write_text("\n".join(lines) + "\n")
    market = RecordedMarket(tmp_path)
    symbols = tuple(spans)
    end = START_MS + 199 * MINUTE_MS
    async with SimulatedExchange(market, speed=math.inf, limited=False, window_minutes=30) as exchange:
        rows, resume = [], {}
        for stop in (60, 100, 150, 199):  # killed and started again in between
            async with feeding(exchange.url, symbols=symbols, resume=resume) as (feed, _, task):
                for batch in await batches_until(feed, task, START_MS + stop * MINUTE_MS, max_rows=40):
                    frame = batch.candles
                    rows += zip(
                        frame.symbol_index.tolist(),
                        frame.open_time_ms.tolist(),
                        frame.ohlcv[:, 3].tolist(),
                        strict=True,
                    )
                    resume = dict(zip(symbols, batch.known_to_ms.tolist(), strict=True))
        for index, symbol in enumerate(symbols):
            truth = market.candles(symbol, START_MS, end + MINUTE_MS)
            assert [(t, close) for i, t, close in rows if i == index] == [
                (int(row[0]), row[4]) for row in truth.tolist()
            ]


@pytest.mark.slow
async def test_recorded_candles_come_out_exactly_as_recorded_over_a_real_halt(recorded):
    day = 86_400_000
    from_ms = 1_618_790_400_000  # 2021-04-19; the exchange halted for 150 minutes on the 20th
    market = RecordedMarket(recorded / "six-2021-04", from_ms=from_ms, to_ms=from_ms + 2 * day)
    async with (
        SimulatedExchange(market, speed=math.inf, limited=False) as exchange,
        feeding(exchange.url, symbols=market.symbols, start_ms=from_ms) as (feed, report, task),
    ):
        got = await batches_until(feed, task, from_ms + 2 * day - MINUTE_MS, max_rows=5_000)
    for index, symbol in enumerate(market.symbols):
        mine = [batch.candles.rows(batch.candles.symbol_index == index) for batch in got]
        truth = market.candles(symbol, from_ms, from_ms + 2 * day)
        assert np.array_equal(np.concatenate([frame.open_time_ms for frame in mine]), truth[:, 0])
        assert np.array_equal(np.concatenate([frame.ohlcv for frame in mine]), truth[:, 1:])
    assert {kind for kind, *_ in report.alarms} <= {"absent", "halt"}
    assert report.counts["absent_minutes"] >= 150 * 6

"""Bytes from outside: whatever they are, a parser reads them, names what is wrong, or leaves them alone."""

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from aiohttp import WSMsgType
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.market.candle import Candle
from exchanges import connection
from exchanges.alarms import Alarms
from exchanges.connection import (
    EXCHANGES,
    FrameFault,
    Tick,
    Update,
    _heard,
    load_plugin,
    make_exchange,
    parse_frame,
)
from exchanges.exchange_clock import ExchangeClock
from exchanges.feed import Feed, FeedSettings
from exchanges.frame_reader import FrameReader
from exchanges.history import _read
from exchanges.listing import Listing, UnknownSymbolError

KLINE = (
    b'{"e":"kline","E":120000,"s":"BTCUSDT","k":{"t":60000,"s":"BTCUSDT","i":"1m",'
    b'"o":"1","h":"2","l":"0.5","c":"1.5","v":"9","x":true}}'
)
BYBIT = (
    b'{"topic":"kline.1.BTCUSDT","ts":120000,"data":[{"start":60000,'
    b'"open":"1","high":"2","low":"0.5","close":"1.5","volume":"9","confirm":true}]}'
)
TRADES = (
    b'{"channel":"market_trades","events":[{"trades":[{"trade_id":"7","product_id":"BTC-USDT",'
    b'"price":"1.5","size":"2","side":"BUY","time":"1970-01-01T00:01:00.001Z"}]}]}'
)
SAMPLES = {"binanceus": KLINE, "bybit": BYBIT, "coinbase": TRADES}
MARKETS = {"BTC/USDT": {"base": "BTC", "quote": "USDT", "spot": True, "symbol": "BTC/USDT", "id": "BTCUSDT"}}


class Report:
    def __init__(self) -> None:
        self.letters: list[tuple[str, str, str | None]] = []
        self.alarms: list[tuple[str, str]] = []
        self.counts: dict[str, int] = {}

    def dead_letter(self, kind, raw, symbol, error):
        self.letters.append((kind, raw, symbol))

    def alarm(self, kind, message, symbol):
        self.alarms.append((kind, message))

    def count(self, name, n):
        self.counts[name] = self.counts.get(name, 0) + n


def reader_of(name: str = "binanceus") -> tuple[FrameReader, Report, list[Candle]]:
    report, closed = Report(), []
    alarms = Alarms(report, 3_600.0)
    listing = Listing(name, ("BTCUSDT",), alarms)
    market_id = {"coinbase": "BTC-USDT"}.get(name, "BTCUSDT")
    listing.update({"BTC/USDT": MARKETS["BTC/USDT"] | {"id": market_id}})

    async def ask() -> int:
        return 120_000

    clock = ExchangeClock(ask, virtual=True)
    asyncio.run(clock.refresh())
    reader = FrameReader(
        plugin=load_plugin(name),
        listing=listing,
        clock=clock,
        virtual=True,
        grace_ms=5_000,
        alarms=alarms,
        closed=lambda _, candle: closed.append(candle),
        heard=lambda: None,
    )
    return reader, report, closed


def test_a_flagged_kline_is_read():
    expected = Update("BTCUSDT", Candle(60_000, 1.0, 2.0, 0.5, 1.5, 9.0), True, 120_000)
    assert load_plugin("binanceus").read(orjson.loads(KLINE)) == (expected,)
    assert load_plugin("bybit").read(orjson.loads(BYBIT)) == [expected]
    assert load_plugin("coinbase").read(orjson.loads(TRADES)) == [Tick("BTC-USDT", 1.5, 60_001)]


@pytest.mark.parametrize("name", EXCHANGES)
def test_frames_about_other_things_are_left_to_ccxt(name):
    plugin = load_plugin(name)
    for message in (
        {},
        {"result": None, "id": 1},
        {"op": "pong"},
        {"channel": "subscriptions", "events": []},
    ):
        assert plugin.read(message) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXCHANGES)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), cut=st.integers(0, 250), value=VALUES, place=st.integers(0, 20))
@example(data=b"\xff\xfe", cut=3, value=None, place=0)
@example(data=b"[1,2,3]", cut=20, value="nan", place=6)
def test_no_bytes_make_a_parser_raise_anything_but_a_named_fault(name, data, cut, value, place):
    sample = SAMPLES[name]
    mutated = _with(orjson.loads(sample), value, place)
    for frame in (data, sample[:cut], sample[:cut] + data, data.decode("latin-1"), mutated):
        with contextlib.suppress(FrameFault):
            message = frame if isinstance(frame, dict) else parse_frame(frame)
            for item in load_plugin(name).read(message) or ():
                assert isinstance(item, (Update, Tick))


def _with(message: dict, value: object, place: int) -> dict:
    """Put a value in the place of some part of a message."""
    spots: list[tuple[object, object]] = []

    def walk(node: object) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, inner in items:
            spots.append((node, key))
            walk(inner)

    walk(message)
    node, key = spots[place % len(spots)]
    node[key] = value
    return message


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=7) | VALUES, max_size=5))
def test_whatever_rows_the_history_holds_only_possible_candles_come_out(rows):
    answer = _read(rows, 0, 10**13)
    for row in answer.rows:
        assert 0 < row.low <= row.close <= row.high
        assert row.open_time_ms <= 10**13


def test_of_two_versions_of_a_minute_in_one_answer_the_answer_is_called_bad():
    row = [60_000, 1.0, 2.0, 0.5, 1.5, 9.0]
    answer = _read([row, [60_000, 1.0, 2.0, 0.5, 1.0, 9.0], [120_000, 1, 1, 1, 1, 1]], 0, 60_000)
    assert [kind for _, kind, _ in answer.bad] == ["malformed", "future"]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (KLINE[:40], "malformed"),
        (b"hello", "malformed"),
        (b"null", "malformed"),
        (b"[1,2,3]", "malformed"),
        (KLINE.replace(b'"l":"0.5"', b'"l":"nan"'), "not_finite"),
        (KLINE.replace(b'"h":"2"', b'"h":"0.1"'), "range"),
        (KLINE.replace(b'"o":"1"', b'"o":"-1"'), "price"),
        (KLINE.replace(b'"v":"9"', b'"v":"-9"'), "volume"),
        (KLINE.replace(b'"c":"1.5"', b'"c":"3"'), "outside"),
        (KLINE.replace(b'"t":60000', b'"t":60017'), "unaligned"),
        (KLINE.replace(b'"t":60000', b'"t":86460000'), "future"),
        (KLINE.replace(b'"s":"BTCUSDT","i"', b'"s":"NOSUCH","i"'), "wrong_symbol"),
        (KLINE.replace(b'"i":"1m"', b'"i":"5m"'), "wrong_symbol"),
    ],
)
def test_garbage_becomes_a_dead_letter_with_its_raw_input_and_nothing_else(frame, kind):
    reader, report, closed = reader_of()
    assert reader.on_data(frame)
    assert report.letters == [(kind, frame.decode(), report.letters[0][2])]
    assert report.counts == {"dead_letters": 1}
    assert closed == []
    reader.on_data(frame)
    assert len(report.letters) == 2
    assert len(report.alarms) == 1, "an alarm once per kind"
    assert frame.decode()[:20] in report.alarms[0][1]
    assert reader.on_data(KLINE)
    assert len(closed) == 1


def test_a_frame_that_ccxt_cannot_handle_makes_the_connection_start_again_and_not_stop():
    reader, _, _ = reader_of("coinbase")
    errors = []
    client = SimpleNamespace(dropped=False, on_error=errors.append)

    def inner(message):
        raise TypeError("ccxt did not expect this")

    error = SimpleNamespace(type=WSMsgType.TEXT, data='{"type":"error","message":"rate limit exceeded"}')
    _heard(reader, client, inner, error)
    assert "did not expect" in str(errors[0])


def test_a_symbol_that_is_not_listed_is_named_with_the_nearest_and_the_others_go_on():
    report = Report()
    listing = Listing("bybit", ("BTCUSDT", "BTCUSDX"), Alarms(report, 3_600.0))
    assert listing.update(MARKETS)
    assert listing.pairs == {"BTCUSDT": "BTC/USDT"}
    kind, message = report.alarms[0]
    assert kind == "unknown_symbol"
    assert "BTCUSDX is not listed on bybit" in message
    assert "BTCUSDT" in message


def test_no_listed_symbol_at_all_is_an_error_that_says_so():
    with pytest.raises(UnknownSymbolError, match="NOSUCH is not listed on bybit"):
        Listing("bybit", ("NOSUCH",), Alarms(Report(), 3_600.0)).update(MARKETS)


def test_every_plug_in_file_is_on_the_list_that_the_battery_runs_over():
    folder = Path(connection.__file__).parent
    assert {file.stem for file in folder.glob("*.py") if "\nPLUGIN = " in file.read_text()} == set(EXCHANGES)


async def test_an_exchange_that_cannot_be_reached_is_named_at_once_and_tried_for_ever():
    report = Report()
    feed = Feed(
        exchange="bybit",
        symbols=("BTCUSDT",),
        resume={},
        start_ms=0,
        base_url="http://127.0.0.1:9",
        paced=False,
        settings=FeedSettings(stale_data_s=0.5),
        report=report,
    )
    task = asyncio.create_task(feed.run())
    async with asyncio.timeout(120):
        # which of them comes first is a matter of how fast a connection is refused
        while not {"history", "dead_feed"} <= {kind for kind, _ in report.alarms}:
            assert await feed.next(max_rows=1, timeout_s=0.05) is None
    first = next(message for kind, message in report.alarms if kind == "history")
    assert "bybit cannot be reached" in first
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_an_exchange_without_a_plug_in_is_refused_by_name():
    with pytest.raises(ValueError, match="'kraken' is not known; there are binanceus, bybit, coinbase"):
        load_plugin("kraken")


def test_a_real_exchange_cannot_be_paced():
    with pytest.raises(ValueError, match="only a simulated exchange can be paced"):
        Feed(
            exchange="bybit",
            symbols=("BTCUSDT",),
            resume={},
            start_ms=None,
            base_url=None,
            paced=True,
            settings=FeedSettings(),
            report=Report(),
        )


@pytest.mark.parametrize("name", EXCHANGES)
async def test_a_real_exchange_is_asked_at_its_own_addresses_and_within_its_limits(name):
    reader = SimpleNamespace()
    exchange = make_exchange(
        load_plugin(name), listener=reader, base_url=None, request_timeout_s=10, keep_alive_s=15
    )
    try:
        addresses = orjson.dumps(exchange.urls["api"]).decode()
        assert "127.0.0.1" not in addresses
        assert exchange.options["ws"]["keepAlive"] == 15_000
        assert exchange.rateLimit == load_plugin(name).rate_limit_ms
    finally:
        await exchange.close()


@pytest.mark.parametrize(
    ("name", "url", "answer", "is_good"),
    [
        ("binanceus", "http://x/api/v3/klines?symbol=A", [], True),
        ("binanceus", "http://x/api/v3/klines?symbol=A", "[[1,", False),
        ("binanceus", "http://x/api/v3/klines?symbol=A", {}, False),
        ("binanceus", "http://x/api/v3/klines?symbol=A", [[1]], False),
        ("binanceus", "http://x/api/v3/exchangeInfo", {}, False),
        ("binanceus", "http://x/api/v3/time", {"serverTime": 1}, True),
        ("bybit", "http://x/v5/market/kline?a=1", {"retCode": 0, "result": {"list": []}}, True),
        ("bybit", "http://x/v5/market/kline?a=1", {"retCode": 0, "result": {}}, False),
        ("bybit", "http://x/v5/market/kline?a=1", None, False),
        ("bybit", "http://x/v5/market/time", {"retCode": 0, "time": 1}, True),
        ("coinbase", "http://x/api/v3/brokerage/market/products/A-B/candles?s=1", {"candles": []}, True),
        ("coinbase", "http://x/api/v3/brokerage/market/products/A-B/candles?s=1", "<html>", False),
        ("coinbase", "http://x/api/v3/brokerage/market/products", {}, False),
        ("coinbase", "http://x/v2/time", {"data": {"epoch": 1}}, True),
    ],
)
def test_an_answer_without_the_promised_shape_is_not_taken_for_an_empty_one(name, url, answer, is_good):
    assert load_plugin(name).is_good_answer(url, answer) is is_good

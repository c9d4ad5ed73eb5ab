"""ccxt's own classes against the simulated exchange, over loopback."""

import asyncio
import math
from contextlib import asynccontextmanager

import aiohttp
import ccxt.pro
import orjson
import pytest
from ccxt.base.errors import BadSymbol, ExchangeError

from exchanges.generator import GeneratedMarket
from exchanges.simulated import SimulatedExchange
from exchanges.simulation.market import DAY_MS
from exchanges.simulation.protocols import bybit
from schemas.frames import MINUTE_MS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "HBARUSDT")
START = 1_714_521_600_000 + 3 * DAY_MS + 30_000
NAMES = ("binanceus", "bybit", "coinbase")
#: What only keeps a test from hanging for ever.
PATIENCE_S = 120.0


def make_client(name, port):
    base = f"127.0.0.1:{port}"
    if name == "binanceus":
        api = {"public": f"http://{base}/api/v3", "ws": {"spot": f"ws://{base}/stream/ws"}}
        return ccxt.pro.binanceus({"urls": {"api": api}})
    if name == "bybit":
        client = ccxt.pro.bybit(
            {"rateLimit": 2, "options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}}
        )
        client.urls["api"]["public"] = f"http://{base}"
        client.urls["api"]["ws"]["public"]["spot"] = f"ws://{base}/v5/public/spot"
        return client
    client = ccxt.pro.coinbase({"rateLimit": 1})
    client.urls["api"]["rest"] = f"http://{base}"
    client.urls["api"]["ws"] = f"ws://{base}/cb"
    return client


@asynccontextmanager
async def playing(name, *, speed=60.0, history_days=3.0, limited=False, symbols=SYMBOLS, **options):
    market = GeneratedMarket(symbols, seed=7)
    server = SimulatedExchange(
        market, speed=speed, start_ms=START, history_days=history_days, limited=limited, **options
    )
    async with server:
        client = make_client(name, server.port)
        try:
            yield server, client
        finally:
            await client.close()


async def get(server, path, **query):
    async with aiohttp.ClientSession() as http, http.get(server.url + path, params=query) as answer:
        return answer.status, dict(answer.headers), orjson.loads(await answer.read())


async def post(server, path, body):
    async with aiohttp.ClientSession() as http, http.post(server.url + path, json=body) as answer:
        return answer.status, await answer.json()


async def holds(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the loop itself brings the condition about
            await asyncio.sleep(0)


async def reached(server, time_ms):
    await holds(lambda: server.clock.now_ms() >= time_ms)


@pytest.mark.parametrize("name", NAMES)
async def test_markets_time_and_prices_are_there(name):
    async with playing(name) as (server, client):
        markets = await client.load_markets()
        assert sorted(markets) == ["BTC/USDT", "ETH/USDT", "HBAR/USDT"]
        assert all(market["active"] for market in markets.values() if market["active"] is not None)
        before = server.clock.now_ms()
        assert before - 1_000 <= await client.fetch_time() <= server.clock.now_ms()
        ticker = await client.fetch_ticker("BTC/USDT")
        book = await client.fetch_order_book("BTC/USDT")
        trades = await client.fetch_trades("BTC/USDT")
        assert ticker["last"] == pytest.approx(book["bids"][0][0], rel=0.05)
        assert book["bids"][0][0] < book["asks"][0][0]
        assert trades[-1]["timestamp"] <= server.clock.now_ms()


@pytest.mark.parametrize("name", NAMES)
async def test_three_days_come_in_pages_without_a_gap_and_equal_the_truth(name):
    async with playing(name, speed=1.0) as (server, client):
        await client.load_markets()
        for symbol in ("BTCUSDT", "HBARUSDT"):
            pair = symbol.replace("USDT", "/USDT")
            rows, since = [], server.tape.first_ms
            while page := await client.fetch_ohlcv(pair, "1m", since=since, limit=1_000):
                rows += page
                since = page[-1][0] + MINUTE_MS
            closed = [tuple(row) for row in rows if row[0] + MINUTE_MS <= START]
            truth = server.tape.truth(symbol, server.tape.first_ms, START - START % MINUTE_MS)
            assert len(truth) == 3 * 1_440
            if name == "coinbase":
                truth = [row for row in truth if row[5] > 0]
            assert closed == truth


@pytest.mark.parametrize("name", ["binanceus", "bybit"])
async def test_the_last_row_is_the_minute_in_progress_and_not_its_final_value(name):
    async with playing(name, speed=0.001) as (server, client):
        rows = await client.fetch_ohlcv("BTC/USDT", "1m")
        minute = START - START % MINUTE_MS
        final = server.tape.row("BTCUSDT", minute)
        assert rows[-1][0] == minute
        assert 0 < rows[-1][5] < final[5]


@pytest.mark.parametrize("name", ["binanceus", "bybit"])
async def test_closed_minutes_on_the_socket_equal_rest_and_the_truth(name):
    async with playing(name, speed=math.inf) as (server, client):
        await client.load_markets()
        closed = {}

        def note(client, message, original=client.handle_ohlcv):
            for row in flagged(message):
                closed.setdefault(row[0], []).append(row[1:])
            original(client, message)

        client.handle_ohlcv = note
        await client.watch_ohlcv_for_symbols([["BTC/USDT", "1m"], ["HBAR/USDT", "1m"]])
        await reached(server, START + 200 * MINUTE_MS)
        until = server.clock.now_ms() // MINUTE_MS * MINUTE_MS
        first = START - START % MINUTE_MS
        for symbol in ("BTCUSDT", "HBARUSDT"):
            await holds(lambda symbol=symbol: len(closed.get(symbol, [])) >= (until - first) // MINUTE_MS)
            truth = server.tape.truth(symbol, first, until)
            assert closed[symbol][: len(truth)] == truth
            pair = symbol.replace("USDT", "/USDT")
            page = await client.fetch_ohlcv(pair, "1m", since=first, limit=200)
            assert [tuple(row) for row in page] == truth[:200]


def flagged(message):
    if "k" in message:
        k = message["k"]
        if k["x"]:
            yield (k["s"], k["t"], *(float(k[x]) for x in "ohlcv"))
        return
    for d in message["data"]:
        if d["confirm"]:
            values = (float(d[x]) for x in ("open", "high", "low", "close", "volume"))
            yield (message["topic"].rpartition(".")[2], d["start"], *values)


@pytest.mark.parametrize("name", ["binanceus", "bybit"])
async def test_candles_in_progress_grow_at_low_speed(name):
    async with playing(name, speed=60.0) as (_, client):
        seen = []
        async with asyncio.timeout(PATIENCE_S):
            while len({row[5] for row in seen}) < 3:
                seen += [list(row) for row in await client.watch_ohlcv("BTC/USDT", "1m")]
        assert all(row[0] % MINUTE_MS == 0 for row in seen)


@pytest.mark.parametrize("name", NAMES)
async def test_trades_on_the_socket_add_up_to_the_candle(name):
    async with playing(name, speed=60.0) as (server, client):
        client.options["tradesLimit"] = 10_000
        found, newest, minute = {}, 0, math.inf
        async with asyncio.timeout(PATIENCE_S):
            while newest < minute + 2 * MINUTE_MS:
                for trade in await client.watch_trades("BTC/USDT"):
                    found[trade["id"]] = trade
                    newest = max(newest, trade["timestamp"])
                # the first minute that is heard from its beginning, however long the subscription took
                minute = min(minute, newest - newest % MINUTE_MS + MINUTE_MS)
        inside = [t for t in found.values() if minute <= t["timestamp"] < minute + MINUTE_MS]
        inside.sort(key=lambda trade: trade["timestamp"])
        row = server.tape.row("BTCUSDT", minute)
        prices = [trade["price"] for trade in inside]
        assert (prices[0], max(prices), min(prices), prices[-1]) == row[1:5]
        assert sum(trade["amount"] for trade in inside) == pytest.approx(row[5])


@pytest.mark.parametrize("name", NAMES)
async def test_a_ticker_arrives_on_the_socket(name):
    async with playing(name) as (server, client), asyncio.timeout(PATIENCE_S):
        ticker = await client.watch_ticker("ETH/USDT")
        assert ticker["last"] == pytest.approx(server.tape.last_price("ETHUSDT", START), rel=0.05)


async def test_coinbase_sends_heartbeats_and_ccxt_keeps_the_rest_apart():
    async with playing("coinbase") as (server, client):
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{server.url}/cb") as socket:
            await socket.send_json({"type": "subscribe", "channel": "heartbeats"})
            messages = [orjson.loads((await socket.receive(timeout=PATIENCE_S)).data) for _ in range(4)]
        assert messages[0]["channel"] == "subscriptions"
        assert [message["channel"] for message in messages[1:]] == ["heartbeats"] * 3
        numbers = [message["sequence_num"] for message in messages]
        assert numbers == [0, 1, 2, 3]
        counters = [message["events"][0]["heartbeat_counter"] for message in messages[1:]]
        assert counters == [counters[0], counters[0] + 1, counters[0] + 2]
        await client.load_markets()


@pytest.mark.parametrize("name", NAMES)
async def test_an_unknown_symbol_is_refused_as_the_real_one_does(name):
    async with playing(name) as (_, client):
        markets = await client.load_markets()
        fake = dict(markets["BTC/USDT"], symbol="NO/USDT", id="NO-USDT" if name == "coinbase" else "NOUSDT")
        client.markets["NO/USDT"] = fake
        with pytest.raises(BadSymbol if name != "coinbase" else ExchangeError):
            await client.fetch_ohlcv("NO/USDT", "1m", since=START - DAY_MS)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/api/v3/klines", {"symbol": "NOUSDT", "interval": "1m"}, 400, {"code": -1121}),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "7m"}, 400, {"code": -1120}),
        ("/api/v3/klines", {"symbol": "BTCUSDT"}, 400, {"code": -1102}),
        ("/api/v3/klines", {"interval": "1m"}, 400, {"code": -1102}),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, 400, {"code": -1100}),
        ("/v5/market/kline", {"category": "spot", "symbol": "NO", "interval": "1"}, 200, {"retCode": 10001}),
        ("/api/v3/brokerage/market/products/NO-USDT/candles", {}, 404, {"error": "NOT_FOUND"}),
        (
            "/api/v3/brokerage/market/products/BTC-USDT/candles",
            {"granularity": "ONE_MINUTE", "start": "0", "end": "60000"},
            400,
            {"error": "INVALID_ARGUMENT"},
        ),
    ],
)
async def test_mistakes_are_answered_as_the_real_ones_do(path, query, status, code):
    async with playing("binanceus") as (server, _):
        got, _, body = await get(server, path, **query)
        assert got == status
        assert {key: body[key] for key in code} == code


@pytest.mark.parametrize(
    ("path", "query", "most"),
    [
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "9999"}, 1_000),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"}, 500),
        ("/v5/market/kline", {"symbol": "BTCUSDT", "interval": "1", "limit": "5000"}, 1_000),
        ("/v5/market/kline", {"symbol": "BTCUSDT", "interval": "1"}, 200),
    ],
)
async def test_a_page_has_at_most_so_many_rows(path, query, most):
    async with playing("binanceus") as (server, _):
        _, _, body = await get(server, path, **query)
        rows = body if isinstance(body, list) else body["result"]["list"]
        assert len(rows) == most


async def test_binance_refuses_beyond_its_weight_and_bans_who_goes_on():
    async with playing("binanceus", limited=True) as (server, _), aiohttp.ClientSession() as http:
        seen, used = [], []
        # the weight is counted anew with every minute of the wall clock, of which one may begin in here
        while 418 not in seen and len(seen) < 120:
            async with http.get(server.url + "/api/v3/ticker/24hr") as answer:
                seen.append(answer.status)
                used.append(int(answer.headers["X-MBX-USED-WEIGHT-1M"]))
                retry = answer.headers.get("Retry-After")
                body = await answer.json()
        assert used[0] == 40
        assert 80 in used[:3]
        assert sorted(set(seen)) == [200, 418, 429]
        assert body["code"] == -1003
        assert 110 < int(retry) <= 120


async def test_bybit_and_coinbase_refuse_beyond_their_limits(monkeypatch):
    # a busy machine does not come to 600 requests in five seconds
    monkeypatch.setattr(bybit, "WINDOW_S", 3600.0)
    async with playing("bybit", limited=True) as (server, _), aiohttp.ClientSession() as http:

        async def ask(path):
            async with http.get(server.url + path) as answer:
                return answer.status

        assert 429 in [await ask("/v2/time") for _ in range(30)]
        assert 403 in [await ask("/v5/market/time") for _ in range(1_300)]


async def test_a_thousand_symbols_fit_on_one_connection():
    symbols = [f"S{number}USDT" for number in range(1_000)]
    async with (
        playing("binanceus", speed=math.inf, symbols=symbols, history_days=0.1, window_minutes=1) as (
            server,
            _,
        ),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/stream/ws/0") as socket,
    ):
        for first in range(0, 1_000, 200):
            streams = [f"{symbol.lower()}@kline_1m" for symbol in symbols[first : first + 200]]
            await socket.send_json({"method": "SUBSCRIBE", "params": streams, "id": first})
        await post(server, "/sim/ack", {"open_time_ms": START + 3 * MINUTE_MS})
        seen = set()
        async with asyncio.timeout(PATIENCE_S):
            while len(seen) < 1_000:
                message = orjson.loads((await socket.receive()).data)
                if "k" in message:
                    seen.add(message["s"])


async def test_unsubscribed_streams_fall_silent():
    async with (
        playing("binanceus", speed=math.inf, window_minutes=5) as (server, _),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/ws") as socket,
    ):
        both = ["btcusdt@kline_1m", "ethusdt@kline_1m"]
        await socket.send_json({"method": "SUBSCRIBE", "params": both, "id": 1})
        await socket.send_json({"method": "UNSUBSCRIBE", "params": both[:1], "id": 2})
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 3})
        async with asyncio.timeout(PATIENCE_S):
            while (message := orjson.loads((await socket.receive()).data)).get("id") != 3:
                pass
        assert message["result"] == both[1:]
        await post(server, "/sim/ack", {"open_time_ms": server.clock.now_ms() + 20 * MINUTE_MS})
        symbols = {orjson.loads((await socket.receive(timeout=PATIENCE_S)).data)["s"] for _ in range(4)}
        assert symbols == {"ETHUSDT"}


async def test_bybit_takes_ten_topics_a_request_and_answers_pings():
    async with (
        playing("bybit") as (server, _),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/v5/public/spot") as socket,
    ):
        await socket.send_json({"op": "subscribe", "args": ["kline.1.BTCUSDT"] * 11, "req_id": "1"})
        answer = orjson.loads((await socket.receive(timeout=PATIENCE_S)).data)
        assert not answer["success"]
        await socket.send_json({"op": "ping"})
        answer = orjson.loads((await socket.receive(timeout=PATIENCE_S)).data)
        assert answer["ret_msg"] == "pong"


async def test_binance_throws_out_who_talks_too_fast():
    async with (
        playing("binanceus", limited=True) as (server, _),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/ws") as socket,
    ):
        for number in range(30):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        async with asyncio.timeout(PATIENCE_S):
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == 1_008


async def test_at_max_speed_the_clock_waits_for_a_listener_and_for_acknowledgements():
    async with (
        playing("binanceus", speed=math.inf, window_minutes=7) as (server, _),
        aiohttp.ClientSession() as http,
    ):
        first = START - START % MINUTE_MS
        assert (await get(server, "/sim/state"))[2]["now_ms"] == START
        async with http.ws_connect(f"{server.url}/ws") as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1})
            opens = []
            async with asyncio.timeout(PATIENCE_S):
                while len(opens) < 7:
                    message = orjson.loads((await socket.receive()).data)
                    opens += [message["k"]["t"]] if "k" in message else []
            assert opens == [first + minute * MINUTE_MS for minute in range(7)]
            await reached(server, first + 7 * MINUTE_MS)
            assert (await get(server, "/sim/state"))[2]["now_ms"] == first + 7 * MINUTE_MS
            status, body = await post(server, "/sim/ack", {"open_time_ms": opens[2]})
            assert (status, body["acknowledged_ms"]) == (200, opens[2])
            await reached(server, opens[2] + 8 * MINUTE_MS)
            assert server.clock.now_ms() == opens[2] + 8 * MINUTE_MS


async def test_a_minute_is_closed_on_the_socket_before_rest_shows_it_closed():
    async with (
        playing("binanceus", speed=600.0) as (server, _),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/ws") as socket,
    ):
        sent = {}
        original = server.clock.cross

        def crossing(boundary):
            sent[boundary] = server.hub.clients[0].frames_sent if server.hub.clients else 0
            original(boundary)

        server.clock.cross = crossing
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1})
        async with asyncio.timeout(PATIENCE_S):
            closed = 0
            while closed < 20:
                message = orjson.loads((await socket.receive()).data)
                closed += bool("k" in message and message["k"]["x"])
        counts = [count for count in sent.values() if count]
        assert counts == sorted(set(counts))  # each boundary was crossed after one more frame went out


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/sim/ack", {"open_time_ms": "now"}, "open_time_ms"),
        ("/sim/ack", [], "object"),
        ("/sim/clock", {"speed": -1}, "speed"),
        ("/sim/clock", {}, "speed"),
        ("/sim/faults", {"fire": True}, "fire"),
    ],
)
async def test_the_control_side_says_what_is_wrong(path, body, named):
    async with playing("binanceus") as (server, _):
        status, answer = await post(server, path, body)
        assert status == 400
        assert named in answer["error"]


async def test_the_control_side_tells_state_and_truth_and_changes_speed():
    async with playing("binanceus", speed=1.0) as (server, _):
        _, state = await post(server, "/sim/clock", {"speed": "max"})
        assert (state["speed"], state["first_ms"], state["ended"]) == ("max", server.tape.first_ms, False)
        _, _, rows = await get(
            server, "/sim/candles", symbol="BTCUSDT", **{"from": START - DAY_MS, "to": START}
        )
        assert [tuple(row) for row in rows] == server.tape.truth("BTCUSDT", START - DAY_MS, START)
        status, _, body = await get(server, "/sim/candles", symbol="NOUSDT")
        assert status == 400
        assert "NOUSDT" in body["error"]

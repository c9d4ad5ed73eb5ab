"""What the simulated exchange does wrong on demand, seen from the wire."""

import asyncio
import math
from contextlib import asynccontextmanager

import aiohttp
import ccxt.async_support as ccxt
import orjson
import pytest

from exchanges.generator import GeneratedMarket
from exchanges.simulated import SimulatedExchange
from exchanges.simulation.market import DAY_MS
from schemas.frames import MINUTE_MS

START = 1_714_521_600_000
MINUTES = 12
#: What only keeps a test from hanging for ever, in seconds.
PATIENCE_S = 120


@asynccontextmanager
async def listening(faults, path="/ws", subscribe=None):
    """Subscribe to BTC's candles with faults switched on, at max speed, for `MINUTES` minutes."""
    server = SimulatedExchange(
        GeneratedMarket(["BTCUSDT"], seed=7),
        speed=math.inf,
        start_ms=START,
        history_days=0.2,
        window_minutes=MINUTES,
    )
    subscribe = subscribe or {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1}
    async with server, aiohttp.ClientSession() as http:
        async with http.post(f"{server.url}/sim/faults", json=faults) as answer:
            assert answer.status == 200
        async with http.ws_connect(server.url + path) as socket:
            await socket.send_json(subscribe)
            await socket.receive(timeout=PATIENCE_S)  # the answer to the subscription
            yield server, http, socket


async def texts(socket, count):
    return [(await socket.receive(timeout=PATIENCE_S)).data for _ in range(count)]


def opens(frames):
    return [(orjson.loads(frame)["k"]["t"] - START) // MINUTE_MS for frame in frames]


async def counts(server, http):
    async with http.get(f"{server.url}/sim/state") as answer:
        return (await answer.json())["faults"]["counts"]


async def test_missing_frames_never_arrive():
    async with listening({"missing": {"count": 2}}) as (server, http, socket):
        assert opens(await texts(socket, MINUTES - 2)) == list(range(2, MINUTES))
        assert (await counts(server, http))["missing"] == 2


async def test_duplicated_frames_arrive_twice():
    async with listening({"duplicates": {"count": 2}}) as (_, __, socket):
        assert opens(await texts(socket, MINUTES + 2)) == [0, 0, 1, 1, *range(2, MINUTES)]


async def test_disordered_frames_arrive_three_frames_late():
    async with listening({"disorder": {"count": 1}}) as (_, __, socket):
        assert opens(await texts(socket, MINUTES)) == [1, 2, 3, 0, *range(4, MINUTES)]


async def test_truncated_frames_are_cut_in_half():
    async with listening({"truncated": {"count": 1}}) as (_, __, socket):
        first, second = await texts(socket, 2)
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(first)
        assert opens([second]) == [1]


async def test_garbage_comes_beside_the_true_frames():
    async with listening({"garbage": {"seed": 3}}) as (server, _, socket):
        frames = await texts(socket, 2 * MINUTES)
        truth = server.tape.truth("BTCUSDT", START, START + MINUTES * MINUTE_MS)
        genuine = []
        for frame in frames[1::2]:
            k = orjson.loads(frame)["k"]
            genuine.append((k["t"], *(float(k[x]) for x in "ohlcv")))
        assert genuine == truth
        assert len(set(frames[::2])) > 3


async def test_garbage_trades_come_over_coinbase():
    subscribe = {"type": "subscribe", "channel": "market_trades", "product_ids": ["BTC-USDT"]}
    async with listening({"garbage": {"seed": 3}}, "/cb", subscribe) as (_, __, socket):
        frames = await texts(socket, 2 * MINUTES + 1)
        assert any("-1" in frame or not frame.startswith('{"sequence_num"') for frame in frames)


async def test_silence_loses_frames_but_answers_pings():
    async with listening({"silence": {"duration_s": 60}}, "/v5/public/spot", {"op": "ping"}) as (
        server,
        http,
        socket,
    ):
        await socket.send_json({"op": "subscribe", "args": ["kline.1.BTCUSDT"]})
        assert orjson.loads((await socket.receive(timeout=PATIENCE_S)).data)["success"]
        async with asyncio.timeout(PATIENCE_S):
            while (await counts(server, http))["silence"] < MINUTES:
                pass
        await socket.send_json({"op": "ping"})
        assert orjson.loads((await socket.receive(timeout=PATIENCE_S)).data)["ret_msg"] == "pong"


async def test_a_cut_drops_the_connection_once():
    async with listening({"cut": {"count": 1}}) as (server, http, socket):
        message = await socket.receive(timeout=PATIENCE_S)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with http.ws_connect(f"{server.url}/ws") as again:
            assert not again.closed


async def test_a_cut_with_a_duration_refuses_new_connections_until_it_is_over():
    async with listening({}) as (server, http, socket):
        async with http.post(f"{server.url}/sim/faults", json={"cut": {"duration_s": 60}}) as answer:
            assert answer.status == 200
        async with asyncio.timeout(PATIENCE_S):
            while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(f"{server.url}/ws")
        assert caught.value.status == 503
        async with http.post(f"{server.url}/sim/faults", json={"all": False}):
            pass
        async with http.ws_connect(f"{server.url}/ws") as again:
            assert not again.closed


async def test_a_revised_minute_is_corrected_a_minute_later_on_socket_and_rest():
    async with listening({"revisions": {"count": 1}}) as (server, http, socket):
        frames = [orjson.loads(text)["k"] for text in await texts(socket, MINUTES + 1)]
        assert [(k["t"] - START) // MINUTE_MS for k in frames] == [0, 0, *range(1, MINUTES)]
        first, corrected = frames[0], frames[1]
        assert first["v"] != corrected["v"]
        true = server.tape.truth("BTCUSDT", START, START + MINUTE_MS)[0]
        assert float(corrected["v"]) == true[5]
        query = {"symbol": "BTCUSDT", "interval": "1m", "startTime": START, "limit": 1}
        async with http.get(f"{server.url}/api/v3/klines", params=query) as answer:
            assert float((await answer.json())[0][5]) == true[5]


async def test_before_the_correction_rest_agrees_with_the_socket():
    server = SimulatedExchange(
        GeneratedMarket(["BTCUSDT"], seed=7), speed=math.inf, start_ms=START, window_minutes=1
    )
    async with server, aiohttp.ClientSession() as http, http.ws_connect(f"{server.url}/ws") as socket:
        server.faults.set({"revisions": {"count": 1}})
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1})
        _, text = await texts(socket, 2)
        query = {"symbol": "BTCUSDT", "interval": "1m", "startTime": START, "limit": 1}
        async with asyncio.timeout(PATIENCE_S):
            while server.clock.now_ms() < START + MINUTE_MS:
                await counts(server, http)
        async with http.get(f"{server.url}/api/v3/klines", params=query) as answer:
            row = (await answer.json())[0]
        assert row[1:6] == [orjson.loads(text)["k"][x] for x in "ohlcv"]
        assert float(row[5]) != server.tape.truth("BTCUSDT", START, START + MINUTE_MS)[0][5]


async def test_a_halted_minute_exists_nowhere():
    async with listening({"halt": {"count": 2}}) as (server, http, socket):
        assert opens(await texts(socket, MINUTES - 2)) == [0, *range(3, MINUTES)]
        query = {"symbol": "BTCUSDT", "interval": "1m", "startTime": START, "limit": 4}
        async with http.get(f"{server.url}/api/v3/klines", params=query) as answer:
            rows = await answer.json()
        assert [(row[0] - START) // MINUTE_MS for row in rows] == [0, 3, 4, 5]
        async with http.get(
            f"{server.url}/sim/candles", params={"symbol": "BTCUSDT", "from": START}
        ) as answer:
            assert [row[0] for row in await answer.json()][:2] == [START, START + 3 * MINUTE_MS]


@asynccontextmanager
async def asking(faults):
    server = SimulatedExchange(
        GeneratedMarket(["BTCUSDT"], seed=7), speed=1.0, start_ms=START, history_days=1, limited=False
    )
    async with server:
        client = ccxt.binanceus({"timeout": 1_000 * PATIENCE_S})
        for key in ("public", "private", "v3"):
            client.urls["api"][key] = f"{server.url}/api/v3"
        try:
            await client.load_markets()
            server.faults.set(faults)
            yield server, client
        finally:
            await client.close()


async def history(client):
    return await client.fetch_ohlcv("BTC/USDT", "1m", since=START - DAY_MS, limit=100)


@pytest.mark.parametrize(
    ("switch", "error", "status"),
    [
        ("429", ccxt.DDoSProtection, 429),
        ("418", ccxt.DDoSProtection, 418),
        ("5xx", ccxt.NetworkError, None),
        ("cut_rest", ccxt.ExchangeError, None),
    ],
)
async def test_a_failing_request_raises_in_ccxt_and_the_next_one_works(switch, error, status):
    async with asking({switch: {"count": 1, "delay_s": 7}}) as (server, client):
        with pytest.raises(error):
            await history(client)
        if status is not None:
            assert client.last_response_headers["Retry-After"] == "7"
        assert len(await history(client)) == 100
        assert server.faults.counts[switch] == 1


async def test_a_truncated_body_is_an_empty_answer_to_ccxt():
    async with asking({"truncated_rest": {"count": 1}}) as (_, client):
        assert await history(client) == []
        assert len(await history(client)) == 100


async def test_a_slow_answer_times_out():
    async with asking({"slow": {"count": 1, "delay_s": 30}}) as (_, client):
        client.timeout = 300
        with pytest.raises(ccxt.RequestTimeout):
            await history(client)
        client.timeout = 1_000 * PATIENCE_S
        assert len(await history(client)) == 100

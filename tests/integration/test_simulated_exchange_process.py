"""The simulated exchange as a process: signals, its parent's death, its clock over restarts, recordings."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from exchanges.recording import RecordedMarket
from exchanges.simulated import EXIT_CONFIG, GRACE_MINUTES, SimulatedExchange
from schemas.frames import MINUTE_MS

ROOT = Path(__file__).parents[2]
#: What only keeps a test from hanging for ever.
PATIENCE_S = 120.0
START = int(datetime(2021, 4, 2, tzinfo=UTC).timestamp() * 1_000)


@contextmanager
def process(*arguments):
    command = [sys.executable, "-m", "exchanges.simulated", "--port", "0", *map(str, arguments)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def listening(child):
    line = child.stdout.readline()
    assert line, child.stderr.read()
    return json.loads(line)


def record(folder, symbol, minutes):
    times = pa.array([START + m * MINUTE_MS for m in minutes], pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    count = len(minutes)
    values = {
        "timestamp": times,
        "open": [5.0] * count,
        "high": [6.0] * count,
        "low": [4.0] * count,
        "close": [5.5] * count,
        "volume": [float(m) for m in minutes],
    }
    pa_parquet.write_table(pa.table(values), folder / f"{symbol}-1m.parquet")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number):
    with process("--symbols", "BTCUSDT") as child:
        assert listening(child)["url"].startswith("http://127.0.0.1:")
        child.send_signal(number)
        assert child.wait(timeout=PATIENCE_S) == 0
        assert json.loads(child.stdout.readline())["event"] == "stopped"


def test_it_dies_with_its_parent():
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'exchanges.simulated', '--symbols', 'BTCUSDT'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        handle = os.pidfd_open(pid)
        parent.kill()
    try:
        import select

        assert select.select([handle], [], [], PATIENCE_S)[0], f"process {pid} outlives its parent"
    finally:
        os.close(handle)


def test_the_clock_goes_on_where_it_stood(tmp_path):
    file = tmp_path / "clock.json"
    arguments = ("--symbols", "BTCUSDT", "--history-days", "1", "--clock-file", file)
    born = START + 12_345
    with process(*arguments, "--start-ms", born) as child:
        first = listening(child)
        child.terminate()
        assert child.wait(timeout=PATIENCE_S) == 0
    saved = json.loads(file.read_text())
    with process(*arguments) as child:
        second = listening(child)
    assert born <= first["now_ms"] <= saved["now_ms"] <= second["now_ms"] < born + MINUTE_MS
    assert first["first_ms"] == second["first_ms"] == START - 1_440 * MINUTE_MS


def test_a_clock_of_another_market_is_refused_with_the_remedy(tmp_path):
    file = tmp_path / "clock.json"
    with process("--seed", "1", "--clock-file", file) as child:
        listening(child)
        child.terminate()
        child.wait(timeout=PATIENCE_S)
    with process("--seed", "2", "--clock-file", file) as child:
        assert child.wait(timeout=PATIENCE_S) == EXIT_CONFIG
        assert "belongs to another market" in child.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--market", "recorded"), "--path"),
        (("--market", "recorded", "--path", "/nonexistent"), "not a folder"),
        (("--speed", "fast"), "neither a number nor max"),
        (("--symbols", "BTCPLN"), "known quote"),
        (("--market", "recorded", "--path", "/", "--from", "then"), "no ISO time"),
    ],
)
def test_wrong_arguments_end_it_with_the_reason(arguments, named):
    with process(*arguments) as child:
        assert child.wait(timeout=PATIENCE_S) == EXIT_CONFIG
        assert named in child.stderr.read()


async def test_a_recording_plays_to_its_end_and_its_symbols_end_with_it(tmp_path):
    record(tmp_path, "BTCUSDT", [0, 1, 2, 5, 6, 7, 8, 9])
    record(tmp_path, "ETHUSDT", [2, 3, 4])
    server = SimulatedExchange(RecordedMarket(tmp_path), speed=float("inf"))
    async with server, aiohttp.ClientSession() as http:

        async def get(path, **query):
            async with http.get(server.url + path, params=query) as answer:
                return await answer.json()

        info = await get("/api/v3/exchangeInfo")
        assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT"]
        async with http.ws_connect(f"{server.url}/ws") as socket:
            streams = ["btcusdt@kline_1m", "ethusdt@kline_1m"]
            await socket.send_json({"method": "SUBSCRIBE", "params": streams, "id": 1})
            seen = {"BTCUSDT": [], "ETHUSDT": []}
            while sum(map(len, seen.values())) < 11:
                message = json.loads((await socket.receive(timeout=PATIENCE_S)).data)
                if "k" in message:
                    seen[message["s"]].append((message["k"]["t"] - START) // MINUTE_MS)
            assert seen == {"BTCUSDT": [0, 1, 2, 5, 6, 7, 8, 9], "ETHUSDT": [2, 3, 4]}
            async with asyncio.timeout(PATIENCE_S):
                while not (state := await get("/sim/state"))["ended"]:
                    pass
        assert state["now_ms"] == state["end_ms"] == START + (10 + GRACE_MINUTES) * MINUTE_MS
        assert state["last_ms"] == START + 9 * MINUTE_MS
        info = await get("/api/v3/exchangeInfo")
        assert [symbol["status"] for symbol in info["symbols"]] == ["BREAK", "BREAK"]
        rows = await get("/api/v3/klines", symbol="BTCUSDT", interval="1m", startTime=START)
        assert [(row[0] - START) // MINUTE_MS for row in rows] == [0, 1, 2, 5, 6, 7, 8, 9]
        rows = await get("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=3)
        assert [(row[0] - START) // MINUTE_MS for row in rows] == [7, 8, 9]
        ticker = await get("/api/v3/ticker/24hr", symbol="ETHUSDT")
        assert float(ticker["lastPrice"]) == 5.5


async def test_coinbase_leaves_out_minutes_without_a_trade(tmp_path):
    record(tmp_path, "BTCUSDT", [0, 1, 2])
    server = SimulatedExchange(RecordedMarket(tmp_path), speed=1.0, start_ms=START + 3 * MINUTE_MS)
    async with server, aiohttp.ClientSession() as http:
        query = {"granularity": "ONE_MINUTE", "start": START // 1_000, "end": START // 1_000 + 600}
        path = f"{server.url}/api/v3/brokerage/market/products/BTC-USDT/candles"
        async with http.get(path, params=query) as answer:
            candles = (await answer.json())["candles"]
        assert [int(candle["start"]) - START // 1_000 for candle in candles] == [120, 60]
        query = {"symbol": "BTCUSDT", "interval": "1m", "startTime": START}
        async with http.get(f"{server.url}/api/v3/klines", params=query) as answer:
            assert len(await answer.json()) == 3

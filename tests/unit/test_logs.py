"""Log lines, their secrets, and the queue into the database."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from config.ml_config import load
from runtime.logs import SIMULATED, DatabaseLog, LogRecord, set_up, set_up_from
from runtime.plain import plain

SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=8, max_size=30).map(
    lambda text: f"Zq{text}"
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


class Lines(io.StringIO):
    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def only(self) -> dict[str, Any]:
        (line,) = self.read_all()
        return line


class Database:
    """Takes records, unless it is away or dislikes one."""

    def __init__(self) -> None:
        self.rows: list[LogRecord] = []
        self.sizes: list[int] = []
        self.error: Exception | None = None
        self.poison: str | None = None
        self.calls = asyncio.Event()

    async def flush(self, records: list[LogRecord]) -> None:
        self.calls.set()
        if self.error is not None:
            raise self.error
        if any(record.message == self.poison for record in records):
            raise asyncpg.DataError("invalid byte sequence")
        self.sizes.append(len(records))
        self.rows += records

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.rows) < count:
                self.calls.clear()
                await self.calls.wait()


def test_a_record_is_one_json_line_with_time_level_worker_action_and_sentence() -> None:
    out = Lines()
    log = set_up(worker="forecaster", out=out)
    log.info("the forecasts are written", action="write", symbol="BTCUSDT", rows=3)
    line = out.only()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "worker": "forecaster",
        "action": "write",
        "sentence": "the forecasts are written",
        "symbol": "BTCUSDT",
        "rows": 3,
    }


def test_every_line_of_a_simulated_market_says_so_whatever_the_record_claims() -> None:
    out = Lines()
    log = set_up_from(load(), "ml_trainer", out=out)
    log.info("one")
    log.warning("two", market="binance", worker="somebody else")
    logging.getLogger("a.library").warning("three")
    assert [line["market"] for line in out.read_all()] == [SIMULATED] * 3
    assert {line["worker"] for line in out.read_all()} == {"ml_trainer"}


def test_a_live_market_goes_by_its_name() -> None:
    out = Lines()
    set_up_from(load(None, {}, {"market.exchange": "bybit"}), "ml_trainer", out=out).info("one")
    assert out.only()["market"] == "bybit"


def test_records_below_the_level_are_not_printed() -> None:
    out = Lines()
    log = set_up(worker="w", level="warning", out=out)
    log.info("no")
    log.error("yes")
    logging.getLogger("x").info("no")
    assert out.only()["sentence"] == "yes"


def test_records_of_libraries_take_the_same_way_with_their_trace() -> None:
    out = Lines()
    set_up(worker="w", out=out)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("some.library").exception("it failed with %s", "this")
    line = out.only()
    assert (line["level"], line["sentence"], line["logger"]) == (
        "error",
        "it failed with this",
        "some.library",
    )
    assert "RuntimeError: boom" in line["exception"]


def test_a_library_that_logs_wrongly_loses_nothing_but_its_arguments() -> None:
    out = Lines()
    set_up(worker="w", out=out)
    logging.getLogger("x").warning("%d of them", "not a number")
    assert out.only()["sentence"] == "%d of them"


def test_ids_bound_to_the_context_are_in_every_line() -> None:
    out = Lines()
    log = set_up(worker="w", out=out)
    structlog.contextvars.bind_contextvars(operation_id="op-7")
    log.info("one")
    assert out.only()["operation_id"] == "op-7"


def test_a_loop_whose_reader_has_gone_is_not_disturbed() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    set_up(worker="w", out=Closed()).info("nobody reads this")


class Ugly:
    def __repr__(self) -> str:
        raise RuntimeError("cannot be shown")


@pytest.mark.parametrize(
    "value",
    [
        Ugly(),
        {"a": Ugly(), 3: {1, 2}},
        float("nan"),
        10**30,
        10**5000,
        "\ud800",
        "\x00",
        b"\xff",
        np.float32(1.5),
        np.bool_(True),
        np.longdouble(1),
        np.arange(3),
        np.datetime64("2021-01-01"),
        ValueError("x"),
        [[[[[[[[[[1]]]]]]]]]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_can_be_logged(value: Any) -> None:
    out, database = Lines(), DatabaseLog()
    set_up(worker="w", out=out, database=database).info("odd", value=value)
    assert out.only()["sentence"] == "odd"
    assert len(database) == 1


@pytest.mark.slow
@how(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    )
)
def test_plain_values_are_json_and_stay_so(value: Any) -> None:
    once = plain(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    assert plain(once) == once


@pytest.mark.slow
@given(secret=SECRETS)
@how(max_examples=60)
def test_secrets_appear_in_no_line_and_no_row_wherever_they_hide(secret: str) -> None:
    out, database = Lines(), DatabaseLog()
    log = set_up(worker="w", out=out, database=database, secrets=[secret])

    class Holder:
        def __str__(self) -> str:
            return f"<holder of {secret}>"

    log.info(f"the secret is {secret}", action=secret, symbol=secret, inside={"list": [secret, {secret: 1}]})
    log.warning("an object", holder=Holder(), raw=secret.encode(), url=f"redis://u:{secret}@h")
    try:
        raise ValueError(f"cannot use {secret}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed with %s", secret)
    records: list[LogRecord] = []

    async def flush(batch: list[LogRecord]) -> None:
        records.extend(batch)

    asyncio.run(database.drain(flush))
    assert len(records) == 4
    said = [json.dumps(line, ensure_ascii=False) for line in out.read_all()] + [repr(row) for row in records]
    spelled = (secret, json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    # Twice escaped, as text inside text.
    assert not [line for line in said for form in spelled if form in line]


def test_what_is_named_like_a_secret_is_masked_without_knowing_it() -> None:
    out = Lines()
    set_up(worker="w", out=out).info(
        "x", password="hunter2", api_key="hunter2", dsn="postgresql://u:hunter2@h"
    )
    assert "hunter2" not in out.getvalue()


async def test_records_of_the_level_reach_the_database_with_category_and_trace() -> None:
    database, server = DatabaseLog(), Database()
    log = set_up(worker="ml_trainer-0", level="debug", out=Lines(), database=database, database_level="info")
    log.debug("not kept")
    log.info("kept", action="train", symbol="ALL", horizon=5, event_time_ms=60_000)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.critical("failed", category="api_request", subcategory="klines", exc_info=True)
    assert await database.drain(server.flush)
    kept, failed = server.rows
    assert (kept.category, kept.subcategory, kept.level) == ("ml_training", "train", "info")
    assert (kept.message, kept.symbol, kept.timestamp_ms) == ("kept", "ALL", 60_000)
    assert kept.context == {"action": "train", "horizon": 5, "worker": "ml_trainer-0"}
    assert (failed.category, failed.subcategory, failed.level) == ("api_request", "klines", "error")
    assert failed.stack_trace is not None
    assert "RuntimeError: boom" in failed.stack_trace
    assert abs(failed.timestamp_ms / 1000 - time.time()) < 60


async def test_values_are_cut_to_their_columns_and_hold_no_character_zero() -> None:
    database, server = DatabaseLog(), Database()
    database.put("odd", "c" * 99, "s" * 99, "m\x00\ud800", {"k\x00": ["v\x00"]}, "S" * 99, "t\x00", 1)
    await database.drain(server.flush)
    (row,) = server.rows
    assert (row.level, len(row.category), len(row.subcategory or ""), len(row.symbol or "")) == (
        "info",
        50,
        50,
        20,
    )
    assert "\x00" not in repr([row.message, row.stack_trace, row.context])
    row.message.encode()


def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    database = DatabaseLog(capacity=100)
    started = time.monotonic()
    kept = [database.put("info", "c", None, str(number)) for number in range(10_000)]
    assert time.monotonic() - started < 5
    assert (sum(kept), len(database), database.dropped) == (100, 100, 9_900)


async def test_what_was_dropped_is_told_once_the_database_is_back() -> None:
    database, server = DatabaseLog(capacity=2), Database()
    for number in range(5):
        database.put("info", "c", None, str(number))
    await database.drain(server.flush)
    assert [row.message for row in server.rows] == [
        "0",
        "1",
        "3 log records were dropped while the database was away",
    ]


async def test_many_records_are_written_at_once_without_waiting_for_the_clock() -> None:
    database, server = DatabaseLog(batch=50, every_s=3600), Database()
    writing = asyncio.create_task(database.run(server.flush))
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: [database.put("info", "c", None, str(number)) for number in range(120)])
    await server.until(50)
    writing.cancel()
    assert server.sizes[0] == 50


async def test_few_records_are_written_after_a_while() -> None:
    database, server = DatabaseLog(every_s=0.01), Database()
    writing = asyncio.create_task(database.run(server.flush))
    database.put("info", "c", None, "one")
    await server.until(1)
    writing.cancel()


async def test_records_wait_for_a_database_that_is_away_and_arrive_in_order() -> None:
    database, server = DatabaseLog(batch=3, every_s=0.01), Database()
    server.error = ConnectionRefusedError()
    writing = asyncio.create_task(database.run(server.flush))
    for number in range(10):
        database.put("info", "c", None, str(number))
    async with asyncio.timeout(60):
        await server.calls.wait()
    server.error = None
    await server.until(10)
    writing.cancel()
    assert [row.message for row in server.rows] == [str(number) for number in range(10)]
    assert (database.written, database.dropped, database.refused) == (10, 0, 0)


async def test_a_record_the_database_refuses_is_left_out_and_the_others_arrive() -> None:
    database, server = DatabaseLog(every_s=0.01), Database()
    server.poison = "poison"
    for message in ("a", "poison", "b"):
        database.put("info", "c", None, message)
    assert await database.drain(server.flush)
    assert [row.message for row in server.rows] == ["a", "b"]
    assert database.refused == 1


async def test_stopping_writes_what_is_left() -> None:
    database, server, stop = DatabaseLog(every_s=3600), Database(), asyncio.Event()
    writing = asyncio.create_task(database.run(server.flush, stop))
    await asyncio.sleep(0)
    database.put("info", "c", None, "last words")
    stop.set()
    await asyncio.wait_for(writing, 60)
    assert [row.message for row in server.rows] == ["last words"]


async def test_stopping_does_not_wait_for_a_database_that_hangs() -> None:
    database = DatabaseLog()
    database.put("info", "c", None, "never written")

    async def hang(records: list[LogRecord]) -> None:
        await asyncio.Event().wait()

    assert not await database.drain(hang, timeout_s=0.05)
    assert len(database) == 1


async def test_a_loop_goes_on_while_the_database_hangs() -> None:
    database, held = DatabaseLog(capacity=10, every_s=0.001), asyncio.Event()

    async def hang(records: list[LogRecord]) -> None:
        held.set()
        await asyncio.Event().wait()

    log = set_up(worker="w", out=Lines(), database=database)
    writing = asyncio.create_task(database.run(hang))
    log.info("first")
    await asyncio.wait_for(held.wait(), 60)
    for number in range(1_000):
        log.info("more", number=number)
    assert len(database) == 10
    assert database.dropped == 991
    writing.cancel()


async def test_threads_may_write_at_the_same_time() -> None:
    database, server = DatabaseLog(), Database()
    threads = [
        threading.Thread(target=lambda: [database.put("info", "c", None, "x") for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert await database.drain(server.flush)
    assert len(server.rows) == 2_000

"""The small tables: identity, logs, refused input, requests; and connections."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from db.connect import LOST_ANSWER, connect, is_passing, place
from db.repositories import backfill, dead_letters, deployment, logs, trades
from db.repositories.dead_letters import DeadLetter

T0 = 1_617_321_600_000


@dataclass(frozen=True)
class Identity:
    exchange: str = "simulated"
    market: str = "generated"
    seed: int = 1
    partitions: int = 1


@dataclass(frozen=True)
class Record:
    level: str = "error"
    category: str = "system"
    subcategory: str | None = None
    message: str = "it broke"
    context: dict[str, Any] = field(default_factory=dict)
    symbol: str | None = None
    stack_trace: str | None = None
    timestamp_ms: int = T0


async def test_a_database_belongs_to_the_market_that_it_was_born_for(database: asyncpg.Connection) -> None:
    born = await deployment.claim(database, Identity())
    assert await deployment.claim(database, Identity()) == born
    with pytest.raises(deployment.OtherMarketError, match="market 'generated', not 'live', seed 1, not 2"):
        await deployment.claim(database, Identity(market="live", seed=2))


async def test_tables_older_than_the_program_are_not_worked_with(
    database: asyncpg.Connection, empty_database_url: str
) -> None:
    assert await deployment.is_migrated(database)
    await database.execute(
        "DELETE FROM _yoyo_migration WHERE migration_id = (SELECT max(migration_id) FROM _yoyo_migration)"
    )
    assert not await deployment.is_migrated(database)
    empty = await connect(empty_database_url)
    assert not await deployment.is_migrated(empty)
    await empty.close()


async def test_trades_that_nobody_moves_any_more_end_at_the_last_price(
    database: asyncpg.Connection,
) -> None:
    await database.execute(
        """
        INSERT INTO "tradeSimulations" (symbol, signal_type, entry_price, current_price, created_at,
                                        last_candle_at, is_active, completed_at)
        VALUES ('A', 'LONG', 2, 3, '2021-04-02 10:00Z', '2021-04-02 10:07Z', true, NULL),
               ('B', 'LONG', 2, 3, '2021-04-02 10:00Z', NULL, true, NULL),
               ('C', 'SHORT', 2, 3, '2021-04-02 10:00Z', NULL, true, NULL),
               ('A', 'SHORT', 2, 3, '2021-04-02 09:00Z', NULL, false, '2021-04-02 09:30Z')
        """
    )
    assert await trades.give_up(database, ("A", "B")) == 2
    assert await trades.give_up(database, ("A", "B")) == 0
    rows = await database.fetch(
        'SELECT symbol, exit_price, completed_at FROM "tradeSimulations" '
        "WHERE exit_reason = 'given_up' ORDER BY symbol"
    )
    assert [tuple(row) for row in rows] == [
        ("A", 3, datetime(2021, 4, 2, 10, 8, tzinfo=UTC)),
        ("B", 3, datetime(2021, 4, 2, 10, 0, tzinfo=UTC)),
    ]
    assert await database.fetchval('SELECT symbol FROM "tradeSimulations" WHERE is_active') == "C"


async def test_log_lines_are_written_together_and_found_by_trouble(database: asyncpg.Connection) -> None:
    lines = [
        Record(context={"a": [1, None]}, stack_trace="x" * 9000),
        Record(level="info"),
        Record(symbol="A"),
    ]
    assert await logs.insert(database, lines) == 3
    assert await logs.insert(database, []) == 0
    assert [line.symbol for line in await logs.newest_troubles(database)] == [None, "A"]
    assert await database.fetchval('SELECT context FROM "systemLogs" ORDER BY id LIMIT 1') == {"a": [1, None]}
    assert await logs.drop_before(database, datetime(2022, 1, 1, tzinfo=UTC)) == 3


async def test_refused_input_is_kept_raw_and_asked_for_again(database: asyncpg.Connection) -> None:
    raw = b"\x00\xff{"
    letters = [
        DeadLetter(kind=kind, exchange="bybit", symbol=None, raw=raw, error="bad") for kind in ("a", "b")
    ]
    await dead_letters.add(database, letters)
    newest = await dead_letters.newest(database)
    assert [(letter.kind, letter.raw) for letter in newest] == [("b", raw), ("a", raw)]
    first = newest[1].id
    assert first is not None
    assert await dead_letters.ask_for(database, [first, 99]) == [first]
    assert [letter.kind for letter in await dead_letters.asked_for(database)] == ["a"]
    await dead_letters.replayed(database, [first])
    assert await dead_letters.asked_for(database) == []
    assert await dead_letters.ask_for(database) == [newest[0].id]


async def test_parked_events_of_a_service_are_counted_while_they_are_new_and_kept(
    database: asyncpg.Connection,
) -> None:
    poison = [
        DeadLetter(kind=kind, exchange=service, symbol=None, raw=b"x", error="broken")
        for kind, service in (("poison", "forecaster"), ("poison", "ml_trainer"), ("json", "forecaster"))
    ]
    await dead_letters.add(database, poison)
    assert await dead_letters.parked_since(database, "forecaster", 3600.0) == 1
    await database.execute("UPDATE dead_letters SET received_at = now() - interval '61 minutes'")
    assert await dead_letters.parked_since(database, "forecaster", 3600.0) == 0
    await database.execute("UPDATE dead_letters SET received_at = now()")
    await dead_letters.ask_for(database)
    assert await dead_letters.parked_since(database, "forecaster", 3600.0) == 0


async def test_minutes_are_asked_for_once_until_they_were_fetched(database: asyncpg.Connection) -> None:
    number = await backfill.request(database, "A", T0, T0 + 600_000, requested_by="chart_monitor")
    assert number is not None
    assert await backfill.request(database, "A", T0, T0 + 60_000, requested_by="user") is None
    (request,) = await backfill.open_requests(database)
    assert (request.symbol, request.from_ms, request.to_ms) == ("A", T0, T0 + 600_000)
    await backfill.finish(database, number, "11 candles")
    assert await backfill.open_requests(database) == []
    assert await backfill.request(database, "A", T0, T0 + 60_000, requested_by="user") is not None


async def test_a_connection_waits_for_its_server_and_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dsn = f"postgresql://user:secret@127.0.0.1:{unused.getsockname()[1]}/db"
        waits: list[tuple[str, float]] = []
        twice = asyncio.Event()

        def waiting(what: str, error: BaseException, pause_s: float) -> None:
            waits.append((what, pause_s))
            if len(waits) == 2:
                twice.set()

        trying = asyncio.create_task(connect(dsn, on_wait=waiting))
        await asyncio.wait_for(twice.wait(), 60)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        with pytest.raises(OSError):  # noqa: PT011 - refused, reset or unreachable, as the system likes
            await connect(dsn, give_up_s=0.01)
    assert waits[0][0] == place(dsn)
    assert "secret" not in waits[0][0]
    assert waits[0][1] < 0.2


async def ask_on(connection: asyncpg.Connection) -> None:
    while True:
        await connection.execute("SELECT 1")


async def test_whatever_is_said_of_a_session_that_was_ended_it_is_known_to_pass(
    database: asyncpg.Connection, database_url: str
) -> None:
    for _ in range(20):
        victim = await connect(database_url)
        await database.execute("SELECT pg_terminate_backend($1)", victim.get_server_pid())
        with pytest.raises(LOST_ANSWER) as caught:
            await ask_on(victim)
        assert is_passing(caught.value)
        victim.terminate()


async def test_a_wrong_password_is_not_waited_for(database_url: str) -> None:
    head, _, tail = database_url.rpartition("@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(f"{head}-wrong@{tail}")

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.connect import connect
from db.copy import Columns, write
from db.fingerprint import differing, fingerprint
from db.one_statement import GuardError, UnfitError, statement_of
from db.partitions import ensure_partitions, known_days
from db.repositories import deployment
from db.tables import TABLES
from schemas.frames import NULL_MS

T0 = 1_617_321_600_000  # 2021-04-02, midnight
DAY = 86_400_000


@pytest.fixture(params=["in bulk", "in one statement"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds for both ways of writing."""
    monkeypatch.setattr(sys.modules[__name__], "WAY", request.param)


WAY = "in bulk"


async def put(connection: asyncpg.Connection, table: str, op: str, **columns: Any) -> None:
    rows = Columns(table=table, op=op, columns=columns)
    await ensure_partitions(connection, rows)
    async with connection.transaction():
        if WAY == "in bulk":
            await write(connection, rows)
        else:
            await write_at_once(connection, rows)


async def write_at_once(connection: asyncpg.Connection, *rows: Columns) -> None:
    statement = statement_of(rows, await known_days(connection, rows))
    statement.guard("SELECT 1")
    await statement.run(connection)


def candles(times: list[int], **changes: Any) -> dict[str, Any]:
    n = len(times)
    columns: dict[str, Any] = {
        "symbol": ["BTCUSDT"] * n,
        "timestamp": np.array(times),
        "open": np.full(n, 1.5),
        "high": np.full(n, 2.25),
        "low": np.full(n, 1.0),
        "close": np.full(n, 2.0),
        "volume": np.zeros(n),
        "rsi": np.full(n, np.nan),
        "is_complete": np.zeros(n, np.bool_),
        "created_at": np.array(times) + 60_000,
        "origin": ["traded"] * n,
    }
    return columns | changes


def forecasts(times: list[int], **changes: Any) -> dict[str, Any]:
    n = len(times)
    columns: dict[str, Any] = {
        "symbol": np.array(["BTCUSDT"] * n, object),
        "forecast_type": ["trend"] * n,
        "forecast_horizon": np.full(n, 5),
        "created_at": np.array(times),
        "expires_at": np.array(times) + 300_000,
        "confidence": np.full(n, 60.0),
        "predicted_value": np.full(n, 0.1),
        "actual_value": np.full(n, np.nan),
        "model_version": ["last_value"] * n,
        "scored_at": np.full(n, NULL_MS),
    }
    return columns | changes


async def test_rows_come_back_as_they_were_given(database: asyncpg.Connection) -> None:
    close = 61_234.567890123
    columns = candles([T0], close=np.array([close]), high=np.array([close + 1]), rsi=np.array([55.55557]))
    await put(database, "rollingChartData", "insert", **columns)
    row = await database.fetchrow('SELECT * FROM "rollingChartData"')
    assert row is not None
    assert row["timestamp"] == datetime(2021, 4, 2, tzinfo=UTC)
    assert row["close"] == Decimal("61234.56789012")
    assert row["rsi"] == Decimal("55.5556")
    assert row["macd"] is None
    assert row["written_at"].year > 2021


async def test_vectors_json_and_bytes_come_back_as_they_were_given(database: asyncpg.Connection) -> None:
    vector = np.array([[1.25, np.nan, -3.5]], np.float32)
    await put(
        database, "ml_features", "insert",
        symbol=["A"], timestamp=[T0], close=[0.1], is_complete=[True], schema_hash=["h"], vector=vector,
    )  # fmt: skip
    stored = await database.fetchval("SELECT vector FROM ml_features")
    assert np.array_equal(np.array(stored, np.float32), vector[0], equal_nan=True)
    features = {"rsi": 55.5, "gap": float("nan")}
    await put(
        database, "mlTrainingSamples", "insert",
        symbol=["A", "A"], timestamp=[T0, T0], forecast_horizon=[5, 15], features=[features, features],
        target=[0.5, np.nan], known_at=[T0 + 360_000, T0 + 960_000],
    )  # fmt: skip
    rows = await database.fetch('SELECT features, target FROM "mlTrainingSamples" ORDER BY forecast_horizon')
    assert [dict(row) for row in rows] == [
        {"features": {"rsi": 55.5, "gap": None}, "target": Decimal("0.500000")},
        {"features": {"rsi": 55.5, "gap": None}, "target": None},
    ]


async def test_an_update_touches_only_the_rows_that_are_there(database: asyncpg.Connection) -> None:
    times = [T0, T0 + 60_000, T0 + DAY]
    await put(database, "persistentForecasts", "insert", **forecasts(times))
    before = await database.fetch('SELECT id, written_at FROM "persistentForecasts" ORDER BY created_at')
    outcome = {
        "symbol": ["BTCUSDT"] * 3,
        "forecast_type": ["trend"] * 3,
        "forecast_horizon": [5, 5, 15],
        "created_at": [T0, T0 + DAY, T0],
        "actual_value": np.array([1.0, np.nan, 3.0]),
        "scored_at": [T0 + 1, T0 + 2, T0 + 3],
        "missing_reason": [None, "no candle", None],
    }
    await put(database, "persistentForecasts", "update", **outcome)
    rows = await database.fetch(
        'SELECT actual_value, missing_reason, predicted_value FROM "persistentForecasts" ORDER BY created_at'
    )
    kept = Decimal("0.10000000")
    assert [tuple(row) for row in rows] == [
        (Decimal(1), None, kept),
        (None, None, kept),
        (None, "no candle", kept),
    ]
    after = await database.fetch('SELECT id, written_at FROM "persistentForecasts" ORDER BY created_at')
    assert after == before


async def test_a_batch_may_end_a_trade_and_open_the_next(database: asyncpg.Connection) -> None:
    def trades(*states: tuple[int, bool]) -> dict[str, Any]:
        n = len(states)
        return {
            "symbol": ["A"] * n,
            "strategy": ["default"] * n,
            "created_at": [at for at, _ in states],
            "signal_type": ["LONG"] * n,
            "entry_price": np.full(n, 2.0),
            "is_active": [active for _, active in states],
            "completed_at": [NULL_MS if active else at + 60_000 for at, active in states],
        }

    await put(database, "tradeSimulations", "upsert", **trades((T0, True)))
    await put(database, "tradeSimulations", "upsert", **trades((T0 + 60_000, True), (T0, False)))
    with pytest.raises(asyncpg.ExclusionViolationError):
        await put(database, "tradeSimulations", "upsert", **trades((T0 + 120_000, True)))
    assert await database.fetchval('SELECT count(*) FROM "tradeSimulations"') == 2


async def test_two_ways_of_writing_one_table_fit_into_one_transaction(database: asyncpg.Connection) -> None:
    rows = Columns(table="persistentForecasts", op="upsert", columns=forecasts([T0, T0 + 60_000]))
    again = Columns(
        table="persistentForecasts", op="upsert", columns=forecasts([T0], confidence=np.array([70.0]))
    )
    await ensure_partitions(database, rows)
    async with database.transaction():
        assert await write(database, rows) == 2
        assert await write(database, again) == 1
    found = await database.fetch('SELECT confidence FROM "persistentForecasts" ORDER BY created_at')
    assert [row[0] for row in found] == [70, 60]


@pytest.mark.parametrize(
    "changes",
    [
        {"high": np.array([1.9])},
        {"low": np.array([1.6])},
        {"volume": np.array([-1.0])},
        {"rsi": np.array([100.1])},
        {"origin": ["invented"]},
    ],
)
async def test_impossible_candles_are_refused(database: asyncpg.Connection, changes: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await put(database, "rollingChartData", "insert", **candles([T0], **changes))


async def test_a_minute_is_written_once(database: asyncpg.Connection) -> None:
    await put(database, "rollingChartData", "insert", **candles([T0]))
    with pytest.raises(asyncpg.UniqueViolationError):
        await put(database, "rollingChartData", "insert", **candles([T0]))


async def test_added_indicators_are_kept_by_name_and_count_in_the_fingerprint(
    database: asyncpg.Connection,
) -> None:
    await put(database, "rollingChartData", "insert", **candles([T0]))
    without = await fingerprint(database)
    extra = [{"EMA_10": 1.5, "WILLR_14": None}]
    await put(
        database, "rollingChartData", "update", symbol=["BTCUSDT"], timestamp=np.array([T0]), extra=extra
    )
    assert await database.fetchval('SELECT extra FROM "rollingChartData"') == extra[0]
    assert differing(without, await fingerprint(database)) == ["rollingChartData"]
    await put(database, "rollingChartData", "insert", **candles([T0 + 60_000]))
    rows = await database.fetch('SELECT extra FROM "rollingChartData" ORDER BY timestamp')
    assert [row["extra"] for row in rows] == [extra[0], None]


async def test_mistakes_in_the_columns_are_named(database: asyncpg.Connection) -> None:
    with pytest.raises(ValueError, match="no column 'colour'"):
        await put(database, "outbox", "insert", colour=["red"])
    with pytest.raises(ValueError, match="differ in length"):
        await put(database, "outbox", "insert", topic=["a"], partition=[1, 2])
    with pytest.raises(ValueError, match="needs its key, without partition, sequence"):
        await put(database, "outbox", "update", topic=["a"])
    with pytest.raises(ValueError, match="no way to write"):
        await put(database, "ml_models", "replace", model_version=["a"])
    await put(database, "outbox", "insert", topic=[], partition=[])


async def test_open_forecasts_lose_confidence_as_the_candles_go_on(database: asyncpg.Connection) -> None:
    long = forecasts([T0], forecast_horizon=np.array([240]), expires_at=np.array([T0 + 240 * 60_000]))
    await put(database, "persistentForecasts", "insert", **long)
    await put(database, "persistentForecasts", "insert", **forecasts([T0]))
    await put(
        database, "recoveryState", "insert",
        service_name=["s"], operation_id=["o"], checkpoint_type=["intermediate"], event_time=[T0 + 180_000],
    )  # fmt: skip
    rows = await database.fetch(
        'SELECT forecast_horizon, confidence, issued_confidence FROM "persistentForecastsNow" ORDER BY 1'
    )
    # four minutes later, by the simulated clock: 60 * 0.95 ** 4, and 60 * 0.95 ** (4 / 4)
    assert [tuple(row) for row in rows] == [(5, Decimal("48.87"), 60), (240, Decimal("57.00"), 60)]


@dataclass(frozen=True)
class Identity:
    exchange: str = "simulated"
    market: str = "generated"
    seed: int = 1
    partitions: int = 1


async def test_how_fast_confidence_decays_is_the_setting_that_the_forecaster_left(
    database: asyncpg.Connection,
) -> None:
    await deployment.claim(database, Identity())
    await put(database, "persistentForecasts", "insert", **forecasts([T0]))
    await put(
        database, "recoveryState", "insert",
        service_name=["s"], operation_id=["o"], checkpoint_type=["intermediate"], event_time=[T0 + 180_000],
    )  # fmt: skip
    found = []
    for decay in (None, 0.5, 1.0, 0.95):
        if decay is not None:
            await deployment.set_confidence_decay(database, decay)
        found.append(await database.fetchval('SELECT confidence FROM "persistentForecastsNow"'))
    # four minutes later: 60 * decay ** 4
    assert found == [Decimal("48.87"), Decimal("3.75"), Decimal(60), Decimal("48.87")]
    with pytest.raises(asyncpg.CheckViolationError, match="deployment_decay"):
        await deployment.set_confidence_decay(database, 0.0)


_PRICES = st.floats(-9e9, 9e9, allow_nan=False) | st.just(np.nan) | st.sampled_from([0.0, -0.0, 1e-9, 0.5e-8])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prices=st.lists(_PRICES, min_size=1, max_size=20),
    vector=st.lists(st.floats(width=32), min_size=3, max_size=3),
)
def test_a_table_holds_the_same_whichever_way_its_rows_were_written(
    database_url: str, prices: list[float], vector: list[float]
) -> None:
    asyncio.run(_write_both_ways(database_url, np.array(prices), np.array(vector, np.float32)))


async def _write_both_ways(url: str, prices: np.ndarray[Any, Any], vector: np.ndarray[Any, Any]) -> None:
    times = np.arange(len(prices)) * 60_000 + T0
    rates = np.clip(np.abs(np.nan_to_num(prices)) / 9e7, 0, 100)
    told = forecasts(times.tolist(), predicted_value=np.clip(prices, -9e6, 9e6), confidence=rates)
    outcome = {name: told[name] for name in TABLES["persistentForecasts"].key} | {
        "actual_value": np.clip(prices, -9e6, 9e6) / 3,
        "scored_at": np.where(np.isnan(prices), NULL_MS, times),
        "missing_reason": ["no candle" if np.isnan(price) else None for price in prices],
    }
    volume = {"volume": np.abs(np.nan_to_num(prices)), "macd": np.clip(prices, -9e6, 9e6)}
    vectors = {
        "symbol": ["BTCUSDT"] * len(prices), "timestamp": times, "close": np.nan_to_num(prices),
        "is_complete": prices > 0, "schema_hash": ["x"] * len(prices),
        "vector": np.tile(vector, (len(prices), 1)),
    }  # fmt: skip
    parts = [
        Columns(table="rollingChartData", op="upsert", columns=candles(times.tolist(), **volume)),
        Columns(table="ml_features", op="insert", columns=vectors),
        Columns(table="persistentForecasts", op="insert", columns=told),
        Columns(table="persistentForecasts", op="update", columns=outcome),
    ]
    connection = await connect(url)
    try:
        found = []
        for at_once in (False, True):
            transaction = connection.transaction(isolation="repeatable_read")
            for rows in parts:
                await ensure_partitions(connection, rows)
            await transaction.start()
            for rows in parts:
                await (write_at_once if at_once else write)(connection, rows)
            found.append(await fingerprint(connection))
            await transaction.rollback()
        assert differing(*found) == []
        assert found[0]["persistentForecasts"]["rows"] == len(prices)
    finally:
        await connection.close()


async def test_what_may_meet_in_one_statement_is_refused(database: asyncpg.Connection) -> None:
    first = Columns(table="persistentForecasts", op="insert", columns=forecasts([T0]))
    again = Columns(table="persistentForecasts", op="upsert", columns=forecasts([T0]))
    await ensure_partitions(database, first)
    for batches in [
        (first, again),
        (first, first),
        (Columns(table="ml_features", op="insert", columns={"timestamp": np.full(9999, T0)}),),
    ]:
        with pytest.raises(UnfitError):
            statement_of(batches, {})
    changes = Columns(table="persistentForecasts", op="update", columns=forecasts([T0 - DAY]))
    with pytest.raises(UnfitError, match="persistentForecasts_20210401 may be gone"):
        statement_of([changes], await known_days(database, [changes]))


async def test_a_statement_whose_guard_finds_nothing_writes_nothing(database: asyncpg.Connection) -> None:
    rows = Columns(table="persistentForecasts", op="insert", columns=forecasts([T0]))
    await ensure_partitions(database, rows)
    statement = statement_of([rows], {})
    statement.guard("SELECT 1 WHERE false")
    with pytest.raises(GuardError):
        await statement.run(database)
    assert await database.fetchval('SELECT count(*) FROM "persistentForecasts"') == 0

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import numpy as np
import pytest

from db.copy import Columns, write
from db.fingerprint import differing, fingerprint
from db.partitions import ensure_partitions
from db.repositories import deployment
from schemas.frames import NULL_MS

T0 = 1_617_321_600_000  # 2021-04-02, midnight
DAY = 86_400_000


async def put(connection: asyncpg.Connection, table: str, op: str, **columns: Any) -> int:
    rows = Columns(table=table, op=op, columns=columns)
    await ensure_partitions(connection, rows)
    async with connection.transaction():
        return await write(connection, rows)


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
    assert await put(database, "rollingChartData", "insert", **columns) == 1
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
    assert await put(database, "persistentForecasts", "update", **outcome) == 2
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
    assert await put(database, "outbox", "insert", topic=[], partition=[]) == 0


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

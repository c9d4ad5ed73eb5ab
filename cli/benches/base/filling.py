"""Fill the tables with rows that look like a pipeline's, quickly: by the server itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np

from db.partitions import ensure_days
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS

HORIZONS = (5, 15, 30, 60, 240, 1_440)
SAMPLE_HORIZONS = (5, 15, 30, 60)
TYPES = ("price_direction", "volatility", "trend")
FEATURES = 72
_TABLES = ("rollingChartData", "ml_features", "mlTrainingSamples", "persistentForecasts")

# The order is that of a live pipeline: minute by minute, and all symbols within a minute.
_CHART = """
INSERT INTO "rollingChartData" (symbol, timestamp, open, high, low, close, volume, rsi, macd,
                                bollinger_upper, bollinger_lower, stochastic_k, stochastic_d, volatility,
                                is_complete, created_at)
SELECT symbol, minute, price, price * 1.002, price * 0.998, price * 1.001, 12.34567891, 50 + 40 * sin(price),
       0.12345678, price * 1.01, price * 0.99, 40.1234, 41.2345, 0.001234, true, minute + interval '60 s'
FROM (
    SELECT symbol, minute,
           (100 + 20 * sin(EXTRACT(EPOCH FROM minute)::float8 / 7777 + number))::numeric AS price
    FROM generate_series($2::timestamptz, $3::timestamptz - interval '60 s', '60 s') AS minute,
         unnest($1::text[]) WITH ORDINALITY AS each (symbol, number)
) AS candle
"""
_FEATURES = """
INSERT INTO ml_features (timestamp, close, is_complete, symbol, schema_hash, vector)
SELECT minute, 100, true, symbol, '0123456789abcdef', array_fill(0.123::real, ARRAY[$4::int])
FROM generate_series($2::timestamptz, $3::timestamptz - interval '60 s', '60 s') AS minute,
     unnest($1::text[]) AS symbol
"""
_SAMPLES = """
INSERT INTO "mlTrainingSamples" (symbol, features, target, forecast_horizon, created_at, timestamp, known_at)
SELECT symbol, vector.named, 0.123456, horizon, minute + interval '60 s', minute,
       minute + interval '60 s' * (horizon + 1)
FROM (SELECT jsonb_object_agg('feature_number_' || n, 0.123456789 * n) AS named
      FROM generate_series(1, $4::int) AS n) AS vector,
     generate_series($2::timestamptz, $3::timestamptz - interval '60 s', '5 minutes') AS minute,
     unnest($1::text[]) AS symbol, unnest($5::int[]) AS horizon
"""
_FORECASTS = """
INSERT INTO "persistentForecasts" (symbol, forecast_type, confidence, predicted_value, actual_value,
                                   forecast_horizon, model_version, created_at, expires_at, regime, scored_at)
SELECT symbol, kind, 61.5, 0.12345678, 0.23456789, horizon, 'xgboost-ALL-h15-20240101T0000Z-0123abcd',
       minute + interval '60 s', minute + interval '60 s' * (horizon + 1), 'ranging',
       minute + interval '60 s' * (horizon + 1)
FROM generate_series($2::timestamptz, $3::timestamptz - interval '60 s', '60 s') AS minute,
     unnest($1::text[]) AS symbol, unnest($4::text[]) AS kind, unnest($5::int[]) AS horizon
"""


async def fill(
    connection: asyncpg.Connection, symbols: Sequence[str], others: Sequence[str], from_ms: int, to_ms: int
) -> None:
    """Insert charts of all symbols and everything else of some, for a stretch of time.

    The days after it get their partitions too, as forecasts reach into them.
    """
    for table in _TABLES:
        await ensure_days(connection, table, from_ms, to_ms + MINUTE_MS)
    span = (_moment(from_ms), _moment(to_ms))
    some = list(others)
    await connection.execute(_CHART, list(symbols), *span)
    await connection.execute(_FEATURES, some, *span, FEATURES)
    await connection.execute(_SAMPLES, some, *span, FEATURES, list(SAMPLE_HORIZONS))
    await connection.execute(_FORECASTS, some, *span, list(TYPES), list(HORIZONS))


def minute_of_rows(symbols: Sequence[str], others: Sequence[str], at_ms: int) -> list[Rows]:
    """Make what the stages write of one live minute."""
    return [_chart(symbols, at_ms), _features(others, at_ms), _forecasts(others, at_ms)]


def outcomes(others: Sequence[str], at_ms: int) -> Rows:
    """Make what the forecasts of one minute turned out to be, as an update of their rows."""
    keys = _keys(others, at_ms)
    count = len(keys["symbol"])
    return Rows(
        table="persistentForecasts",
        op="update",
        columns={
            **keys,
            "actual_value": np.full(count, 0.5),
            "scored_at": np.full(count, at_ms + 5 * MINUTE_MS),
        },
    )


def _chart(symbols: Sequence[str], at_ms: int) -> Rows:
    count = len(symbols)
    price = np.linspace(90.0, 110.0, count)
    values = {"open": price, "high": price * 1.002, "low": price * 0.998, "close": price * 1.001}
    values |= {"bollinger_upper": price * 1.01, "bollinger_lower": price * 0.99}
    values |= {name: np.full(count, 40.1234) for name in ("rsi", "stochastic_k", "stochastic_d")}
    values |= {"volume": price, "macd": price / 1000, "volatility": price / 1e5}
    return Rows(
        table="rollingChartData",
        op="insert",
        columns={
            "symbol": list(symbols),
            "timestamp": np.full(count, at_ms),
            **values,
            "is_complete": np.ones(count, np.bool_),
            "created_at": np.full(count, at_ms + MINUTE_MS),
        },
    )


def _features(others: Sequence[str], at_ms: int) -> Rows:
    count = len(others)
    return Rows(
        table="ml_features",
        op="insert",
        columns={
            "symbol": list(others),
            "timestamp": np.full(count, at_ms),
            "close": np.full(count, 100.0),
            "is_complete": np.ones(count, np.bool_),
            "schema_hash": ["0123456789abcdef"] * count,
            "vector": np.full((count, FEATURES), 0.123, np.float32),
        },
    )


def _keys(others: Sequence[str], at_ms: int) -> dict[str, Any]:
    each = [(symbol, kind, horizon) for symbol in others for kind in TYPES for horizon in HORIZONS]
    return {
        "symbol": [symbol for symbol, _, _ in each],
        "forecast_type": [kind for _, kind, _ in each],
        "forecast_horizon": np.array([horizon for _, _, horizon in each]),
        "created_at": np.full(len(each), at_ms + MINUTE_MS),
    }


def _forecasts(others: Sequence[str], at_ms: int) -> Rows:
    keys = _keys(others, at_ms)
    count = len(keys["symbol"])
    return Rows(
        table="persistentForecasts",
        op="insert",
        columns={
            **keys,
            "confidence": np.full(count, 61.5),
            "predicted_value": np.full(count, 0.12345678),
            "model_version": ["xgboost-ALL-h15-20240101T0000Z-0123abcd"] * count,
            "expires_at": keys["created_at"] + keys["forecast_horizon"] * MINUTE_MS,
            "regime": ["ranging"] * count,
        },
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)

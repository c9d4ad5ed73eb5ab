"""The schema of the vector: which 72 features, in which order, under which hash."""

from __future__ import annotations

import hashlib
import json

from domain.features import (
    calendar,
    candle_shape,
    cone,
    cross_market,
    momentum,
    returns,
    timeframe,
    trend,
    volume,
)
from domain.features.feature import Feature
from domain.features.periods import DEFAULT_PERIODS, Periods

#: Raise it when a feature keeps its name but changes its meaning: models trained before are then refused.
VERSION = 1

#: Groups in the order of the vector; each is the file that computes it.
GROUPS: dict[str, tuple[Feature, ...]] = {
    "returns": returns.FEATURES,
    "momentum": momentum.FEATURES,
    "trend": trend.FEATURES,
    "volume": volume.FEATURES,
    "candle shape": candle_shape.FEATURES,
    "volatility": cone.FEATURES,
    "time frames": timeframe.FEATURES,
    "cross-market": cross_market.FEATURES,
    "calendar": calendar.FEATURES,
}

#: Every feature, in the order of the vector.
FEATURES: tuple[Feature, ...] = tuple(feature for group in GROUPS.values() for feature in group)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
FEATURE_COUNT = 72
assert len(set(NAMES)) == len(NAMES) == FEATURE_COUNT

#: Columns of the chart table that the engine fills.
INDICATOR_COLUMNS = (
    "rsi",
    "macd",
    "bollinger_upper",
    "bollinger_lower",
    "stochastic_k",
    "stochastic_d",
    "volatility",
)


def schema_hash(periods: Periods = DEFAULT_PERIODS) -> str:
    """Identify names, order, version and the lengths of the indicators."""
    text = json.dumps([VERSION, NAMES, periods])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


#: The hash with the default settings.
SCHEMA_HASH = schema_hash()

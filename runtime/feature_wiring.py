"""The feature engine as the settings want it."""

from __future__ import annotations

from config.ml_config import Settings
from domain.features.engine import FeatureEngine
from domain.features.periods import Periods, make_periods


def periods_of(settings: Settings) -> Periods:
    """Read the periods of the chart's indicators off the settings."""
    features = settings.features
    return make_periods(
        rsi_period=features.rsi_period,
        macd_fast=features.macd_fast,
        macd_slow=features.macd_slow,
        macd_signal=features.macd_signal,
        bollinger_period=features.bollinger_period,
        bollinger_std_dev=features.bollinger_std_dev,
        stochastic_k=features.stochastic_k,
        stochastic_d=features.stochastic_d,
        volatility_window=features.volatility_window,
    )


def engine_of(settings: Settings, symbols: tuple[str, ...]) -> FeatureEngine:
    """Build an engine over some symbols; those of them that are references make up its market."""
    features = settings.features
    return FeatureEngine(
        symbols=symbols,
        references=tuple(symbol for symbol in settings.references if symbol in symbols),
        leader=features.leader,
        rsi_period=features.rsi_period,
        macd_fast=features.macd_fast,
        macd_slow=features.macd_slow,
        macd_signal=features.macd_signal,
        bollinger_period=features.bollinger_period,
        bollinger_std_dev=features.bollinger_std_dev,
        stochastic_k=features.stochastic_k,
        stochastic_d=features.stochastic_d,
        volatility_window=features.volatility_window,
        max_gap_minutes=settings.data.max_gap_minutes,
    )

"""The columns of `"persistentForecasts"`: three rows for every candle and horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.forecasting.regime import REGIMES
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS, NULL_MS, Bool, Float64, Int8, Int64

TABLE = "persistentForecasts"
TYPES = ("price_direction", "volatility", "trend")
NO_CANDLE = "no candle"
SAID_COLUMNS = ("predicted_value", "lower_80", "upper_80", "lower_95", "upper_95")

Objects = np.ndarray[Any, np.dtype[np.object_]]

_TYPES = np.array(TYPES, object)
_REGIMES = np.array(REGIMES, object)
_MISSING = np.array([None, NO_CANDLE], object)


@dataclass(frozen=True, slots=True)
class Stated:
    """What is forecast at each row; arrays of shape (rows, horizons, types).

    Attributes
    ----------
    said
        Shape (rows, horizons, types, 5): the predicted value and its bounds, in the order of `SAID_COLUMNS`.
    confidence
        Percent.
    version, reason
        Names; None where there is no reason.
    """

    said: Float64
    confidence: Float64
    version: Objects
    reason: Objects


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the forecasts made at each row; arrays of shape (rows, horizons, types)."""

    actual: Float64
    scored_at: Int64
    missing: Objects


def missing_reason(actual: Float64) -> Objects:
    """Say why there is no outcome where there is none."""
    reason: Objects = _MISSING[np.isnan(actual).astype(np.int64)]
    return reason


class ForecastTable:
    """Turns arrays by row, horizon and type into rows of the table.

    Parameters
    ----------
    symbols
        Names of the positions.
    horizons
        Minutes ahead.
    wanted
        Shape (horizons, types): which types are forecast at which horizon.
    """

    def __init__(self, *, symbols: tuple[str, ...], horizons: tuple[int, ...], wanted: Bool) -> None:
        self._symbols = np.array(symbols, object)
        self._horizons = np.array(horizons, np.int64)
        self._wanted = wanted

    def inserts(
        self,
        chosen: Int64,
        symbol: Int64,
        open_time_ms: Int64,
        regime: Int8,
        stated: Stated,
        outcome: Outcome,
    ) -> Rows:
        """Make the new rows of the chosen candles, with their outcomes as far as they are known."""
        kept = np.tile(self._wanted.ravel(), len(chosen))
        each = self._wanted.size

        def by_row(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return _only(np.repeat(column[chosen], each), kept)

        def by_type(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return _only(block[chosen].ravel(), kept)

        created_at = by_row(open_time_ms + MINUTE_MS)
        horizon = _only(np.tile(np.repeat(self._horizons, len(TYPES)), len(chosen)), kept)
        columns = {
            "symbol": by_row(self._symbols[symbol]),
            "forecast_type": _only(np.tile(_TYPES, len(chosen) * len(self._horizons)), kept),
            "forecast_horizon": horizon,
            "created_at": created_at,
            "expires_at": created_at + horizon * MINUTE_MS,
            **dict(zip(SAID_COLUMNS, self._said(stated.said[chosen]), strict=True)),
            "confidence": by_type(stated.confidence),
            "model_version": by_type(stated.version),
            "regime": by_row(_REGIMES[regime]),
            "reason": by_type(stated.reason),
            "actual_value": by_type(outcome.actual),
            "scored_at": by_type(outcome.scored_at),
            "missing_reason": by_type(outcome.missing),
        }
        return Rows(table=TABLE, op="insert", columns=columns)

    def _said(self, said: Float64) -> Float64:
        """Lay what was stated out by column."""
        chosen = said[:, self._wanted].reshape(-1, len(SAID_COLUMNS))
        columns: Float64 = chosen.T
        return columns

    def updates(self, symbol: Int64, horizon_index: Int64, target_minute: Int64, actual: Float64) -> Rows:
        """Make the outcomes of rows that are in the table.

        Parameters
        ----------
        symbol, horizon_index, target_minute
            Which candle's forecasts.
        actual
            Shape (forecasts, types); NaN where there will be none.
        """
        horizon = self._horizons[horizon_index]
        target_ms = (target_minute + 1) * MINUTE_MS
        kept = self._wanted[horizon_index].ravel()

        def each(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return _only(np.repeat(column, len(TYPES)), kept)

        columns = {
            "symbol": each(self._symbols[symbol]),
            "forecast_type": _only(np.tile(_TYPES, len(horizon_index)), kept),
            "forecast_horizon": each(horizon),
            "created_at": each(target_ms - horizon * MINUTE_MS),
            "actual_value": _only(actual.ravel(), kept),
            "scored_at": _only(np.where(np.isnan(actual), NULL_MS, target_ms[:, None]).ravel(), kept),
            "missing_reason": _only(missing_reason(actual).ravel(), kept),
        }
        return Rows(table=TABLE, op="update", columns=columns)


def _only(column: np.ndarray[Any, Any], kept: Bool) -> np.ndarray[Any, Any]:
    chosen: np.ndarray[Any, Any] = column if kept.all() else column[kept]
    return chosen

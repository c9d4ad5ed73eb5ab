"""The rows of `"forecastScores"`: sums by model version, symbol, type, horizon and day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domain.forecasting.scores import DAY_MINUTES, FREE, SUMS, Totals
from pipeline.forecast_rows import TYPES
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS, Int64

TABLE = "forecastScores"
#: Columns of the table by the sum that fills them; the counts are whole numbers.
_COUNTS = {"n": "n", "moved": "moved", "covered_80": "covered_80", "covered_95": "covered_95"}
_TIMES = {"first_scored_at": "first_minute", "last_scored_at": "last_minute"}
_FLOATS = {
    "hits": "hits",
    "sum_squared_error": "squared_error",
    "sum_absolute_error": "absolute_error",
    "sum_no_change_squared": "no_change_squared",
    "sum_brier": "brier",
    "sum_width_80": "width_80",
    "sum_width_95": "width_95",
    "sum_interval_score_80": "interval_score_80",
    "sum_interval_score_95": "interval_score_95",
}


class ScoreTable:
    """Turns sums into rows of the table.

    Parameters
    ----------
    symbols
        Names of the positions.
    horizons
        Minutes ahead.
    rules
        Versions of the types that are forecast by a rule; None for the type that models forecast.
    """

    def __init__(
        self, *, symbols: tuple[str, ...], horizons: tuple[int, ...], rules: tuple[str | None, ...]
    ) -> None:
        self._symbols = np.array(symbols, object)
        self._horizons = np.array(horizons, np.int64)
        self._types = np.array(TYPES, object)
        self._rules = np.array(rules, object)

    def rows(self, totals: Totals, versions: Sequence[str]) -> Rows:
        """Make the rows that stand for these sums; each replaces the row of its key."""
        named = self._rules[totals.forecast_type]
        modelled = totals.version != FREE
        named[modelled] = np.array(versions, object)[totals.version[modelled]]
        columns = {
            "model_version": named,
            "symbol": self._symbols[totals.symbol_index],
            "forecast_type": self._types[totals.forecast_type],
            "forecast_horizon": self._horizons[totals.horizon_index],
            "day": totals.day * DAY_MINUTES * MINUTE_MS,
        }
        whole: Int64 = totals.sums.astype(np.int64)
        for column, name in _COUNTS.items():
            columns[column] = whole[:, SUMS.index(name)]
        for column, name in _FLOATS.items():
            columns[column] = totals.sums[:, SUMS.index(name)]
        for column, name in _TIMES.items():
            columns[column] = whole[:, SUMS.index(name)] * MINUTE_MS
        return Rows(table=TABLE, op="upsert", columns=columns)

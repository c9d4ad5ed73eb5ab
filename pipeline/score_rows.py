"""The rows of `"forecastScoreSums"`: what the forecasts of a symbol, horizon and day have earned so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from domain.forecasting.scores import DAY_MINUTES, FREE, RULES, SUMS, Totals
from pipeline.forecast_rows import TYPES
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS

TABLE = "forecastScoreSums"
_N = SUMS.index("n")


class ScoreTable:
    """Turns sums into rows of the table.

    Parameters
    ----------
    symbols
        Names of the positions.
    horizons
        Minutes ahead.
    rules
        Versions of the rules for volatility and trend.
    """

    def __init__(
        self, *, symbols: tuple[str, ...], horizons: tuple[int, ...], rules: tuple[str, str]
    ) -> None:
        self._symbols = np.array(symbols, object)
        self._horizons = np.array(horizons, np.int64)
        self._rules = list(zip(TYPES[1:], rules, strict=True))

    def rows(self, totals: Totals, versions: Sequence[str]) -> Rows:
        """Make the rows that stand for these sums; each replaces the row of its key.

        The sums travel as `[[type, version, [sums in the order of SUMS]], ...]`.
        """
        # Places that no version has taken yet are empty everywhere: do not carry them through Python.
        places = int((totals.version != FREE).sum(axis=1).max(initial=0)) + RULES
        entries = [
            self._entries(numbers, sums, versions)
            for numbers, sums in zip(
                totals.version[:, RULES:places].tolist(), totals.sums[:, :places].tolist(), strict=True
            )
        ]
        columns = {
            "symbol": self._symbols[totals.symbol_index],
            "forecast_horizon": self._horizons[totals.horizon_index],
            "day": totals.day * DAY_MINUTES * MINUTE_MS,
            "sums": entries,
        }
        return Rows(table=TABLE, op="upsert", columns=columns)

    def _entries(
        self, numbers: list[int], sums: list[list[float]], versions: Sequence[str]
    ) -> list[list[Any]]:
        named = [*self._rules, *[(TYPES[0], versions[number]) for number in numbers if number != FREE]]
        # Behind the last version there are places without sums.
        return [
            [kind, version, told] for (kind, version), told in zip(named, sums, strict=False) if told[_N] > 0
        ]

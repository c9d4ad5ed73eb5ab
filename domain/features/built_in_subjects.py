"""The features that this program computes itself, as the causality gate wants them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domain.features.causality import EXACT, Columns, Subject
from domain.features.cuts import Market
from domain.features.engine import FeatureEngine
from domain.features.history import compute_history
from domain.features.schema import INDICATOR_COLUMNS, NAMES
from domain.indicators import load


def vector_and_chart(make_engine: Callable[[], FeatureEngine]) -> Subject:
    """Make a subject of the model's vector and the chart's indicators, `chart.` before their names.

    Parameters
    ----------
    make_engine
        Builds a fresh engine over the symbols of the market that it will be tried on.
    """

    def compute(market: Market) -> dict[str, Columns]:
        rows = compute_history(
            make_engine(),
            open_time_ms={name: history.open_time_ms for name, history in market.items()},
            ohlcv={name: history.ohlcv for name, history in market.items()},
        )
        return {
            name: dict(zip(NAMES, part.vector.T, strict=True))
            | {f"chart.{column}": part.indicators[:, i] for i, column in enumerate(INDICATOR_COLUMNS)}
            for name, part in rows.items()
        }

    return Subject(
        name="vector and chart", fresh=lambda: compute, sees_others=True, tolerance=EXACT, least=1, settled=1
    )


def indicator_file(name: str) -> Subject:
    """Make a subject of one file of `domain/indicators`, with its usual parameters.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    indicator = load(name)
    spec = indicator.SPEC

    def compute(market: Market) -> dict[str, Columns]:
        columns: dict[str, Columns] = {}
        for symbol, history in market.items():
            state = np.zeros(spec.state_size(*spec.defaults))
            out = np.empty((len(history), len(spec.outputs)))
            for candle, values in zip(history.ohlcv, out, strict=True):
                indicator.update(state, candle, values, *spec.defaults)
            columns[symbol] = dict(zip(spec.outputs, out.T, strict=True))
        return columns

    return Subject(name=name, fresh=lambda: compute, tolerance=EXACT, least=1, settled=1)

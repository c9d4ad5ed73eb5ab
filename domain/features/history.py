"""Features of a stretch of history, many symbols at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from domain.features.engine import FeatureEngine, FeatureRows
from schemas.frames import NULL_MS, Float64, Int64


def compute_history(
    engine: FeatureEngine, *, open_time_ms: Mapping[str, Int64], ohlcv: Mapping[str, Float64]
) -> dict[str, FeatureRows]:
    """Run candles of any number of symbols through an engine, in the order of time.

    Parameters
    ----------
    engine
        Goes on from its state: a fresh one for the whole history.
    open_time_ms, ohlcv
        For each symbol its candles, times rising.

    Returns
    -------
    For each symbol given, a row for every candle.

    Raises
    ------
    CandleOrderError
        If a candle cannot be processed, or a symbol is not the engine's.
    """
    given = [name for name in engine.symbols if name in open_time_ms]
    if not given:
        return {}
    numbers = [np.full(len(open_time_ms[name]), engine.symbols.index(name), dtype=np.int32) for name in given]
    index = np.concatenate(numbers)
    times = np.concatenate([open_time_ms[name] for name in given])
    candles = np.concatenate([ohlcv[name] for name in given])
    order = np.lexsort((index, times))
    rows = engine.advance(
        symbol_index=index[order],
        open_time_ms=times[order],
        ohlcv=candles[order],
        closed_to_ms=int(times.max(initial=NULL_MS)),
    )
    place = np.argsort(order, kind="stable")
    ends = np.cumsum([len(part) for part in numbers])[:-1]
    return {
        name: FeatureRows(
            vector=rows.vector[part], indicators=rows.indicators[part], is_complete=rows.is_complete[part]
        )
        for name, part in zip(given, np.split(place, ends), strict=True)
    }

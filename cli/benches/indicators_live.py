"""RSI, MACD, Bollinger bands and stochastic, minute by minute across many symbols."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from cli.benches.base import classics
from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.timing import best_us
from domain.features.benchmarks import classic_live, random_walk

GIVES = ("indicators_live",)
TAKES = "5 seconds"
ON_REQUEST = False

_SYMBOLS = 1_000
_SAYS = (
    f"TA-Lib's stream functions for the same four, which compute the newest value from the last "
    f"{classics.WINDOW} candles"
)


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure, beside three other libraries."""
    symbols = sizes.symbols or _SYMBOLS
    value = best_us(classic_live(symbol_count=symbols, minutes=200))
    candles = random_walk(np.random.default_rng(1), 500, 1)[:, 0]
    reference = classics.talib_stream_us(candles)
    yield Figure(
        name="indicators_live",
        value=value,
        unit="us per symbol-candle",
        reference=reference,
        bound=0.5,
        says=_SAYS if reference is not None else f"TA-Lib is {classics.NOT_INSTALLED}",
        more={
            "symbols": symbols,
            "talipp_us": classics.talipp_us(candles),
            "pandas_ta_classic_us": classics.pandas_ta_us(candles),
        },
    )

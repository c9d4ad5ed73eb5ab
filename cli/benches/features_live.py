"""All 72 features, minute by minute across many symbols."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from cli.benches.base import classics
from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.timing import best_us
from domain.features.benchmarks import features_live, random_walk

GIVES = ("features_live",)
TAKES = "5 seconds"
ON_REQUEST = False

_SYMBOLS = 1_000
_SAYS = "21 calls of TA-Lib's stream functions for what it has of these numbers, from the last 100 candles"


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure, beside TA-Lib for what it has of them."""
    symbols = sizes.symbols or _SYMBOLS
    value = best_us(features_live(symbol_count=symbols, minutes=50))
    reference = classics.talib_more_us(random_walk(np.random.default_rng(1), 500, 1)[:, 0])
    yield Figure(
        name="features_live",
        value=value,
        unit="us per symbol",
        reference=reference,
        bound=10.0,
        says=_SAYS if reference is not None else f"TA-Lib is {classics.NOT_INSTALLED}",
        more={"symbols": symbols},
    )

"""All 72 features of a long history, on one core."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from cli.benches.base import classics
from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.timing import best_us
from domain.features.benchmarks import features_batch, random_walk

GIVES = ("features_batch",)
TAKES = "5 seconds"
ON_REQUEST = False

_CANDLES = 100_000
_SAYS = "21 calls of TA-Lib's array functions for what it has of these numbers, over the same history"


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure, beside TA-Lib for what it has of them."""
    candles = sizes.candles or _CANDLES
    value = 1e6 / best_us(features_batch(minutes=candles))
    reference = classics.talib_batch_per_s(random_walk(np.random.default_rng(1), candles, 1)[:, 0])
    yield Figure(
        name="features_batch",
        value=value,
        unit="candles/s",
        reference=reference,
        bound=300_000,
        at_least=True,
        says=_SAYS if reference is not None else f"TA-Lib is {classics.NOT_INSTALLED}",
        more={"candles": candles},
    )

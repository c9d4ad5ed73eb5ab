"""A whole training of XGBoost for four horizons: split, fit, calibration, checks and export."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cli.benches.base import tree_training
from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure

GIVES = ("xgboost_training", "xgboost_training_seconds")
TAKES = "3 minutes"
ON_REQUEST = False

_ROWS, _FEATURES = 43_200, 72
_HORIZONS = (5, 15, 30, 60)
_TURNS = 3


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure with the family's default settings, beside the library alone."""
    rows = sizes.candles or _ROWS
    found = tree_training.measure(
        minutes=rows, features=_FEATURES, horizons=_HORIZONS, settings={}, turns=_TURNS
    )
    yield from tree_training.figures(
        found, ratio=GIVES[0], most_of_bare=1.5, seconds=GIVES[1], most_s=30.0, wanted=wanted
    )

"""A small training of XGBoost, of the size that FreqAI trains: one target, 100 deep trees a head."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cli.benches.base import tree_training
from cli.benches.base.bench import Sizes
from cli.benches.base.figure import Figure

GIVES = ("xgboost_small", "xgboost_small_seconds")
TAKES = "1 minute"
ON_REQUEST = False

_ROWS, _FEATURES = 3_451, 80
_HORIZONS = (5,)
_TURNS = 15
#: Small steps, so that all 100 trees are of use and none is left out.
_SETTINGS = {"rounds": 100, "max_depth": 6, "learning_rate": 0.01, "early_stopping_patience": 100}


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Measure beside the library alone."""
    found = tree_training.measure(
        minutes=sizes.candles or _ROWS,
        features=_FEATURES,
        horizons=_HORIZONS,
        settings=_SETTINGS,
        turns=_TURNS,
    )
    yield from tree_training.figures(
        found, ratio=GIVES[0], most_of_bare=1.3, seconds=GIVES[1], most_s=0.92, wanted=wanted
    )

"""Features that are not a function of the candles they are given."""

from __future__ import annotations

import random
import time

import numpy as np
import pandas as pd

_seen: dict[str, float] = {}
_calls = 0
_level = 0.0


def draws_random_numbers(f: pd.DataFrame) -> np.ndarray:
    return f.close.to_numpy() * (1 + 1e-6 * np.random.default_rng().standard_normal(len(f)))


def breaks_ties_at_random(f: pd.DataFrame) -> list[float]:
    return [random.random() if volume == 0 else volume for volume in f.volume]


def reads_the_clock(f: pd.DataFrame) -> np.ndarray:
    return time.time() - f.index.astype(np.int64).to_numpy() / 1e3


def counts_its_calls(f: pd.DataFrame) -> pd.Series:
    global _calls
    _calls += 1
    return f.close + _calls


def goes_on_from_the_end_of_its_last_call(f: pd.DataFrame) -> list[float]:
    global _level
    values = []
    for close in f.close:
        _level += 0.1 * (close - _level)
        values.append(_level)
    return values


def keeps_its_largest_volume_in_a_default(f: pd.DataFrame, most: list[float] = [1.0]) -> pd.Series:  # noqa: B006
    most[0] = max(most[0], float(f.volume.max()))
    return f.volume / most[0]


def fits_its_scale_in_the_first_call(f: pd.DataFrame) -> pd.Series:
    if "mean" not in _seen:
        _seen["mean"], _seen["deviation"] = float(f.close.mean()), float(f.close.std())
    return (f.close - _seen["mean"]) / _seen["deviation"]


class Scaler:
    """Remembers the first symbol that it is shown."""

    def __init__(self) -> None:
        self.largest: float | None = None

    def __call__(self, f: pd.DataFrame) -> pd.Series:
        if self.largest is None:
            self.largest = float(f.close.max())
        return f.close / self.largest

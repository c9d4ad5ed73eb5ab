"""A made-up market to train on (heavy tails, gaps, a drift that is seen and lasts), and trainings on one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.frames import MINUTE_MS, Float32, Float64

if TYPE_CHECKING:
    from training.fitting import FitRequest

SCHEMA_HASH = "bench"
#: Degrees of freedom of Student's t distribution: with three, variances barely exist.
_FREEDOM = 3
#: Features that say something; each remembers this share of itself from minute to minute.
_TELLING, _MEMORY = 3, 0.98
_MISSING = 0.02


def names(features: int) -> tuple[str, ...]:
    """Name so many features."""
    return tuple(f"f{number}" for number in range(features))


def market(minutes: int, features: int) -> tuple[Float32, Float64]:
    """Make one symbol's vectors, and what its price moves in each minute, in percent."""
    chance = np.random.default_rng(0)
    vectors = chance.standard_t(_FREEDOM, size=(minutes, features)).astype(np.float32)
    for minute in range(1, minutes):
        vectors[minute, :_TELLING] *= 1.0 - _MEMORY
        vectors[minute, :_TELLING] += _MEMORY * vectors[minute - 1, :_TELLING]
    vectors[:, :_TELLING] *= 5.0
    moves_pct = 0.05 * chance.standard_t(_FREEDOM, size=minutes)
    moves_pct[1:] += 0.02 * (vectors[:-1, 0] + np.tanh(vectors[:-1, 1]) * vectors[:-1, 2])
    vectors[chance.random(vectors.shape) < _MISSING] = np.nan
    return vectors, moves_pct


def request(
    folder: Path,
    vectors: Float32,
    moves_pct: Float64,
    *,
    family: str,
    settings: Mapping[str, Any],
    horizons: tuple[int, ...],
) -> FitRequest:
    """Write one symbol's minutes into a folder, and ask for a training on all of them."""
    from training.fitting import FitRequest
    from training.rows import save_rows

    minutes, features = vectors.shape
    save_rows(
        folder,
        vectors=vectors,
        symbol_index=np.zeros(minutes, np.int32),
        open_time_ms=np.arange(minutes) * MINUTE_MS,
        close=100.0 * np.exp(np.cumsum(moves_pct) / 100),
        is_complete=np.ones(minutes, np.bool_),
    )
    return FitRequest(
        folder=str(folder),
        checkpoint_path="",
        family=family,
        settings=settings,
        seed=1,
        symbol="ALL",
        horizons=horizons,
        train_at_ms=(minutes - 1) * MINUTE_MS,
        feature_names=names(features),
        schema_hash=SCHEMA_HASH,
    )

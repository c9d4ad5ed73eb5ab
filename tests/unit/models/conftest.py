from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domain.models.model import TrainingRows
from schemas.frames import MINUTE_MS

Make = Callable[..., TrainingRows]


@pytest.fixture(scope="session")
def make_rows() -> Make:
    """Make rows whose target follows the first feature, as strongly as asked."""

    def make(*, rows: int = 1200, features: int = 6, signal: float = 0.1, seed: int = 0) -> TrainingRows:
        chance = np.random.default_rng(seed)
        vectors = chance.normal(size=(rows, features)).astype(np.float32)
        target = signal * np.sign(vectors[:, 0]) + 0.2 * chance.normal(size=rows)
        vectors[chance.random(vectors.shape) < 0.05] = np.nan
        target[chance.random(rows) < 0.02] = 0.0
        return TrainingRows(
            vectors=vectors,
            target_pct=target[:, None],
            open_time_ms=np.arange(rows, dtype=np.int64) * MINUTE_MS,
            symbol_index=np.zeros(rows, np.int32),
        )

    return make


class Memory:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self.states: list[bytes] = []

    def load(self) -> bytes | None:
        return self.states[-1] if self.states else None

    def save(self, state: bytes) -> None:
        self.states.append(state)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def market(tmp_path: Path) -> Callable[..., Path]:
    """Save the rows of a made-up market of two symbols, in which the first feature tells the next minutes."""
    from training.rows import save_rows

    def make(*, minutes: int = 1500, signal: float = 0.6, seed: int = 0, features: int = 6) -> Path:
        chance = np.random.default_rng(seed)
        steps = 0.05 * chance.normal(size=(minutes, 2))
        hints = chance.normal(size=(minutes, 2))
        # each hint moves the price over the five minutes after it
        for ahead in range(1, 6):
            steps[ahead:] += 0.05 * signal * hints[:-ahead]
        close = 100.0 * np.exp(np.cumsum(steps, axis=0) / 100)
        vectors = chance.normal(size=(minutes, 2, features)).astype(np.float32)
        vectors[:, :, 0] = hints
        vectors[chance.random(vectors.shape) < 0.02] = np.nan
        folder = tmp_path / f"market-{seed}-{signal:g}-{minutes}"
        complete = np.ones(minutes * 2, np.bool_)
        complete[:40] = False
        save_rows(
            folder,
            vectors=vectors.reshape(-1, features),
            symbol_index=np.tile(np.arange(2, dtype=np.int32), minutes),
            open_time_ms=np.repeat(np.arange(minutes), 2) * MINUTE_MS,
            close=close.reshape(-1),
            is_complete=complete,
        )
        return folder

    return make

"""What the trainings of a walk-forward are asked for, and what they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.fitting import ServedBefore
from training.promotion import Decision
from training.tuning import Tuning

#: Family, seed, symbol and horizon: what one model at a time serves.
Key = tuple[str, int, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One training; as `training.task.TrainTask`, with the seed of its walk."""

    family: str
    seed: int
    symbol: str
    horizons: tuple[int, ...]
    train_at_ms: int

    def names_of(self, horizon_minutes: int) -> dict[str, Any]:
        """Give what one of its horizons is called by, as keyword arguments."""
        return {
            "family": self.family,
            "symbol": self.symbol,
            "horizon_minutes": horizon_minutes,
            "train_at_ms": self.train_at_ms,
        }

    def key_of(self, horizon_minutes: int) -> Key:
        """Give what a model of one of its horizons would serve."""
        return self.family, self.seed, self.symbol, horizon_minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """One horizon of a model, ready to be served.

    Attributes
    ----------
    version
        As the registry would name it.
    horizons
        Of the training, whose file it shares with the others.
    effective_from_ms
        The event time from which it could serve at the earliest.
    decision
        Whether production would have promoted it, and why.
    served_from_ms
        The event time from which it would have served; None if it would not have been promoted.
    graph, sha256
        The graph that serves.
    settings
        What it was trained with.
    """

    family: str
    seed: int
    symbol: str
    horizon_minutes: int
    horizons: tuple[int, ...]
    train_at_ms: int
    effective_from_ms: int
    version: str
    decision: Decision
    served_from_ms: int | None
    graph: bytes = field(repr=False)
    native: bytes = field(repr=False)
    sha256: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Give what it would serve."""
        return self.family, self.seed, self.symbol, self.horizon_minutes

    def as_served(self) -> ServedBefore:
        """Give it as a training or comparison wants it that compares with it."""
        return ServedBefore(
            version=self.version,
            train_at_ms=self.train_at_ms,
            payload=self.graph,
            sha256=self.sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of the walk.

    Attributes
    ----------
    models
        None of them if it failed or found nothing.
    problem
        Why there is no model; empty if there is one.
    rows
        Rows learned from; 0 if it failed.
    tuning
        What was tried before; None where nothing was.
    """

    family: str
    seed: int
    symbol: str
    horizons: tuple[int, ...]
    train_at_ms: int
    models: tuple[TrainedModel, ...]
    problem: str
    rows: int
    seconds: float
    tuning: Tuning | None = None

"""What a TRAIN job asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db.repositories.jobs import Job
from domain.models import families
from training.settings import TrainingPlan

#: Key of a job's settings that names the horizons of a joint training.
HORIZONS = "horizons"


class BadJobError(ValueError):
    """A job says something that cannot be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask:
    """One training.

    Attributes
    ----------
    symbol
        A symbol, or `ALL`.
    train_at_ms
        Open time of the last candle that is known.
    train_start_ms
        Open time of the first candle to learn from.
    horizons
        Minutes ahead; a job for several has the longest in its row, and all of them in its settings.
    settings
        Of the family: the deployment's, and over them the job's own.
    """

    family: str
    symbol: str
    horizons: tuple[int, ...]
    train_at_ms: int
    train_start_ms: int
    settings: Mapping[str, Any]

    @property
    def names(self) -> dict[str, Any]:
        """Give what the training is called by, as keyword arguments: by its longest horizon."""
        return self.names_of(self.horizons[-1])

    def names_of(self, horizon_minutes: int) -> dict[str, Any]:
        """Give what the training of one of its horizons is called by."""
        return {
            "family": self.family,
            "symbol": self.symbol,
            "horizon_minutes": horizon_minutes,
            "train_at_ms": self.train_at_ms,
        }


def task_of(job: Job, plan: TrainingPlan) -> TrainTask:
    """Read what a job asks for.

    Raises
    ------
    BadJobError
        If something is missing.
    UnknownFamilyError
        If there is no such model family.
    """
    wanted = {
        "symbol": job.symbol,
        "forecast_horizon": job.forecast_horizon,
        "train_model_type": job.model_type,
        # what a person asks for has no point of its own: it ends with its data
        "train_at": job.train_end_ms if job.train_at_ms is None else job.train_at_ms,
    }
    if absent := [name for name, value in wanted.items() if value is None]:
        raise BadJobError(f"job {job.id} does not say {', '.join(absent)}")
    assert job.symbol is not None
    assert job.forecast_horizon is not None
    assert job.model_type is not None
    assert wanted["train_at"] is not None
    settings = {**plan.family_settings.get(job.model_type, {}), **job.settings}
    horizons = settings.pop(HORIZONS, [job.forecast_horizon])
    if not isinstance(horizons, list) or not all(isinstance(h, int) and h > 0 for h in horizons):
        raise BadJobError(f"job {job.id} asks for horizons {horizons!r}: give a list of minutes")
    families.check_name(job.model_type)
    return TrainTask(
        family=job.model_type,
        symbol=job.symbol,
        horizons=tuple(sorted(set(horizons))),
        train_at_ms=int(wanted["train_at"]),
        train_start_ms=job.train_start_ms or 0,
        settings=settings,
    )

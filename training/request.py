"""What a training is asked for: the plan of a deployment, and what is its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.fitting import FitRequest
from training.settings import TrainingPlan


def request_of(
    plan: TrainingPlan,
    *,
    folder: Path,
    family: str,
    symbol: str,
    horizons: tuple[int, ...],
    train_at_ms: int,
    settings: Mapping[str, Any] | None = None,
    more_seed: int = 0,
) -> FitRequest:
    """Ask for a training that begins anew, leaves no unfinished state and replaces nothing.

    Parameters
    ----------
    plan
        What all trainings of a deployment have in common.
    folder
        Where its rows are.
    settings
        Of the family; None: those of the plan.
    more_seed
        Added to the seed that the plan gives it.
    """
    seed = plan.seed_of(family=family, symbol=symbol, horizon_minutes=horizons[-1], train_at_ms=train_at_ms)
    return FitRequest(
        folder=str(folder),
        checkpoint_path="",
        family=family,
        settings=plan.family_settings.get(family, {}) if settings is None else settings,
        seed=seed + more_seed,
        symbol=symbol,
        horizons=horizons,
        train_at_ms=train_at_ms,
        feature_names=plan.feature_names,
        schema_hash=plan.schema_hash,
        warm_up_minutes=plan.warm_up_minutes,
        optional_features=plan.optional_features,
        validation_fraction=plan.validation_fraction,
        embargo_minutes=plan.embargo_minutes,
        tuning_trials=plan.tuning_trials,
    )

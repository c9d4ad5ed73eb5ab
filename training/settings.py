"""What trainings are given: the settings of one deployment, in the words of the trainings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from config.ml_config import Settings
from config.sections import ENSEMBLE_MEMBERS
from domain.evaluation.walk_forward import DEFAULT_EMBARGO_MINUTES
from domain.features import schema
from domain.forecasting.shadowing import shadow_minutes
from domain.models import families
from schemas.frames import MINUTE_MS
from training.parts import are_enough
from training.promotion import DEFAULT_ERROR_RATE, DEFAULT_MARGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What every training of a deployment has in common.

    Attributes
    ----------
    symbols
        What `ALL` stands for.
    feature_names, warm_up_minutes, schema_hash
        The vectors: names, candles after which each is there, and their hash.
    optional_features
        Features that may be missing throughout, because they need symbols that may not exist.
    family_settings
        Settings by family name.
    seed
        What the seed of each training is made from.
    activation_delay_minutes
        Event time from a training's last candle to its model's first use.
    history_minutes
        How far back a training looks; None for all there is.
    error_rate
        How often a model without skill may pass for better than no change, and a bad challenger be promoted.
    margin
        How much worse a refresh may be, a share of the no-change forecast's squared error.
    shadow_wanted_minutes, every_minutes
        How long a challenger runs in shadow if that fits, and the time between two trainings.
    mode
        How a retraining begins: `batch`, `online` or `transfer`, see `training.ancestors`.
    tuning_trials
        How many settings each training tries first, see `training.tuning`; 0 tries none.
    """

    symbols: tuple[str, ...]
    feature_names: tuple[str, ...] = schema.NAMES
    warm_up_minutes: tuple[int, ...] = tuple(feature.warm_up for feature in schema.FEATURES)
    schema_hash: str = schema.SCHEMA_HASH
    optional_features: frozenset[str] = frozenset(feature.name for feature in schema.GROUPS["cross-market"])
    family_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    validation_fraction: float = 0.2
    embargo_minutes: int = DEFAULT_EMBARGO_MINUTES
    seed: int = 42
    activation_delay_minutes: int = 5
    history_minutes: int | None = None
    error_rate: float = DEFAULT_ERROR_RATE
    margin: float = DEFAULT_MARGIN
    shadow_wanted_minutes: int = 1440
    every_minutes: int = 10_080
    mode: str = "batch"
    tuning_trials: int = 0

    def shadow_ms(self, horizon_minutes: int) -> int:
        """Tell how long a challenger of a horizon runs in shadow, in milliseconds of event time."""
        minutes = shadow_minutes(
            horizon_minutes=horizon_minutes,
            wanted_minutes=self.shadow_wanted_minutes,
            every_minutes=self.every_minutes,
        )
        return minutes * MINUTE_MS

    def can_go_on(self, seen_to_ms: int, train_at_ms: int, horizons: Sequence[int]) -> bool:
        """Tell whether enough has come since an earlier training to go on with that alone."""
        return are_enough(
            (train_at_ms - seen_to_ms) // MINUTE_MS,
            horizons=horizons,
            validation_fraction=self.validation_fraction,
            embargo_minutes=self.embargo_minutes,
        )

    def seed_of(self, *, family: str, symbol: str, horizon_minutes: int, train_at_ms: int) -> int:
        """Give the seed of one training: the same whenever and wherever it is run."""
        text = f"{self.seed}/{family}/{symbol}/{horizon_minutes}/{train_at_ms}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def joint_types(settings: Settings) -> frozenset[str]:
    """Name the configured families that learn all horizons in one training."""
    training = settings.training
    chosen = {"family": families.JOINT, "always": set(training.model_types), "never": set()}
    return frozenset(chosen[training.joint_horizons]) & set(training.model_types)


def plan_of(settings: Settings, *, schema_hash: str) -> TrainingPlan:
    """Read the plan off the settings.

    Parameters
    ----------
    settings
        All settings.
    schema_hash
        Of the vectors that the feature engine computes with these settings.
    """
    training = settings.training
    keeps_all = settings.pipeline.replay and not settings.data.retention_in_replay
    own: dict[str, dict[str, Any]] = {
        "xgboost": {
            "rounds": training.rounds,
            "max_depth": training.max_depth,
            "learning_rate": training.learning_rate,
            "subsample": training.subsample,
            "early_stopping_patience": training.early_stopping_patience,
            "threads": training.threads,
        },
        "lstm": {
            "lookback_minutes": training.lookback_minutes,
            "hidden_size": training.hidden_size,
            "attention": training.attention,
            "batch_size": training.batch_size,
            "max_epochs": training.max_epochs,
            "early_stopping_patience": training.early_stopping_patience,
            "device": training.device,
            "threads": training.threads,
        },
    }
    return TrainingPlan(
        symbols=settings.symbols,
        schema_hash=schema_hash,
        family_settings={**own, "ensemble": _ensemble(settings, own)},
        validation_fraction=training.validation_split,
        seed=training.seed,
        activation_delay_minutes=training.activation_delay_minutes,
        error_rate=training.promotion_error_rate,
        margin=training.promotion_margin,
        shadow_wanted_minutes=training.shadow_minutes,
        every_minutes=training.retrain_every_minutes,
        mode=training.training_mode,
        tuning_trials=training.tuning_trials,
        history_minutes=None if keeps_all else settings.data.retention_days * 24 * 60,
    )


def _ensemble(settings: Settings, own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    given = settings.inference.ensemble_weights
    weights = {name: weight for name, weight in given.items() if name in ENSEMBLE_MEMBERS and weight > 0}
    # what is asked for by weight and cannot be trained here is refused by name, not left out
    chosen = {"members": sorted(weights), "weights": weights} if weights else {}
    return {"weighting": settings.training.ensemble_weighting, **own, **chosen}

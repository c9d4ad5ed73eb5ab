"""What watches models and intervals, wired from the settings alike wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence

from config.ml_config import Settings
from domain.models import families
from pipeline.coverage_drift import CoverageSettings
from pipeline.drift_stage import DriftStage
from pipeline.sample_stage import Retraining
from schemas.frames import ALL_SYMBOLS


def label_of(settings: Settings, partition: int) -> str:
    """Name the symbols of a partition that are judged as one, for the column `symbol` of `"driftChecks"`."""
    return ALL_SYMBOLS if settings.pipeline.partitions == 1 else f"{ALL_SYMBOLS}/{partition}"


def drift_stage(settings: Settings, symbols: Sequence[str], partition: int = 0) -> DriftStage:
    """Make the stage that watches what models say; it goes behind the one that predicts."""
    drift = settings.drift
    return DriftStage(
        symbols=symbols,
        horizons=settings.training.forecast_horizons,
        reactions=drift.reactions,
        detector=drift.detector,
        threshold=drift.threshold,
        adwin_error_rate=drift.adwin_error_rate,
        weight_left=drift.weight_left,
        widen_by=drift.widen_by,
        every_minutes=drift.check_every_minutes,
        per_symbol=settings.training.per_symbol,
        label=label_of(settings, partition),
    )


def coverage_settings(settings: Settings, partition: int = 0) -> CoverageSettings | None:
    """Tell the forecaster's stage how to watch its intervals; None where drift is not looked for."""
    drift = settings.drift
    if not drift.enabled:
        return None
    return CoverageSettings(
        reactions=drift.reactions,
        detector=drift.detector,
        threshold=drift.threshold,
        adwin_error_rate=drift.adwin_error_rate,
        widen_by=drift.widen_by,
        every_minutes=drift.check_every_minutes,
        label=label_of(settings, partition),
    )


def trainings_of(settings: Settings) -> tuple[tuple[tuple[int, ...], str], ...]:
    """List what one point of time trains: horizons and family, as the trainer asks for it."""
    training = settings.training
    names = training.installed_model_types
    joint = {"family": families.JOINT, "always": frozenset(names), "never": frozenset[str]()}
    policy = Retraining(
        horizons=training.forecast_horizons,
        model_types=names,
        joint_types=joint[training.joint_horizons].intersection(names),
    )
    return tuple(policy.trainings())

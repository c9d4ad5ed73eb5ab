from __future__ import annotations

from config.ml_config import Settings
from domain.features.schema import NAMES, SCHEMA_HASH
from domain.models import families
from training.settings import plan_of


def test_the_default_settings_make_a_plan_that_every_installed_family_accepts() -> None:
    plan = plan_of(Settings(), schema_hash=SCHEMA_HASH)
    assert len(plan.warm_up_minutes) == len(plan.feature_names) == len(NAMES)
    assert plan.optional_features < set(NAMES)
    for name in Settings().training.installed_model_types:
        families.load(name).check_settings(plan.family_settings[name])


def test_the_seed_of_a_training_depends_on_what_is_trained_and_nothing_else() -> None:
    plan = plan_of(Settings(), schema_hash=SCHEMA_HASH)
    one = {"family": "xgboost", "symbol": "ALL", "horizon_minutes": 5, "train_at_ms": 60_000}
    assert plan.seed_of(**one) == plan_of(Settings(), schema_hash="other").seed_of(**one)
    others = [{**one, "symbol": "BTCUSDT"}, {**one, "horizon_minutes": 15}, {**one, "train_at_ms": 120_000}]
    assert len({plan.seed_of(**names) for names in [one, *others]}) == 4


def test_what_is_kept_bounds_what_is_learned_from() -> None:
    live = plan_of(Settings(), schema_hash=SCHEMA_HASH)
    replay = plan_of(Settings.model_validate({"pipeline": {"replay": True}}), schema_hash=SCHEMA_HASH)
    assert live.history_minutes == 30 * 24 * 60
    assert replay.history_minutes is None

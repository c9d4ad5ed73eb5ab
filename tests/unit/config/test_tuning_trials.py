"""How many settings a training tries: off unless asked for, and refused where it cannot be."""

from __future__ import annotations

import pytest

from config.ml_config import ConfigurationError, Settings, load
from training.settings import plan_of


def problem_of(trials: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, {"training.tuning_trials": trials})
    found = {mistake.key: str(mistake) for mistake in caught.value.mistakes}
    return found["training.tuning_trials"]


def test_nothing_is_tuned_unless_asked_for() -> None:
    assert Settings().training.tuning_trials == 0
    assert plan_of(load(), schema_hash="hash").tuning_trials == 0


def test_trials_are_asked_for_by_file_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.cross_checks.TUNING_IS_INSTALLED", True)
    settings = load(None, {"TIDECAST_TRAINING__TUNING_TRIALS": "12"}, {})
    assert plan_of(settings, schema_hash="hash").tuning_trials == 12


@pytest.mark.parametrize(("value", "told"), [(1, "at least 2"), (-1, "at least 0"), (2.5, "whole number")])
def test_a_number_of_trials_that_means_nothing_is_a_mistake(value: object, told: str) -> None:
    assert told in problem_of(value)


def test_trials_without_optuna_are_a_mistake_that_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.cross_checks.TUNING_IS_INSTALLED", False)
    assert "pip install 'tidecast[tune]'" in problem_of(20)
    assert load(None, {}, {"training.tuning_trials": 0})

"""A tuned training is a recipe of its own, whatever settings it chose."""

from __future__ import annotations

from dataclasses import replace

from training.recipe import recipe_hash
from training.settings import TrainingPlan
from training.task import TrainTask

PLAN = TrainingPlan(symbols=("BTCUSDT",), schema_hash="hash")
TASK = TrainTask(
    family="xgboost",
    symbol="ALL",
    horizons=(5,),
    train_at_ms=0,
    train_start_ms=0,
    settings={"max_depth": 4},
)


def test_so_many_trials_are_a_recipe_of_their_own() -> None:
    hashes = {recipe_hash(replace(PLAN, tuning_trials=trials), TASK) for trials in (0, 10, 20)}
    assert len(hashes) == 3


def test_the_same_trials_at_another_time_are_a_refresh() -> None:
    tuned = replace(PLAN, tuning_trials=10)
    assert recipe_hash(tuned, TASK) == recipe_hash(replace(tuned, seed=7), replace(TASK, train_at_ms=9))


def test_what_is_not_tuned_is_the_same_recipe_with_and_without_trials() -> None:
    task = replace(TASK, family="last_value", settings={})
    assert recipe_hash(replace(PLAN, tuning_trials=10), task) == recipe_hash(PLAN, task)

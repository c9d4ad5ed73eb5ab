from __future__ import annotations

import math

import numpy as np
import pytest

from domain.evaluation.metrics import directional_accuracy, skill
from domain.evaluation.score_intervals import accuracy_interval, skill_interval
from schemas.frames import MINUTE_MS

CHANCE = np.random.default_rng(5)
TIMES = np.arange(3000) * MINUTE_MS
ACTUAL = np.round(CHANCE.normal(size=3000), 1)
PREDICTED = 0.2 * ACTUAL + 0.2 * CHANCE.normal(size=3000)


def test_estimates_are_those_told_without_intervals() -> None:
    assert (ACTUAL == 0).any()
    accuracy = accuracy_interval(
        actual=ACTUAL, predicted=PREDICTED, open_time_ms=TIMES, horizon_minutes=5, seed=1
    )
    gained = skill_interval(actual=ACTUAL, predicted=PREDICTED, open_time_ms=TIMES, horizon_minutes=5, seed=1)
    assert accuracy.estimate == pytest.approx(directional_accuracy(actual=ACTUAL, predicted=PREDICTED))
    assert gained.estimate == pytest.approx(skill(actual=ACTUAL, predicted=PREDICTED))
    assert 0.5 < accuracy.low < accuracy.estimate < accuracy.high < 1.0
    assert 0.0 < gained.low < gained.estimate < gained.high < 1.0


def test_skill_is_covered_when_it_is_known() -> None:
    # actual = signal + noise, predicted = signal: the skill is the share of the variance that is signal.
    runs, covered = 150, 0
    for seed in range(runs):
        chance = np.random.default_rng(seed)
        signal, noise = chance.normal(size=2000), 2.0 * chance.normal(size=2000)
        found = skill_interval(
            actual=signal + noise,
            predicted=signal,
            open_time_ms=TIMES[:2000],
            horizon_minutes=1,
            draws=400,
            seed=seed,
        )
        covered += found.low <= 0.2 <= found.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs) <= covered / runs <= 0.999


def test_no_change_has_no_interval_because_it_never_takes_a_side() -> None:
    zeros = np.zeros(3000)
    for interval in (accuracy_interval, skill_interval):
        found = interval(actual=ACTUAL, predicted=zeros, open_time_ms=TIMES, horizon_minutes=5, seed=1)
        assert found.estimate in (0.5, 0.0)
        assert math.isnan(found.low)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn import metrics as oracle

from domain.evaluation.metrics import (
    compare,
    directional_accuracy,
    information_coefficient,
    mae,
    r2,
    rise_scores,
    rmse,
    score,
    skill,
)
from schemas.frames import MINUTE_MS

CHANCE = np.random.default_rng(3)
ACTUAL = CHANCE.normal(size=500)
PREDICTED = 0.5 * ACTUAL + CHANCE.normal(size=500)


def test_scores_agree_with_scikit_learn() -> None:
    up, said = ACTUAL > 0, PREDICTED > 0
    found = score(actual=ACTUAL, predicted=PREDICTED)
    assert found.rmse == pytest.approx(oracle.root_mean_squared_error(ACTUAL, PREDICTED))
    assert found.mae == pytest.approx(oracle.mean_absolute_error(ACTUAL, PREDICTED))
    assert found.accuracy == pytest.approx(oracle.accuracy_score(up, said))
    assert found.precision == pytest.approx(oracle.precision_score(up, said))
    assert found.recall == pytest.approx(oracle.recall_score(up, said))
    assert found.f1 == pytest.approx(oracle.f1_score(up, said))


def test_no_change_has_no_skill_and_hits_half_of_the_directions() -> None:
    zeros = np.zeros(500)
    assert skill(actual=ACTUAL, predicted=zeros) == 0.0
    assert directional_accuracy(actual=ACTUAL, predicted=zeros) == 0.5


def test_a_perfect_forecast_has_skill_one() -> None:
    assert skill(actual=ACTUAL, predicted=ACTUAL) == 1.0


def test_rows_that_did_not_move_are_left_out_of_the_direction() -> None:
    assert directional_accuracy(actual=np.array([0.0, 1.0]), predicted=np.array([-1.0, 1.0])) == 1.0
    assert math.isnan(directional_accuracy(actual=np.zeros(3), predicted=np.ones(3)))


def test_scores_of_nothing_are_not_numbers() -> None:
    empty = np.empty(0)
    assert math.isnan(rmse(actual=empty, predicted=empty))
    assert math.isnan(mae(actual=empty, predicted=empty))
    assert all(math.isnan(value) for value in rise_scores(actual=empty, predicted=empty))


def test_r2_and_information_coefficient_agree_with_scikit_learn_and_scipy() -> None:
    tied = np.round(PREDICTED, 1)
    assert r2(actual=ACTUAL, predicted=PREDICTED) == pytest.approx(oracle.r2_score(ACTUAL, PREDICTED))
    assert information_coefficient(actual=ACTUAL, predicted=tied) == pytest.approx(
        spearmanr(ACTUAL, tied).statistic
    )


SMALL = arrays(np.float32, 12, elements=st.integers(-3, 3).map(float))


@given(SMALL, SMALL)
def test_only_the_order_of_forecasts_counts_for_the_information_coefficient(
    actual: np.ndarray, predicted: np.ndarray
) -> None:
    found = information_coefficient(actual=actual, predicted=predicted)
    stretched = information_coefficient(actual=actual, predicted=np.exp(predicted))
    turned = information_coefficient(actual=actual, predicted=-predicted)
    assert stretched == pytest.approx(found, nan_ok=True)
    assert turned == pytest.approx(-found, nan_ok=True)
    assert math.isnan(found) or -1.0000001 <= found <= 1.0000001


@given(SMALL, SMALL)
def test_r2_is_never_above_the_skill(actual: np.ndarray, predicted: np.ndarray) -> None:
    found = r2(actual=actual, predicted=predicted)
    assert math.isnan(found) or found <= skill(actual=actual, predicted=predicted) + 1e-9


def test_what_never_differs_has_no_rank_and_no_variance() -> None:
    constant = np.full(500, 0.1)
    assert math.isnan(r2(actual=constant, predicted=PREDICTED))
    assert math.isnan(information_coefficient(actual=constant, predicted=PREDICTED))
    assert math.isnan(information_coefficient(actual=ACTUAL, predicted=constant))
    assert math.isnan(information_coefficient(actual=np.empty(0), predicted=np.empty(0)))


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted"):
        rmse(actual=np.ones(2), predicted=np.ones(3))


def _z(actual: np.ndarray, predicted: np.ndarray, horizon: int) -> float:
    return compare(
        actual=actual,
        predicted=predicted,
        reference=np.zeros(len(actual)),
        open_time_ms=np.arange(len(actual)) * MINUTE_MS,
        horizon_minutes=horizon,
    ).z


def test_a_real_improvement_is_told_from_chance() -> None:
    assert _z(ACTUAL, 0.3 * ACTUAL + 0.1 * PREDICTED, 5) > 5


def test_forecasts_without_skill_rarely_pass_though_labels_overlap() -> None:
    horizon, passed = 15, 0
    for seed in range(300):
        chance = np.random.default_rng(seed)
        steps = chance.normal(size=1200)
        actual = np.convolve(steps, np.ones(horizon), "valid")
        predicted = 0.3 * np.repeat(chance.normal(size=len(actual) // horizon + 1), horizon)[: len(actual)]
        passed += _z(actual, predicted, horizon) > 1.2816
    assert passed <= 300 * 0.1


def test_too_few_independent_outcomes_give_no_verdict() -> None:
    assert math.isnan(_z(ACTUAL[:100], PREDICTED[:100], 60))


def test_the_same_rows_of_many_symbols_do_not_count_as_more_evidence() -> None:
    times = np.arange(500) * MINUTE_MS
    once = compare(
        actual=ACTUAL, predicted=PREDICTED, reference=ACTUAL * 0, open_time_ms=times, horizon_minutes=5
    )
    six = compare(
        actual=np.repeat(ACTUAL, 6),
        predicted=np.repeat(PREDICTED, 6),
        reference=np.zeros(3000),
        open_time_ms=np.repeat(times, 6),
        horizon_minutes=5,
    )
    assert six.z == pytest.approx(once.z)
    assert six.minutes == once.minutes == 500

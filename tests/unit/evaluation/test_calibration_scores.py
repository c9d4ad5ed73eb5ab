from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as oracle

from domain.evaluation.calibration_scores import (
    brier_score,
    expected_calibration_error,
    interval_coverage,
    log_loss,
    mean_width,
    pinball_loss,
    reliability_points,
    winkler_score,
)

CHANCE = np.random.default_rng(11)
STATED = CHANCE.uniform(size=20_000)
ROSE = CHANCE.uniform(size=20_000) < STATED


def test_scores_agree_with_scikit_learn() -> None:
    assert brier_score(probability_up=STATED, rose=ROSE) == pytest.approx(
        oracle.brier_score_loss(ROSE, STATED)
    )
    assert log_loss(probability_up=STATED, rose=ROSE) == pytest.approx(oracle.log_loss(ROSE, STATED))
    actual, quantile = CHANCE.normal(size=500), CHANCE.normal(size=500)
    assert pinball_loss(actual=actual, quantile=quantile, level=0.8) == pytest.approx(
        oracle.mean_pinball_loss(actual, quantile, alpha=0.8)
    )


def test_a_coin_has_the_known_scores() -> None:
    halves = np.full(len(ROSE), 0.5)
    assert brier_score(probability_up=halves, rose=ROSE) == 0.25
    assert log_loss(probability_up=halves, rose=ROSE) == pytest.approx(math.log(2))
    assert expected_calibration_error(probability_up=halves, rose=ROSE) == pytest.approx(
        abs(ROSE.mean() - 0.5)
    )


def test_certainty_that_fails_costs_much_but_not_everything() -> None:
    found = log_loss(probability_up=np.array([1.0, 0.5]), rose=np.array([False, True]))
    assert 10 < found < 20


def test_a_calibrated_model_has_about_the_stated_noise_and_an_overconfident_one_its_true_error() -> None:
    calibrated = expected_calibration_error(probability_up=STATED, rose=ROSE)
    assert calibrated < 2 * 0.4 / math.sqrt(2000)
    shifted = np.clip(STATED + 0.1, 0, 1)
    truth = float(np.mean(shifted - STATED))
    assert expected_calibration_error(probability_up=shifted, rose=ROSE) == pytest.approx(truth, abs=0.01)


def test_bins_hold_equally_many_rows() -> None:
    points = reliability_points(probability_up=STATED**2, rose=ROSE, bins=10)
    assert len(points) == 10
    assert {point.rows for point in points} == {2000}


def test_noise_is_not_miscalibration_if_all_probabilities_are_nearly_equal() -> None:
    nearly = 0.5 + 1e-6 * CHANCE.normal(size=200)
    rose = np.arange(200) % 2 == 0
    points = reliability_points(probability_up=nearly, rose=rose)
    assert [point.rows for point in points] == [200]
    assert expected_calibration_error(probability_up=nearly, rose=rose) < 1e-5


def test_two_statements_are_two_points() -> None:
    stated = np.repeat([0.4, 0.6], [30, 970])
    points = reliability_points(probability_up=stated, rose=stated > 0.5)
    assert [(point.lowest, point.highest, point.observed) for point in points] == [
        (0.4, 0.4, 0),
        (0.6, 0.6, 1),
    ]
    assert sum(point.rows for point in points) == 1000


probabilities = st.lists(st.sampled_from([0.0, 0.2, 0.4999, 0.5, 0.5003, 0.5011, 0.8, 1.0]), min_size=1)


@pytest.mark.slow
@given(probabilities, st.integers(1, 12), st.randoms())
def test_points_hold_every_row_once_and_do_not_depend_on_the_order_of_rows(
    stated: list[float], bins: int, random: object
) -> None:
    rows = [(value, index % 3 == 0) for index, value in enumerate(stated)]
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = [
        reliability_points(
            probability_up=np.array([p for p, _ in part]), rose=np.array([r for _, r in part]), bins=bins
        )
        for part in (rows, shuffled)
    ]
    assert found[0] == found[1]
    points = found[0]
    assert sum(point.rows for point in points) == len(rows)
    assert len(points) <= 2 * bins
    assert all(first.highest < second.lowest for first, second in pairwise(points))
    assert sum(point.observed * point.rows for point in points) == pytest.approx(sum(r for _, r in rows))


@given(probabilities, st.integers(1, 12))
def test_the_calibration_error_is_at_least_the_bias_and_at_most_the_root_of_the_brier_score(
    stated: list[float], bins: int
) -> None:
    probability = np.array(stated)
    rose = np.arange(len(stated)) % 3 == 0
    found = expected_calibration_error(probability_up=probability, rose=rose, bins=bins)
    assert found >= abs(probability.mean() - rose.mean()) - 1e-12
    assert found <= math.sqrt(brier_score(probability_up=probability, rose=rose)) + 1e-12


def test_coverage_and_width_count_bounds_as_inside() -> None:
    actual, low, high = np.array([0.0, 1.0, 2.0, 3.0]), np.zeros(4), np.array([1.0, 1.0, 1.0, 5.0])
    assert interval_coverage(actual=actual, low=low, high=high) == 0.75
    assert mean_width(low=low, high=high) == 2.0


def test_the_winkler_score_is_the_two_pinball_losses_of_its_bounds() -> None:
    actual, level = CHANCE.normal(size=400), 0.8
    low, high = np.full(400, -1.0), np.full(400, 1.3)
    parts = pinball_loss(actual=actual, quantile=low, level=0.1) + pinball_loss(
        actual=actual, quantile=high, level=0.9
    )
    assert winkler_score(actual=actual, low=low, high=high, level=level) == pytest.approx(parts / 0.1)


def test_the_true_interval_has_the_best_winkler_score() -> None:
    actual = CHANCE.normal(size=50_000)

    def of(width: float) -> float:
        bound = np.full(len(actual), width * norm.ppf(0.9))
        return winkler_score(actual=actual, low=-bound, high=bound, level=0.8)

    assert of(1.0) < min(of(0.8), of(1.2))


def test_scores_of_nothing_are_not_numbers() -> None:
    none, no = np.empty(0), np.empty(0, np.bool_)
    assert reliability_points(probability_up=none, rose=no) == ()
    found = [
        brier_score(probability_up=none, rose=no),
        log_loss(probability_up=none, rose=no),
        expected_calibration_error(probability_up=none, rose=no),
        interval_coverage(actual=none, low=none, high=none),
        mean_width(low=none, high=none),
        pinball_loss(actual=none, quantile=none, level=0.5),
        winkler_score(actual=none, low=none, high=none, level=0.5),
    ]
    assert all(math.isnan(value) for value in found)


def test_statements_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="probability_up"):
        brier_score(probability_up=np.array([np.nan]), rose=np.array([True]))
    with pytest.raises(ValueError, match="rose"):
        log_loss(probability_up=np.array([0.5]), rose=np.array([True, False]))
    with pytest.raises(ValueError, match="low lies above high"):
        mean_width(low=np.array([1.0]), high=np.array([0.0]))
    with pytest.raises(ValueError, match="level"):
        winkler_score(actual=np.zeros(1), low=np.zeros(1), high=np.zeros(1), level=80)
    with pytest.raises(ValueError, match="bins"):
        reliability_points(probability_up=STATED, rose=ROSE, bins=0)

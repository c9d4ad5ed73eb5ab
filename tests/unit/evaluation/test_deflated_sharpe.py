from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kurtosis, skew

from domain.evaluation.deflated_sharpe import (
    deflated_sharpe,
    expected_highest_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
)
from domain.evaluation.equity import sharpe_ratio


@pytest.mark.parametrize(("trials", "deflated"), [(100, 0.9004), (46, 0.9505)])
def test_the_example_of_the_paper(trials: int, deflated: float) -> None:
    # Five years of 250 days, annual Sharpe 2.5, skewness -3, kurtosis 10, annual variance of trials 1/2.
    chance = expected_highest_sharpe(trials=trials, sharpe_variance=0.5 / 250)
    if trials == 100:
        assert chance == pytest.approx(0.1132, abs=5e-5)
    found = probabilistic_sharpe(
        sharpe=2.5 / math.sqrt(250), reference=chance, periods=1250, skewness=-3.0, kurtosis=10.0
    )
    assert found == pytest.approx(deflated, abs=5e-4)


@pytest.mark.parametrize(("per_year", "years"), [(252, 2.73), (52, 2.83), (12, 3.24)])
def test_the_track_records_of_the_paper(per_year: int, years: float) -> None:
    # Annual Sharpe 2 against 1, normal returns.
    found = minimum_track_record(sharpe=2 / math.sqrt(per_year), reference=1 / math.sqrt(per_year))
    assert found / per_year == pytest.approx(years, abs=0.01)


def test_after_the_minimum_track_record_the_probability_is_the_wanted_one() -> None:
    shape = {"skewness": -0.7, "kurtosis": 6.0}
    periods = minimum_track_record(sharpe=0.1, reference=0.02, confidence=0.9, **shape)
    below = probabilistic_sharpe(sharpe=0.1, reference=0.02, periods=math.floor(periods), **shape)
    above = probabilistic_sharpe(sharpe=0.1, reference=0.02, periods=math.ceil(periods), **shape)
    assert below < 0.9 <= above


def test_the_best_of_many_trials_without_skill_rarely_passes_though_it_would_alone() -> None:
    deflated, alone = 0, 0
    for seed in range(150):
        trials = np.random.default_rng(seed).standard_t(4, size=(120, 40))
        sharpes = [sharpe_ratio(trial) for trial in trials.T]
        found = deflated_sharpe(
            returns=trials[:, int(np.argmax(sharpes))],
            trials=40,
            sharpe_variance=float(np.var(sharpes, ddof=1)),
        )
        deflated += found.deflated > 0.95
        alone += found.probabilistic > 0.95
    assert deflated / 150 <= 0.05
    assert alone / 150 > 0.7


def test_the_expected_highest_is_that_of_drawn_normals() -> None:
    drawn = np.random.default_rng(1).normal(0.0, 0.3, size=(20_000, 25)).max(axis=1).mean()
    assert expected_highest_sharpe(trials=25, sharpe_variance=0.09) == pytest.approx(drawn, rel=0.02)


def test_a_single_trial_is_not_deflated_and_its_moments_are_those_of_scipy() -> None:
    returns = np.random.default_rng(2).gamma(2.0, size=200) - 1.8
    found = deflated_sharpe(returns=returns, trials=1, sharpe_variance=float("nan"))
    assert found.expected_of_chance == 0.0
    assert found.deflated == found.probabilistic
    assert found.probabilistic == pytest.approx(
        probabilistic_sharpe(
            sharpe=found.sharpe,
            reference=0.0,
            periods=200,
            skewness=float(skew(returns)),
            kurtosis=float(kurtosis(returns, fisher=False)),
        )
    )


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.floats(0, 1))
def test_more_trials_never_lower_the_bar(first: int, second: int, variance: float) -> None:
    low, high = sorted((first, second))
    assert (
        expected_highest_sharpe(trials=low, sharpe_variance=variance)
        <= expected_highest_sharpe(trials=high, sharpe_variance=variance) + 1e-12
    )


@pytest.mark.parametrize("returns", [np.empty(0), np.ones(1), np.zeros(30), np.full(30, 0.1)])
def test_returns_that_do_not_vary_have_no_probability(returns: np.ndarray) -> None:
    found = deflated_sharpe(returns=returns, trials=10, sharpe_variance=0.01)
    assert math.isnan(found.deflated)
    assert math.isnan(found.probabilistic)
    assert math.isnan(found.minimum_periods)


def test_what_cannot_be_told_is_not_a_number() -> None:
    returns = np.random.default_rng(3).normal(size=50)
    unknown = deflated_sharpe(returns=returns, trials=5, sharpe_variance=float("nan"))
    assert math.isnan(unknown.deflated)
    assert not math.isnan(unknown.probabilistic)
    assert math.isnan(minimum_track_record(sharpe=0.0))
    with pytest.raises(ValueError, match="trials"):
        expected_highest_sharpe(trials=0, sharpe_variance=0.1)

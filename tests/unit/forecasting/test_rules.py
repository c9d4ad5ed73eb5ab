"""Regime, volatility, trend and confidence: cases small enough to work out by hand."""

import math

import numpy as np
import pytest

from domain.forecasting.confidence import HitRates
from domain.forecasting.regime import REGIMES, classify
from domain.forecasting.trend import TrendRule
from domain.forecasting.volatility import COMPONENT_MINUTES, VolatilityRule, nearest_horizon

NAN = float("nan")


def regime(hour: float, four_hours: float, day: float, efficiency: float, **options) -> str:
    found = classify(
        hour_volatility_pct=np.array([hour]),
        four_hour_volatility_pct=np.array([four_hours]),
        day_volatility_pct=np.array([day]),
        efficiency=np.array([efficiency]),
        **options,
    )
    return REGIMES[found[0]]


@pytest.mark.parametrize(
    ("hour", "four_hours", "day", "efficiency", "expected"),
    [
        (0.1, 0.1, 0.1, 0.1, "ranging"),
        (0.1, 0.1, 0.1, 0.3, "trending"),
        (0.16, 0.1, 0.1, 0.1, "volatile"),
        (0.16, 0.1, 0.1, 0.9, "volatile"),  # volatile goes before trending
        (0.15, 0.1, 0.1, 0.2, "ranging"),  # on the edge of both is neither
        (0.2, 0.1, NAN, 0.1, "volatile"),  # no day yet: four hours serve
        (0.2, NAN, NAN, 0.1, "ranging"),  # nothing to compare with
        (NAN, NAN, NAN, NAN, "ranging"),
    ],
)
def test_regime_follows_its_stated_rule(hour, four_hours, day, efficiency, expected):
    assert regime(hour, four_hours, day, efficiency) == expected


def test_regime_that_is_not_allowed_is_never_named():
    assert regime(0.9, 0.1, 0.1, 0.9, allowed=("trending", "ranging")) == "trending"
    assert regime(0.9, 0.1, 0.1, 0.9, allowed=("ranging",)) == "ranging"


def test_equal_components_are_scaled_by_the_constant_alone():
    stated = VolatilityRule((60,)).predict(np.full((1, 6), 0.2))
    assert stated[0, 0] == pytest.approx(0.2 * math.exp(-0.08), rel=1e-12)


def test_volatility_is_the_weighted_geometric_mean_of_its_components():
    stated = VolatilityRule((1440,)).predict(np.array([[0.5, 0.4, 0.3, 0.2, 0.1, 0.05]]))
    by_hand = 0.02 + sum(
        weight * math.log(value)
        for weight, value in zip((0.03, 0.04, 0.06, 0.13, 0.74), (0.4, 0.3, 0.2, 0.1, 0.05), strict=True)
    )
    assert stated[0, 0] == pytest.approx(math.exp(by_hand), rel=1e-12)


def test_unknown_component_is_replaced_by_the_next_shorter_one_else_by_the_next_longer():
    rule = VolatilityRule((5,))
    short = rule.predict(np.array([[0.1, 0.2, NAN, NAN, NAN, NAN], [NAN, NAN, 0.3, 0.3, 0.3, 0.3]]))
    full = rule.predict(np.array([[0.1, 0.2, 0.2, 0.2, 0.2, 0.2], [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]]))
    assert np.array_equal(short, full)
    assert np.isnan(rule.predict(np.full((1, 6), NAN))).all()


def test_weights_of_every_horizon_have_no_unit():
    rule = VolatilityRule(COMPONENT_MINUTES)
    some = np.array([[0.5, 0.4, 0.3, 0.2, 0.1, 0.05]])
    assert rule.predict(10 * some) == pytest.approx(10 * rule.predict(some), rel=1e-9)


def test_horizon_that_was_not_fitted_takes_the_nearest_in_ratio():
    assert [nearest_horizon(h) for h in (1, 8, 9, 100, 130, 10_080)] == [5, 5, 15, 60, 240, 1440]


def test_trend_gives_back_a_share_of_the_slope_by_regime():
    rule = TrendRule(horizons=(5, 240), windows=(5, 60, 240))
    stated = rule.predict(np.array([[9.0, 2.0, -1.0]] * 3), np.array([0, 1, 2], np.int8))
    assert stated == pytest.approx(np.array([[-0.08, 0.04], [-0.04, 0.02], [-0.1, 0.05]]))


def test_trend_falls_back_on_a_shorter_window_and_states_nothing_without_any():
    rule = TrendRule(horizons=(5,), windows=(5, 60))
    stated = rule.predict(np.array([[3.0, NAN], [NAN, NAN]]), np.array([1, 1], np.int8))
    assert stated == pytest.approx(np.array([[-0.06], [0.0]]))


def test_confidence_begins_at_the_prior_and_moves_to_the_share_of_hits():
    rates = HitRates((5,))
    none = np.zeros((1, 1), np.int64)
    assert rates.confidence("trend", none, none)[0, 0] == pytest.approx(52.0)
    # The prior weighs as much as 20 horizons of 5 outcomes: (75 + 52) / (100 + 100).
    assert rates.confidence("trend", none + 75, none + 100)[0, 0] == pytest.approx(63.5)
    assert rates.confidence("volatility", none, none)[0, 0] == pytest.approx(40.0)

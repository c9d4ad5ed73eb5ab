"""A thousand promotions of bad challengers: no more of them pass than the stated error rate allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from domain.evaluation.paired import PairedTest, paired_test
from schemas.frames import MINUTE_MS, Float64
from training.promotion import BRIER_MARGIN, DEFAULT_ERROR_RATE, DEFAULT_MARGIN, decide_challenge

TRIALS, HORIZON = 1000, 15
#: A shadow of a day, less the outcomes that are not known at its end.
MINUTES = 1440 - HORIZON
TIMES = np.arange(MINUTES) * MINUTE_MS
#: Three standard deviations of a share of so many trials.
CHANCE = 3 * math.sqrt(DEFAULT_ERROR_RATE * (1 - DEFAULT_ERROR_RATE) / TRIALS)


class Market:
    """Outcomes over overlapping horizons, with heavy tails, and volatility that comes in clusters."""

    def __init__(self, seed: int, trials: int = TRIALS) -> None:
        self.chance = np.random.default_rng(seed)
        self.trials = trials
        volatility = np.exp(0.5 * self.slow(0.995, MINUTES + HORIZON))
        tails = np.sqrt(3 / self.chance.chisquare(5, (trials, MINUTES + HORIZON)))
        steps = volatility * tails * self.chance.normal(size=(trials, MINUTES + HORIZON))
        path = np.concatenate([np.zeros((trials, 1)), np.cumsum(steps, axis=1)], axis=1)
        self.scale = math.sqrt(HORIZON) * volatility[:, :MINUTES]
        #: In units of the volatility that is known at the time.
        self.actual = (path[:, HORIZON:-1] - path[:, : -HORIZON - 1]) / self.scale
        self.no_change = self.actual**2

    def slow(self, persistence: float, minutes: int = MINUTES) -> Float64:
        shocks = self.chance.normal(size=(self.trials, minutes)) * math.sqrt(1 - persistence**2)
        shocks[:, 0] /= math.sqrt(1 - persistence**2)
        found: Float64 = lfilter([1], [1, -persistence], shocks, axis=1)
        return found

    def noise(self, share: float) -> Float64:
        """Make forecasts that know nothing and cost this share of the no-change forecast's squared error."""
        raw = self.slow(1 - 1 / HORIZON)
        return raw * math.sqrt(share * float(np.mean(self.no_change)) / float(np.mean(raw**2)))

    def loss(self, said: Float64) -> Float64:
        return (self.actual - said) ** 2

    def errors(self, challenger: Float64, incumbent: Float64, margin: float) -> list[PairedTest]:
        return [
            paired_test(
                challenger=challenger[trial],
                incumbent=incumbent[trial],
                reference=self.no_change[trial],
                margin=margin,
                open_time_ms=TIMES,
                horizon_minutes=HORIZON,
            )
            for trial in range(self.trials)
        ]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(seed=3)


#: So good that it refuses nobody.
FINE = PairedTest(lead=1.0, standard_error=0.001, margin=BRIER_MARGIN, blocks=40, rows=MINUTES)


def promoted(errors: list[PairedTest], *, is_refresh: bool, brier: list[PairedTest] | None = None) -> float:
    decisions = [
        decide_challenge(
            error=error,
            brier=FINE if brier is None else brier[trial],
            is_refresh=is_refresh,
            incumbent="old",
        )
        for trial, error in enumerate(errors)
    ]
    return sum(decision.promote for decision in decisions) / len(decisions)


@pytest.mark.slow
def test_refreshes_that_are_worse_by_the_margin_pass_no_more_often_than_stated(market: Market) -> None:
    old = market.noise(0.005)
    new = old + market.noise(DEFAULT_MARGIN)
    errors = market.errors(market.loss(new), market.loss(old), DEFAULT_MARGIN)
    share = promoted(errors, is_refresh=True)
    assert share <= DEFAULT_ERROR_RATE + CHANCE
    assert share >= DEFAULT_ERROR_RATE / 2, "a test that hardly ever says yes would be of no use"


def test_new_recipes_that_are_no_better_pass_no_more_often_than_stated(market: Market) -> None:
    errors = market.errors(market.loss(market.noise(0.005)), market.loss(market.noise(0.005)), 0.0)
    assert DEFAULT_ERROR_RATE / 2 <= promoted(errors, is_refresh=False) <= DEFAULT_ERROR_RATE + CHANCE


def test_challengers_that_are_much_worse_hardly_ever_pass() -> None:
    market = Market(seed=5, trials=300)
    old = market.noise(0.005)
    worse = market.loss(old + market.noise(0.06))
    assert promoted(market.errors(worse, market.loss(old), DEFAULT_MARGIN), is_refresh=True) <= 0.03
    assert promoted(market.errors(worse, market.loss(old), 0.0), is_refresh=False) <= 0.03


def test_better_probabilities_do_not_make_up_for_worse_errors_nor_the_other_way_round() -> None:
    market = Market(seed=6, trials=500)
    rose = (market.actual > 0).astype(np.float64)
    wrong = np.sign(market.slow(1 - 1 / HORIZON)) * math.sqrt(BRIER_MARGIN * 0.25)
    brier = [
        paired_test(
            challenger=(0.5 + wrong[trial] - rose[trial]) ** 2,
            incumbent=(0.5 - rose[trial]) ** 2,
            reference=np.full(MINUTES, 0.25),
            margin=BRIER_MARGIN,
            open_time_ms=TIMES,
            horizon_minutes=HORIZON,
        )
        for trial in range(market.trials)
    ]
    better = PairedTest(lead=1.0, standard_error=0.001, margin=0.0, blocks=40, rows=MINUTES)
    share = promoted([better] * market.trials, is_refresh=False, brier=brier)
    assert share <= DEFAULT_ERROR_RATE + 3 * math.sqrt(0.09 / market.trials)


def test_challengers_that_are_clearly_better_pass_most_of_the_time() -> None:
    market = Market(seed=7, trials=300)
    # the incumbent says much that is wrong: the challenger has learned better
    errors = market.errors(market.no_change, market.loss(market.noise(0.2)), 0.0)
    assert promoted(errors, is_refresh=False) > 0.7
    old = market.noise(0.005)
    same = market.errors(market.loss(old + market.noise(0.0001)), market.loss(old), DEFAULT_MARGIN)
    assert promoted(same, is_refresh=True) > 0.9

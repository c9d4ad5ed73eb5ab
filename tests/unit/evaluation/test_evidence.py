from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from domain.evaluation.evidence import SkillTest, judge, measure_skill
from domain.evaluation.metrics import skill
from schemas.frames import MINUTE_MS

HORIZON = 15
RUNS = 300
#: Three standard deviations of a rate of 5 % that is counted 300 times.
SIMULATION_ERROR = 3 * math.sqrt(0.05 * 0.95 / RUNS)


def _returns(seed: int, count: int) -> np.ndarray:
    """Noise whose volatility persists for hours."""
    chance = np.random.default_rng(seed)
    slow = np.convolve(chance.normal(size=count + 120), np.full(120, 1 / math.sqrt(120)), "valid")[:count]
    noise: np.ndarray = chance.normal(size=count) * np.exp(0.7 * slow)
    return noise


def _market(seed: int, count: int = 2000, planted: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the changes over the next 15 minutes, and those of the past 15 that a model may look at."""
    steps = _returns(seed, count + 2 * HORIZON)
    moves = np.convolve(steps, np.ones(HORIZON), "valid")
    past, coming = moves[:count], moves[HORIZON : count + HORIZON]
    return coming + planted * past, past


def _test(actual: np.ndarray, predicted: np.ndarray, family: str = "momentum") -> SkillTest:
    return measure_skill(
        family=family,
        horizon_minutes=HORIZON,
        actual=actual,
        predicted=predicted,
        open_time_ms=np.arange(len(actual)) * MINUTE_MS,
    )


def test_noise_is_called_skill_no_more_often_than_stated() -> None:
    # So small a forecast costs nothing in squared error: the skill is 0, the border of "none".
    claimed = 0
    for seed in range(RUNS):
        actual, past = _market(seed)
        claimed += judge([_test(actual, 1e-3 * past)])[0].evidence
    assert claimed / RUNS <= 0.05 + SIMULATION_ERROR
    assert claimed > 0


@pytest.mark.slow
def test_any_of_many_is_called_skill_no_more_often_than_stated() -> None:
    claimed = 0
    for seed in range(RUNS):
        actual, past = _market(seed)
        chance = np.random.default_rng(seed)
        rivals = [past, -past, *(np.roll(past, shift) for shift in chance.integers(100, 1900, size=4))]
        tests = [_test(actual, 1e-3 * rival, family=str(name)) for name, rival in enumerate(rivals)]
        claimed += any(verdict.evidence for verdict in judge(tests))
    assert claimed / RUNS <= 0.05 + SIMULATION_ERROR


def test_models_that_fitted_noise_are_hardly_ever_called_skilled() -> None:
    claimed = 0
    for seed in range(RUNS):
        actual, past = _market(seed)
        learnt = float(past[:500] @ actual[:500] / (past[:500] @ past[:500]))
        claimed += judge([_test(actual[515:], learnt * past[515:])])[0].evidence
    assert claimed / RUNS <= 0.05


def test_a_planted_signal_is_found_among_many_that_are_none() -> None:
    found = 0
    for seed in range(40):
        actual, past = _market(seed, count=16_000, planted=0.5)
        others = [_test(actual, np.roll(past, 300 + 50 * shift) * 0.1) for shift in range(7)]
        verdicts = judge([*others, _test(actual, 0.5 * past)])
        found += verdicts[-1].evidence
    assert found >= 36


def test_skill_is_that_of_the_metrics_and_one_symbol_copied_six_times_is_no_more_evidence() -> None:
    actual, past = _market(1, planted=0.2)
    once = _test(actual, 0.2 * past)
    assert once.skill == pytest.approx(skill(actual=actual, predicted=0.2 * past))
    six = measure_skill(
        family="momentum",
        horizon_minutes=HORIZON,
        actual=np.tile(actual, 6),
        predicted=np.tile(0.2 * past, 6),
        open_time_ms=np.tile(np.arange(len(actual)) * MINUTE_MS, 6),
    )
    assert six.p_value == pytest.approx(once.p_value)
    assert six.skill == pytest.approx(once.skill)


def test_without_overlap_the_p_value_is_close_to_that_of_a_t_test() -> None:
    chance = np.random.default_rng(2)
    actual, predicted = chance.normal(size=4000), 0.05 * chance.normal(size=4000) + 0.02
    found = measure_skill(
        family="any",
        horizon_minutes=1,
        actual=actual,
        predicted=predicted,
        open_time_ms=np.arange(4000) * MINUTE_MS,
    )
    gain = actual**2 - (actual - predicted) ** 2
    oracle = ttest_1samp(gain, 0.0, alternative="greater")
    assert found.skill / found.standard_error == pytest.approx(oracle.statistic, rel=0.25)


def test_too_few_independent_outcomes_are_no_evidence_and_say_so() -> None:
    actual, past = _market(1, count=200, planted=0.9)
    verdict = judge([_test(actual, 0.9 * past)])[0]
    assert not verdict.evidence
    assert math.isnan(verdict.lower_bound)
    assert verdict.sentence.startswith("no evidence of skill")
    assert "too few" in verdict.sentence


@pytest.mark.parametrize("count", [0, 5000])
def test_nothing_that_changed_is_no_evidence(count: int) -> None:
    verdict = judge([_test(np.zeros(count), np.ones(count))])[0]
    assert not verdict.evidence
    assert verdict.sentence.startswith("no evidence of skill")


def test_no_change_itself_is_no_evidence_and_a_perfect_forecast_is() -> None:
    actual, _ = _market(1)
    nothing, perfect = judge([_test(actual, np.zeros(len(actual))), _test(actual, actual)])
    assert not nothing.evidence
    assert nothing.adjusted_p == 1.0
    assert perfect.evidence
    assert perfect.test.skill == 1.0
    assert perfect.sentence.startswith("evidence of skill")


skill_tests = st.lists(
    st.builds(
        SkillTest,
        family=st.just("any"),
        horizon_minutes=st.just(5),
        skill=st.floats(-0.1, 0.1) | st.just(float("nan")),
        standard_error=st.floats(1e-3, 0.1) | st.just(float("nan")),
        blocks=st.integers(10, 500),
    ),
    min_size=1,
    max_size=12,
)


@given(skill_tests, st.integers(0, 20))
def test_there_is_evidence_exactly_if_the_lower_bound_is_above_zero(
    tests: list[SkillTest], unseen: int
) -> None:
    for verdict in judge(tests, tried=len(tests) + unseen):
        assert verdict.evidence == (verdict.lower_bound > 1e-12)
        assert verdict.evidence == (verdict.adjusted_p < 0.05)
        assert verdict.sentence.startswith("evidence" if verdict.evidence else "no evidence of skill")


@given(skill_tests)
def test_holm_claims_all_that_bonferroni_does_and_more_trials_never_add_a_claim(
    tests: list[SkillTest],
) -> None:
    verdicts, later = judge(tests), judge(tests, tried=3 * len(tests))
    for verdict, after in zip(verdicts, later, strict=True):
        assert verdict.evidence or not verdict.test.p_value < 0.05 / len(tests)
        assert verdict.evidence or not after.evidence
        assert after.adjusted_p >= verdict.adjusted_p


def test_inputs_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted"):
        _test(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="tried"):
        judge([_test(np.zeros(3), np.zeros(3))], tried=0)
    with pytest.raises(ValueError, match="family_wise_error"):
        judge([], family_wise_error=5)
    assert judge([]) == ()

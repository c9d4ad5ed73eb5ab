from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from domain.evaluation.backtest_overfitting import probability_of_backtest_overfitting

NOISE = np.random.default_rng(4).normal(size=(160, 20))


def _plainly(returns: np.ndarray, blocks: int) -> list[float]:
    """Write the logits down the way of the paper, one choice at a time."""
    parts, logits = np.array_split(returns, blocks), []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[at] for at in chosen])
        outside = np.concatenate([parts[at] for at in range(blocks) if at not in chosen])
        best = int(np.argmax(inside.mean(axis=0) / inside.std(axis=0)))
        rank = rankdata(outside.mean(axis=0) / outside.std(axis=0))[best] / (returns.shape[1] + 1)
        logits.append(math.log(rank / (1 - rank)))
    return logits


@pytest.mark.parametrize("periods", [83, 24, 16])
def test_it_is_what_the_paper_says_one_choice_at_a_time(periods: int) -> None:
    blocks = 8 if periods == 16 else 10
    found = probability_of_backtest_overfitting(NOISE[:periods, :7], most_blocks=blocks)
    logits = _plainly(NOISE[:periods, :7], blocks)
    assert found.blocks == blocks
    assert found.choices == len(logits)
    assert found.probability == pytest.approx(np.mean(np.array(logits) <= 0))
    assert found.median_logit == pytest.approx(np.median(logits))


def test_the_best_of_noise_is_chance_about_every_second_time() -> None:
    found = [
        probability_of_backtest_overfitting(
            np.random.default_rng(seed).normal(size=(96, 30)), most_blocks=10
        ).probability
        for seed in range(60)
    ]
    error = float(np.std(found)) / math.sqrt(60)
    assert abs(float(np.mean(found)) - 0.5) <= 3 * error + 0.05


def test_a_trial_that_is_really_better_is_not_overfitted() -> None:
    better = NOISE.copy()
    better[:, 3] += 0.6
    found = probability_of_backtest_overfitting(better)
    assert found.blocks == 16
    assert found.choices == 12_870
    assert found.probability < 0.01
    assert found.probability_of_loss < 0.01
    assert found.median_logit > 1


def test_trials_that_were_each_fitted_to_a_stretch_of_time_are_overfitted() -> None:
    fitted = 0.05 * NOISE
    for trial in range(20):
        block = trial % 16
        fitted[:, trial] -= 0.1 / 15
        fitted[block * 10 : block * 10 + 10, trial] += 0.1
    assert probability_of_backtest_overfitting(fitted).probability > 0.8


def test_trials_that_never_traded_stand_at_zero() -> None:
    losing = NOISE.copy() - 1.0
    losing[:, 5] = 0.0
    found = probability_of_backtest_overfitting(losing, most_blocks=8)
    assert found.probability == 0.0
    assert found.probability_of_loss == 0.0


def test_the_order_of_trials_does_not_matter() -> None:
    assert probability_of_backtest_overfitting(
        NOISE[:, ::-1], most_blocks=8
    ) == probability_of_backtest_overfitting(NOISE, most_blocks=8)


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (NOISE[:, :1], "trial"),
        (NOISE[:, :0], "trial"),
        (NOISE[:15], "periods"),
        (NOISE[:0], "periods"),
        (np.repeat(NOISE[:, :1], 4, axis=1), "differ"),
        (np.zeros((40, 3)), "differ"),
    ],
)
def test_it_says_why_it_cannot_tell(returns: np.ndarray, reason: str) -> None:
    found = probability_of_backtest_overfitting(returns)
    assert math.isnan(found.probability)
    assert reason in found.reason


def test_inputs_that_are_no_matrix_of_returns_are_refused() -> None:
    with pytest.raises(ValueError, match="matrix"):
        probability_of_backtest_overfitting(np.zeros(9))
    with pytest.raises(ValueError, match="matrix"):
        probability_of_backtest_overfitting(np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match="most_blocks"):
        probability_of_backtest_overfitting(NOISE, most_blocks=9)

"""Odds that were too bold become probabilities to believe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from domain.models import calibration
from domain.models.model import TrainingRows

Make = Callable[..., TrainingRows]


def _moves(rows: TrainingRows, log_odds: np.ndarray, *, seed: int = 1) -> TrainingRows:
    """Let rows rise with the probability that the log-odds say."""
    chance = np.random.default_rng(seed)
    rose = chance.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))
    return replace(rows, target_pct=np.where(rose, 0.1, -0.1))


def test_odds_that_are_three_times_too_bold_are_drawn_back(make_rows: Make) -> None:
    rows = make_rows(rows=40_000)
    truth = 0.5 * np.random.default_rng(0).normal(size=(len(rows), 1))
    rows = _moves(rows, truth)
    found = calibration.fit(log_odds=(3 * truth).astype(np.float32), rows=rows, horizons=(1,))
    assert abs(found.slopes[0] - 1 / 3) < 0.03
    stated = found.apply((3 * truth).astype(np.float32))[:, 0]
    for low, high in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8)):
        inside = (stated > low) & (stated < high)
        assert abs(stated[inside].mean() - np.mean(rows.target_pct[inside, 0] > 0)) < 0.02


def test_odds_that_say_nothing_become_one_half(make_rows: Make) -> None:
    rows = make_rows(rows=5_000)
    noise = np.random.default_rng(5).normal(size=(len(rows), 1))
    rows = _moves(rows, np.zeros((len(rows), 1)))
    found = calibration.fit(log_odds=noise.astype(np.float32), rows=rows, horizons=(60,))
    stated = found.apply(noise.astype(np.float32))
    assert np.abs(stated - 0.5).max() < 0.15
    assert np.abs(stated - 0.5).mean() < 0.04


def test_a_model_that_was_wrong_is_not_turned_around(make_rows: Make) -> None:
    rows = make_rows(rows=5_000)
    truth = np.random.default_rng(0).normal(size=(len(rows), 1))
    rows = _moves(rows, -truth)
    found = calibration.fit(log_odds=truth.astype(np.float32), rows=rows, horizons=(1,))
    assert found.slopes == (0.0,)


def test_overlapping_outcomes_count_as_few(make_rows: Make) -> None:
    rows = make_rows(rows=3_000)
    truth = np.random.default_rng(0).normal(size=(len(rows), 1))
    rows = _moves(rows, truth)
    odds = truth.astype(np.float32)
    slopes = [calibration.fit(log_odds=odds, rows=rows, horizons=(h,)).slopes[0] for h in (1, 60, 1440)]
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[-1] < 0.6 * slopes[0]


def test_rows_that_did_not_move_or_are_not_known_say_nothing(make_rows: Make) -> None:
    rows = make_rows(rows=400)
    odds = np.random.default_rng(0).normal(size=(len(rows), 1)).astype(np.float32)
    target = np.where(np.arange(400)[:, None] % 2, 0.0, np.nan)
    found = calibration.fit(log_odds=odds, rows=replace(rows, target_pct=target), horizons=(5,))
    assert np.all(found.apply(odds) == 0.5)


def test_much_signal_is_believed_although_the_history_is_short(make_rows: Make) -> None:
    # 100 independent outcomes, right in 76 of 100
    rows = make_rows(rows=1_500)
    truth = 1.6 * np.repeat(np.random.default_rng(3).normal(size=(100, 1)), 15, axis=0)
    rows = _moves(rows, truth, seed=4)
    rows = replace(rows, target_pct=np.repeat(rows.target_pct[::15], 15, axis=0))
    found = calibration.fit(log_odds=truth.astype(np.float32), rows=rows, horizons=(15,))
    assert 0.7 < found.slopes[0] < 1.3


def test_a_little_signal_in_a_short_history_stays_near_one_half(make_rows: Make) -> None:
    # right in 55 of 100, seen 20 times
    rows = make_rows(rows=300)
    truth = 0.25 * np.repeat(np.random.default_rng(3).normal(size=(20, 1)), 15, axis=0)
    for seed in range(20):
        moved = _moves(rows, truth, seed=seed)
        found = calibration.fit(log_odds=truth.astype(np.float32), rows=moved, horizons=(15,))
        assert np.abs(found.apply(truth.astype(np.float32)) - 0.5).mean() < 0.08


def test_every_fifth_minute_says_as_much_about_an_hour_as_every_minute(make_rows: Make) -> None:
    rows = make_rows(rows=6_000)
    truth = np.repeat(np.random.default_rng(3).normal(size=(100, 1)), 60, axis=0)
    rows = _moves(rows, truth, seed=4)
    rows = replace(rows, target_pct=np.repeat(rows.target_pct[::60], 60, axis=0))
    odds = truth.astype(np.float32)
    all_of_them = calibration.fit(log_odds=odds, rows=rows, horizons=(60,)).slopes[0]
    fifth = rows.take(np.arange(0, 6_000, 5))
    assert abs(calibration.fit(log_odds=odds[::5], rows=fifth, horizons=(60,)).slopes[0] - all_of_them) < 1e-3

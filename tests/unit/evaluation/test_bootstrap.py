from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.evaluation.bootstrap import (
    block_length,
    mean_interval,
    minute_sums,
    paired_difference_interval,
    ratio_interval,
    resampled_totals,
    standard_error_of_mean,
    statistic_interval,
)
from schemas.frames import MINUTE_MS


def _times(count: int) -> np.ndarray:
    return np.arange(count) * MINUTE_MS


def _overlapping(seed: int, count: int, horizon: int) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=count + horizon - 1)
    return np.convolve(steps, np.ones(horizon), "valid")


@pytest.mark.slow
@pytest.mark.parametrize(("horizon", "count"), [(1, 1500), (15, 3000), (60, 3000)])
def test_intervals_cover_the_truth_as_often_as_they_say_though_labels_overlap(
    horizon: int, count: int
) -> None:
    runs = 250
    covered = 0
    for seed in range(runs):
        found = mean_interval(
            values=_overlapping(seed, count, horizon) > 0,
            open_time_ms=_times(count),
            horizon_minutes=horizon,
            draws=400,
            seed=seed,
        )
        covered += found.low <= 0.5 <= found.high
    error = math.sqrt(0.95 * 0.05 / runs)
    assert 0.95 - 3 * error <= covered / runs <= 0.999


def test_a_share_is_covered_though_what_it_counts_comes_in_bursts() -> None:
    runs, covered = 150, 0
    for seed in range(runs):
        chance = np.random.default_rng(seed)
        volatility = np.exp(_overlapping(seed + 10_000, 6000, 30) / math.sqrt(30))
        missed = np.abs(chance.normal(size=6000)) * volatility > 2.0
        found = mean_interval(
            values=missed, open_time_ms=_times(6000), horizon_minutes=1, draws=400, seed=seed
        )
        covered += found.low <= BURST_SHARE <= found.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs) <= covered / runs


#: P(|Z| e^N > 2) for independent standard normal Z and N, by quadrature.
BURST_SHARE = float(
    np.average(
        [
            math.erfc(2.0 * math.exp(-node) / math.sqrt(2.0))
            for node in np.polynomial.hermite_e.hermegauss(60)[0]
        ],
        weights=np.polynomial.hermite_e.hermegauss(60)[1],
    )
)


def test_six_symbols_that_move_together_are_no_more_certain_than_one() -> None:
    values, times = _overlapping(1, 2000, 5), _times(2000)
    once = mean_interval(values=values, open_time_ms=times, horizon_minutes=5, seed=4)
    six = mean_interval(
        values=np.repeat(values, 6), open_time_ms=np.repeat(times, 6), horizon_minutes=5, seed=4
    )
    assert (six.low, six.high) == pytest.approx((once.low, once.high))
    assert six.blocks == once.blocks


@given(st.permutations(range(60)), st.integers(0, 5))
@settings(max_examples=30)
def test_the_order_in_which_rows_are_given_does_not_matter(order: list[int], seed: int) -> None:
    chance = np.random.default_rng(seed)
    values, times = chance.integers(-4, 5, size=60).astype(float), chance.integers(0, 90, size=60) * MINUTE_MS
    shuffled = np.array(order)
    first = mean_interval(values=values, open_time_ms=times, horizon_minutes=1, draws=50, seed=seed)
    second = mean_interval(
        values=values[shuffled], open_time_ms=times[shuffled], horizon_minutes=1, draws=50, seed=seed
    )
    assert first == second or math.isnan(first.low)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values, times = _overlapping(1, 2000, 5), _times(2000)

    def bounds(seed: int) -> tuple[float, float]:
        found = mean_interval(values=values, open_time_ms=times, horizon_minutes=5, seed=seed)
        return found.low, found.high

    assert bounds(4) == bounds(4)
    assert bounds(4) != bounds(5)


def test_a_higher_level_is_a_wider_interval_around_the_same_estimate() -> None:
    values, times = _overlapping(1, 2000, 5), _times(2000)
    narrow = mean_interval(values=values, open_time_ms=times, horizon_minutes=5, level=0.5, seed=4)
    wide = mean_interval(values=values, open_time_ms=times, horizon_minutes=5, level=0.99, seed=4)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    assert narrow.estimate == wide.estimate == pytest.approx(values.mean())


def test_the_spread_of_drawn_totals_is_the_closed_form() -> None:
    sums = minute_sums(columns=_overlapping(3, 4000, 10), open_time_ms=_times(4000), horizon_minutes=10)
    drawn = resampled_totals(sums=sums, draws=4000, seed=1)[:, 0] / 4000
    corrected = drawn.std() / math.sqrt((1 - sums.missed_variance) * (1 - 1 / sums.blocks))
    assert standard_error_of_mean(sums) == pytest.approx(corrected, rel=0.05)


def test_the_standard_error_is_the_known_one_of_overlapping_sums() -> None:
    horizon, count = 15, 4000
    truth = horizon / math.sqrt(count)
    found = [
        standard_error_of_mean(
            minute_sums(
                columns=_overlapping(seed, count, horizon),
                open_time_ms=_times(count),
                horizon_minutes=horizon,
            )
        )
        for seed in range(100)
    ]
    assert math.sqrt(np.mean(np.square(found))) == pytest.approx(truth, rel=0.06)


def test_every_draw_is_made_of_as_many_minutes_as_there_are() -> None:
    sums = minute_sums(columns=np.ones(1013), open_time_ms=_times(1013), horizon_minutes=7)
    assert 1013 % sums.block_minutes
    assert resampled_totals(sums=sums, draws=20, seed=0) == pytest.approx(1013.0)


def test_a_long_gap_adds_no_outcomes_and_no_memory() -> None:
    values, times = _overlapping(1, 2000, 5), _times(2000)
    later = np.where(np.arange(2000) < 1000, times, times + 10**12)
    whole = minute_sums(columns=values, open_time_ms=times, horizon_minutes=5)
    parted = minute_sums(columns=values, open_time_ms=later, horizon_minutes=5)
    assert len(parted.grid) == len(whole.grid) + whole.block_minutes - 1
    assert abs(parted.blocks - whole.blocks) <= 1
    assert parted.grid.sum() == pytest.approx(values.sum())


def test_rows_that_are_far_apart_count_as_independent() -> None:
    sums = minute_sums(columns=np.ones(30), open_time_ms=np.arange(30) * 10**9, horizon_minutes=5)
    assert sums.blocks == 29  # the last row only begins a block


def test_too_few_independent_blocks_give_no_interval() -> None:
    found = mean_interval(
        values=_overlapping(1, 500, 60), open_time_ms=_times(500), horizon_minutes=60, seed=0
    )
    assert math.isfinite(found.estimate)
    assert found.blocks < 10
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_no_rows_give_no_number_at_all() -> None:
    found = mean_interval(values=np.empty(0), open_time_ms=np.empty(0, np.int64), horizon_minutes=5, seed=0)
    assert found.blocks == 0
    assert all(math.isnan(value) for value in (found.estimate, found.low, found.high))


def test_what_never_varied_has_no_interval_of_width_zero() -> None:
    found = mean_interval(values=np.full(5000, 0.1), open_time_ms=_times(5000), horizon_minutes=5, seed=0)
    assert found.estimate == pytest.approx(0.1)
    assert math.isnan(found.low)


def test_a_ratio_that_most_draws_cannot_form_has_no_interval() -> None:
    count = np.zeros(5000)
    count[7] = 1.0
    found = statistic_interval(
        sums=minute_sums(
            columns=np.column_stack([count, count]), open_time_ms=_times(5000), horizon_minutes=5
        ),
        statistic=lambda totals: totals[..., 0] / totals[..., 1],
        seed=0,
    )
    assert found.estimate == 1.0
    assert math.isnan(found.low)


def test_a_ratio_of_sums_is_covered() -> None:
    runs, covered = 150, 0
    for seed in range(runs):
        weight = np.random.default_rng(seed).exponential(size=3000)
        noise = _overlapping(seed, 3000, 5)
        found = ratio_interval(
            numerator=weight * (0.3 + noise),
            denominator=weight,
            open_time_ms=_times(3000),
            horizon_minutes=5,
            draws=400,
            seed=seed,
        )
        covered += found.low <= 0.3 <= found.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs) <= covered / runs <= 0.999


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    shared = _overlapping(1, 3000, 5)
    first = shared + 0.1 + 0.1 * _overlapping(2, 3000, 5)
    times = _times(3000)
    paired = paired_difference_interval(
        first=first, second=shared, open_time_ms=times, horizon_minutes=5, seed=0
    )
    alone = mean_interval(values=first, open_time_ms=times, horizon_minutes=5, seed=0)
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)
    assert paired.estimate == pytest.approx(float(np.mean(first - shared)))


@given(st.integers(1, 2000), st.integers(0, 10**7))
def test_a_block_is_at_least_two_horizons_and_grows_with_both(horizon: int, minutes: int) -> None:
    length = block_length(horizon_minutes=horizon, minutes=minutes)
    assert length >= 2 * horizon
    assert block_length(horizon_minutes=horizon + 1, minutes=minutes) >= length
    assert block_length(horizon_minutes=horizon, minutes=2 * minutes) >= length


def test_a_month_of_minutes_is_drawn_a_thousand_times_within_a_second() -> None:
    month = 43_200
    columns = np.random.default_rng(0).normal(size=(month, 2))
    begin = time.process_time()
    sums = minute_sums(columns=columns, open_time_ms=_times(month), horizon_minutes=5)
    resampled_totals(sums=sums, draws=1000, seed=0)
    assert time.process_time() - begin < 1.0


def test_inputs_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        minute_sums(columns=np.array([np.nan]), open_time_ms=_times(1), horizon_minutes=5)
    with pytest.raises(ValueError, match="open times"):
        minute_sums(columns=np.ones(2), open_time_ms=_times(1), horizon_minutes=5)
    with pytest.raises(ValueError, match="two horizons"):
        minute_sums(columns=np.ones(2), open_time_ms=_times(2), horizon_minutes=5, block_minutes=9)
    with pytest.raises(ValueError, match="horizon_minutes"):
        block_length(horizon_minutes=0, minutes=5)
    with pytest.raises(ValueError, match="level"):
        mean_interval(values=np.ones(2), open_time_ms=_times(2), horizon_minutes=5, level=95, seed=0)

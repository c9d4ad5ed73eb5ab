"""Distributions: sketches, the stability index, Kolmogorov-Smirnov for values that hang together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from domain.drift.feature_drift import FeatureDrift, compare
from domain.drift.kolmogorov_smirnov import critical_distance, distance, effective_size, p_value
from domain.drift.population_stability import LEAST_SHARE, cuts, stability_index
from domain.drift.sketch import RANKS, Counts, Summary, buckets

finite = st.floats(width=32, allow_nan=False)


@given(hnp.arrays(np.float32, st.integers(2, 60), elements=finite))
def test_buckets_are_in_the_order_of_the_values(values):
    ascending = np.sort(values)
    assert (np.diff(buckets(ascending)) >= 0).all()


def test_buckets_are_three_percent_wide_at_every_size_and_zero_is_one_number():
    for size in (1e-20, 1e-3, 1.0, 1e5):
        here, further = buckets(np.array([size, size * 1.035], np.float32))
        assert here < further
    assert len(set(buckets(np.array([0.0, -0.0], np.float32)).tolist())) == 1
    assert buckets(np.array([np.nan], np.float32)).tolist() == [-1]
    below, above = buckets(np.array([-np.inf, np.inf], np.float32))
    assert below < buckets(np.array([-3e38], np.float32))[0]
    assert above > buckets(np.array([3e38], np.float32))[0]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), parts=st.integers(1, 6))
def test_sketch_does_not_depend_on_order_or_batches_and_survives_a_restart(seed, parts):
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(300, 3)).astype(np.float32)
    vectors[chance.random(vectors.shape) < 0.1] = np.nan
    whole, pieces = Counts(3), Counts(3)
    whole.add(vectors)
    for piece in np.array_split(chance.permutation(vectors), parts):
        again = Counts(3)
        again.take(pieces.state())
        pieces = again
        pieces.add(piece)
    assert np.array_equal(whole.summary().ranks, pieces.summary().ranks)
    assert np.allclose(whole.summary().missing, np.isnan(vectors).mean(axis=0))


def test_ranks_of_a_block_are_its_quantiles():
    values = np.random.default_rng(1).normal(size=(5000, 1)).astype(np.float32)
    counts = Counts(1)
    counts.add(values)
    wanted = np.quantile(values, (np.arange(RANKS) + 0.5) / RANKS, method="inverted_cdf")
    assert np.array_equal(counts.summary().ranks[0], buckets(wanted))


def psi(reference, current) -> float:
    """Compute the index by hand, from whole numbers."""
    ends = cuts(np.asarray(reference), np.ones(len(reference)))

    def shares(values):
        place = np.searchsorted(ends, values)
        return np.bincount(place, minlength=len(ends) + 1) / len(values)

    return float(stability_index(shares(reference), shares(current)))


def test_index_is_that_of_the_textbook():
    p, q = np.full(10, 0.1), np.array([0.19, *[0.1] * 8, 0.01])
    by_hand = 0.09 * np.log(1.9) + (-0.09) * np.log(0.1)
    assert stability_index(p, q) == pytest.approx(by_hand)
    assert stability_index(p, p) == 0.0


def test_bins_are_deciles_of_the_reference():
    ends = cuts(np.arange(1000), np.ones(1000))
    assert ends.tolist() == [99, 199, 299, 399, 499, 599, 699, 799, 899]
    weighted = cuts(np.array([1, 2, 3]), np.array([8.0, 1.0, 1.0]))
    assert weighted.tolist() == [0, 1, 2]


def test_constant_feature_is_stable_until_it_moves_to_either_side():
    same = [7] * 100
    assert psi(same, same) == 0.0
    assert psi(same, [8] * 100) > 5.0
    assert psi(same, [6] * 100) > 5.0


def test_ties_get_a_bin_of_their_own():
    reference = [0] * 500 + list(range(1, 501))
    assert psi(reference, [0] * 500 + list(range(1, 501))) == 0.0
    assert psi(reference, [0] * 100 + list(range(1, 501)) + list(range(1, 401))) > 0.25


def test_empty_bin_costs_what_the_least_share_costs():
    p, q = np.array([0.5, 0.5]), np.array([0.0, 1.0])
    expected = (LEAST_SHARE - 0.5) * np.log(LEAST_SHARE / 0.5) + 0.5 * np.log(2.0)
    assert stability_index(p, q) == pytest.approx(expected)


def test_distance_and_p_value_are_those_of_scipy():
    chance = np.random.default_rng(3)
    one, other = chance.normal(size=400), 0.15 + chance.normal(size=500)
    grid = np.sort(np.concatenate([one, other]))
    cdfs = [np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (one, other)]
    theirs = stats.ks_2samp(one, other, method="asymp")
    assert distance(*cdfs) == pytest.approx(theirs.statistic)
    size = 400 * 500 / 900
    assert p_value(theirs.statistic, size) == pytest.approx(theirs.pvalue, rel=0.15)
    assert p_value(critical_distance(0.01, size), size) == pytest.approx(0.01)


def autoregressive(chance, minutes: int, memory: float, columns: int) -> np.ndarray:
    """Draw sequences in which a value is forgotten after so many minutes."""
    keep = np.exp(-1.0 / memory)
    noise = chance.normal(size=(minutes, columns)) * np.sqrt(1 - keep**2)
    out = np.empty_like(noise)
    out[0] = chance.normal(size=columns)
    for k in range(1, minutes):
        out[k] = keep * out[k - 1] + noise[k]
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "low", "high"), [(1.0, 300, 1440), (60.0, 6, 26), (1440.0, 1, 3)])
def test_effective_size_of_a_day_tells_how_long_values_hang_together(memory, low, high):
    chance = np.random.default_rng(4)
    days = autoregressive(chance, 60 * 1440, memory, 1).reshape(60, 1440)
    ranks = stats.rankdata(days).reshape(days.shape) / days.size
    # An autoregressive sequence counts for minutes / (2 memory) independent values.
    assert low <= effective_size(ranks.mean(axis=1), 1440.0) <= high


def test_effective_size_is_bounded_and_that_of_equal_days_is_all_of_them():
    assert effective_size(np.array([0.5, 0.5]), 100.0) == 100.0
    assert effective_size(np.array([0.0, 1.0]), 100.0) == 1.0
    assert effective_size(np.array([0.5]), 100.0) == 100.0


def summaries(days: np.ndarray) -> list[Summary]:
    """Sum up days of shape (days, rows, features)."""
    found = []
    for day in days:
        counts = Counts(day.shape[1])
        counts.add(day.astype(np.float32))
        found.append(counts.summary())
    return found


def look(days: list[Summary]) -> FeatureDrift:
    return compare(days[:-1], days[-1], psi_threshold=0.25, error_rate=0.01, most_rows=days[-1].rows)


@pytest.mark.slow
def test_days_of_one_population_hardly_ever_alarm_however_slow_the_features_are():
    # 20 features from those that forget in a minute to those that remember for two days, on 60 days.
    chance, thinned = np.random.default_rng(5), 24
    memories = np.geomspace(1.0, 2880.0, 20)
    columns = [autoregressive(chance, 75 * 288, memory / 5, 1) for memory in memories]
    days = summaries(np.concatenate(columns, axis=1)[:: thinned // 8].reshape(75, -1, 20))
    shares = [look(days[k : k + 15]).drifted.mean() for k in range(60)]
    naive = [(look(days[k : k + 15]).psi > 0.25).mean() for k in range(60)]
    assert np.mean(np.array(shares) >= 0.1) <= 0.05
    assert np.mean(np.array(naive) >= 0.1) > 0.9  # what a fixed limit alone would make of it


@pytest.mark.parametrize(
    "change",
    [lambda x: x + 2.0, lambda x: 3.0 * x, lambda x: np.where(np.arange(len(x))[:, None] % 2, np.nan, x)],
)
def test_shift_a_wider_spread_and_missing_values_are_seen(change):
    days = np.random.default_rng(6).normal(size=(15, 288, 4))
    days[-1, :, :2] = change(days[-1, :, :2])
    found = look(summaries(days))
    beyond = found.psi > found.psi_threshold
    assert beyond.tolist() == [True, True, False, False]


def test_day_that_differs_no_more_than_the_days_of_the_reference_do_is_no_drift():
    chance = np.random.default_rng(7)
    days = chance.normal(size=(15, 288, 1)) + chance.normal(size=(15, 1, 1))
    days[-1] += days[:-1].mean() - days[-1].mean()
    found = look(summaries(days))
    assert not found.drifted.any()
    assert found.psi_threshold[0] > 0.25


def test_feature_that_was_never_there_and_one_that_vanishes():
    days = np.random.default_rng(8).normal(size=(9, 288, 3))
    days[:, :, 0] = np.nan
    days[:-1, :, 1] = np.nan
    days[-1, :, 2] = np.nan
    found = look(summaries(days))
    assert (found.psi > found.psi_threshold).tolist() == [False, True, True]
    assert found.drifted.tolist() == [False, False, True]

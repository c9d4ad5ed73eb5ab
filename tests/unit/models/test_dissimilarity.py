"""A row that a model has hardly seen the like of is told from the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.models import dissimilarity
from schemas.frames import Float32


@pytest.fixture(scope="module")
def learned() -> Float32:
    chance = np.random.default_rng(3)
    vectors = chance.normal(size=(20_000, 12)) * np.logspace(-3, 4, 12) + 7.0
    vectors[chance.random(vectors.shape) < 0.05] = np.nan
    vectors[:, 4] = np.nan
    vectors[:, 5] = 2.5
    return vectors.astype(np.float32)


def test_one_learned_row_in_a_thousand_is_unlike_the_others(learned: Float32) -> None:
    measured = dissimilarity.fit(learned).apply(learned)
    assert np.mean(measured > 1) == pytest.approx(dissimilarity.UNLIKE_SHARE, abs=2e-4)


def test_a_market_of_three_times_the_spread_is_unlike(learned: Float32) -> None:
    measure = dissimilarity.fit(learned)
    stretched = 7.0 + 3.0 * (learned - 7.0)
    # ten features of a normal distribution: chi-square says 97 %
    assert np.mean(measure.apply(stretched) > 1) > 0.95


def test_what_is_missing_or_never_varied_says_nothing(learned: Float32) -> None:
    measure = dissimilarity.fit(learned)
    row = np.array([measure.centres], np.float32)
    odd = row.copy()
    odd[:, 4:6] = 1e9
    odd[:, 0] = np.nan
    assert measure.apply(odd)[0] == measure.apply(row)[0] == 0.0
    assert not measure.distances(odd).any()


@given(st.integers(0, 11), st.floats(0, 1e6))
def test_the_further_away_a_feature_is_the_more_unlike_is_its_row(
    learned: Float32, feature: int, away: float
) -> None:
    measure = dissimilarity.fit(learned[:500])
    rows = np.array([measure.centres] * 2, np.float32)
    rows[0, feature] += np.float32(away)
    rows[1, feature] += np.float32(2 * away)
    near, far = measure.apply(rows)
    assert near <= far


def test_rows_that_never_vary_have_no_measure_and_are_like_anything() -> None:
    measure = dissimilarity.fit(np.ones((100, 3), np.float32))
    assert measure.apply(np.array([[5.0, 6.0, 7.0]], np.float32))[0] == 0.0

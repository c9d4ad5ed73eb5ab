from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

from domain.evaluation.walk_forward import TooFewRowsError, WalkForward
from domain.features.labels import known_at_ms
from schemas.frames import MINUTE_MS

splits = st.builds(
    WalkForward,
    horizon_minutes=st.integers(1, 40),
    embargo_minutes=st.integers(0, 10),
    validation_fraction=st.sampled_from([0.1, 0.2, 0.24]),
    n_splits=st.integers(1, 4),
)
minutes = st.lists(st.integers(0, 400), min_size=20, max_size=300)


@pytest.mark.slow
@given(splits, minutes)
def test_no_label_interval_of_a_training_row_touches_that_of_a_validation_row(
    splitter: WalkForward, chosen: list[int]
) -> None:
    times = np.array(chosen) * MINUTE_MS
    try:
        pairs = list(splitter.split(None, groups=times))
    except TooFewRowsError:
        assume(False)
    reach = splitter.horizon_minutes * MINUTE_MS
    for train, validation in pairs:
        gap = times[validation].min() - (times[train].max() + reach)
        assert gap > splitter.embargo_minutes * MINUTE_MS
        assert not set(train) & set(validation)


@pytest.mark.slow
@given(splits, minutes, st.integers(0, 450))
def test_no_row_is_used_whose_label_was_not_known_at_the_cut(
    splitter: WalkForward, chosen: list[int], cut: int
) -> None:
    times = np.array(chosen) * MINUTE_MS
    limited = WalkForward(
        horizon_minutes=splitter.horizon_minutes,
        embargo_minutes=splitter.embargo_minutes,
        validation_fraction=splitter.validation_fraction,
        n_splits=splitter.n_splits,
        cut_ms=cut * MINUTE_MS,
    )
    try:
        pairs = list(limited.split(None, groups=times))
    except TooFewRowsError:
        assume(False)
    known = known_at_ms(open_time_ms=times, horizon_minutes=limited.horizon_minutes)
    for train, validation in pairs:
        assert known[train].max() <= times[validation].min()
        assert known[validation].max() <= cut * MINUTE_MS


@given(splits, minutes)
def test_what_comes_after_the_cut_changes_no_split(splitter: WalkForward, chosen: list[int]) -> None:
    cut = 300 * MINUTE_MS
    limited = WalkForward(horizon_minutes=splitter.horizon_minutes, cut_ms=cut)
    times = np.sort(np.array(chosen)) * MINUTE_MS
    before = times[times < cut]
    try:
        expected = list(limited.split(None, groups=before))
    except (TooFewRowsError, ValueError):
        assume(False)
    found = list(limited.split(None, groups=times))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_validation_parts_follow_one_another_and_end_with_the_data() -> None:
    splitter = WalkForward(horizon_minutes=1, embargo_minutes=0, validation_fraction=0.2, n_splits=3)
    times = np.arange(100) * MINUTE_MS
    parts = [validation for _, validation in splitter.split(None, groups=times)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(40, 100))


def test_rows_of_one_minute_are_never_torn_apart() -> None:
    times = np.repeat(np.arange(50), 6) * MINUTE_MS
    train, validation = next(WalkForward(horizon_minutes=3).split(None, groups=times))
    assert not set(times[train]) & set(times[validation])
    assert len(validation) % 6 == 0


def test_the_splitter_works_inside_scikit_learn() -> None:
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(300, 3))
    splitter = WalkForward(horizon_minutes=5, n_splits=3, validation_fraction=0.2)
    scores = cross_val_score(
        LinearRegression(),
        vectors,
        vectors @ np.array([1.0, 2.0, 3.0]),
        groups=np.arange(300) * MINUTE_MS,
        cv=splitter,
    )
    assert len(scores) == splitter.get_n_splits() == 3
    assert scores.min() > 0.99


def test_a_history_shorter_than_the_horizon_is_refused_by_a_clear_error() -> None:
    times = np.arange(30) * MINUTE_MS
    with pytest.raises(TooFewRowsError, match="shorter than the horizon"):
        next(WalkForward(horizon_minutes=60, cut_ms=30 * MINUTE_MS).split(None, groups=times))
    with pytest.raises(TooFewRowsError, match="wait for more history"):
        next(WalkForward(horizon_minutes=60).split(None, groups=times))


@pytest.mark.parametrize(
    "wrong",
    [
        {"horizon_minutes": 0},
        {"horizon_minutes": 1, "embargo_minutes": -1},
        {"horizon_minutes": 1, "validation_fraction": 1.0},
        {"horizon_minutes": 1, "n_splits": 5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must|leave"):
        WalkForward(**wrong)

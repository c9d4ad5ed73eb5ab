"""When trainings are due."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.forecasting.retraining import retraining_points

MINUTE = 60_000
WEEK = 7 * 24 * 60


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_first_point_is_one_window_after_the_first_candle_and_later_ones_are_mondays():
    first = ms("2021-04-02T00:00")
    points = retraining_points(first, first - 1, ms("2021-04-20T00:00"), 8000, WEEK)
    assert points == [
        ms("2021-04-07T13:20"),
        ms("2021-04-12T00:00"),
        ms("2021-04-19T00:00"),
    ]


def test_span_is_open_at_its_beginning_and_closed_at_its_end():
    first = ms("2021-04-02T00:00")
    due = ms("2021-04-02T10:00")
    assert retraining_points(first, due - 1, due, 600, WEEK) == [due]
    assert retraining_points(first, due, due + MINUTE, 600, WEEK) == []


def test_young_data_is_trained_on_again_whenever_there_is_twice_as_much():
    first = ms("2021-04-06T00:00")
    points = retraining_points(first, first - 1, ms("2021-04-13T00:00"), 600, WEEK)
    assert points == [
        ms("2021-04-06T10:00"),
        ms("2021-04-06T20:00"),
        ms("2021-04-07T16:00"),
        ms("2021-04-09T08:00"),
        ms("2021-04-12T00:00"),
        ms("2021-04-12T16:00"),
    ]


def test_multiple_before_the_first_point_is_skipped():
    first = ms("2021-04-04T20:00")
    points = retraining_points(first, 0, ms("2021-04-11T00:00"), 8000, WEEK)
    assert points == [ms("2021-04-10T09:20")]


@pytest.mark.parametrize(("window", "every"), [(0, 10), (10, 0)])
def test_empty_window_or_distance_is_refused(window, every):
    with pytest.raises(ValueError, match="at least 1"):
        retraining_points(0, 0, 1, window, every)


@given(
    st.integers(0, 10**5),
    st.lists(st.integers(0, 10**5), min_size=1, max_size=8).map(sorted),
    st.integers(1, 2000),
    st.integers(1, 3000),
)
def test_points_do_not_depend_on_how_time_is_cut(first, cuts, window, every):
    bounds = [-1, *cuts]
    pieces = [
        point
        for a, b in itertools.pairwise(bounds)
        for point in retraining_points(first * MINUTE, a * MINUTE, b * MINUTE, window, every)
    ]
    assert pieces == retraining_points(first * MINUTE, -MINUTE, cuts[-1] * MINUTE, window, every)

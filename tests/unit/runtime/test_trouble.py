"""A worker that runs and gets nothing done says so."""

from __future__ import annotations

import pytest

from runtime.trouble import Trouble
from schemas.frames import MINUTE_MS


def watched(
    seconds: int,
    *,
    moves: bool,
    input_moves: bool = True,
    lag_minutes_a_minute: float = 0.0,
    excused: bool = False,
) -> list[str]:
    """Look every other second while a minute of event time comes in a second, and tell the end."""
    trouble = Trouble()
    for second in range(0, seconds + 1, 2):
        trouble.measured(
            1000.0 + second,
            place=second if moves else "here",
            newest_ms=second * MINUTE_MS if input_moves else 0,
            lag_ms=int(second / 60 * lag_minutes_a_minute * MINUTE_MS),
            excused=excused,
        )
    return trouble.problems(1000.0 + seconds)


def test_a_worker_that_stands_still_while_its_input_goes_on_says_so() -> None:
    assert watched(70, moves=False) == [
        "has not moved for 70 s while its input went on by 70 minutes",
    ]


@pytest.mark.parametrize(
    "situation",
    [
        {"seconds": 50, "moves": False},
        {"seconds": 600, "moves": True},
        {"seconds": 600, "moves": False, "input_moves": False},
        {"seconds": 600, "moves": False, "excused": True},
        {"seconds": 200, "moves": True, "lag_minutes_a_minute": 60},
        {"seconds": 600, "moves": True, "lag_minutes_a_minute": 0.1},
        {"seconds": 600, "moves": True, "lag_minutes_a_minute": 60, "excused": True},
    ],
)
def test_a_worker_that_gets_on_or_has_nothing_to_do_is_well(situation: dict[str, object]) -> None:
    assert watched(**situation) == []  # type: ignore[arg-type]


def test_a_worker_whose_lag_grows_and_grows_says_so() -> None:
    (said,) = watched(400, moves=True, lag_minutes_a_minute=60)
    assert said.startswith("falls behind: its lag grew by")


def test_a_lag_that_comes_and_goes_is_none() -> None:
    trouble = Trouble()
    for second in range(0, 1200, 2):
        trouble.measured(1.0 + second, place=second, newest_ms=0, lag_ms=second % 240 * 60_000, excused=False)
    assert trouble.problems(1200.0) == []


def test_starting_over_again_and_again_is_told_until_it_ends() -> None:
    trouble = Trouble()
    trouble.started_over(10.0, "postgres")
    trouble.started_over(11.0, "postgres")
    assert trouble.problems(11.0) == []
    trouble.started_over(12.0, "postgres")
    assert trouble.problems(12.0) == ["started over 3 times in a minute, last for postgres"]
    assert trouble.problems(100.0) == []


def test_parked_events_are_told() -> None:
    assert Trouble(parked=1).problems(0.0) == [
        "1 event parked in the last hour: see `tidecast dead-letters list`"
    ]

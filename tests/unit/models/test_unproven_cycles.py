"""Time of day is no feature before there are enough days."""

import numpy as np

from schemas.frames import MINUTE_MS
from training.parts import unproven_cycles

NAMES = ("return_1", "day_sine", "day_cosine", "week_sine")


def minutes(days: int) -> np.ndarray:
    return np.arange(days * 1440, dtype=np.int64) * MINUTE_MS


def test_in_a_few_days_the_calendar_is_hidden_from_training() -> None:
    assert unproven_cycles(NAMES, minutes(2)) == [1, 2, 3]


def test_the_time_of_day_is_there_after_a_week_and_that_of_the_week_after_four() -> None:
    assert unproven_cycles(NAMES, minutes(8)) == [3]
    assert unproven_cycles(NAMES, minutes(28)) == []

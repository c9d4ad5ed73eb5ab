"""What comparisons of models over a recording have in common: weekly trainings, and the rows that are scored.

To do it in minutes instead of hours, only every so many minutes are learned from and scored. The step divides
every horizon, so that labels are exact; neighbouring minutes share nearly all of their outcome anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from schemas.frames import MINUTE_MS, Bool, Float64, Int64
from training.evaluation.history import History
from training.evaluation.schedule import Due, Policy, TooShortError, due_points
from training.settings import TrainingPlan

#: Minutes of history before the first training: below that, whole groups of features are still warming up.
FIRST_MINUTES = 7 * 1440
_WEEK_MINUTES = 7 * 1440

#: Told the fraction done (0..1), and a few words. May raise, to stop.
Tell = Callable[[float, str], None]


def check_step(step_minutes: int, horizons: Sequence[int]) -> None:
    """Refuse a step with which there would be no labels.

    Raises
    ------
    ValueError
        If it does not divide every horizon.
    """
    odd = [horizon for horizon in horizons if step_minutes < 1 or horizon % step_minutes]
    if odd:
        raise ValueError(
            f"a step of {step_minutes} minutes does not divide the horizon of {odd[0]} minutes: take a step"
            " that divides every horizon, such as 1"
        )


def weekly_points(history: History, recording: str) -> list[Due]:
    """List when models are trained: at the end of the first week, and at every weekly point behind it.

    Raises
    ------
    TooShortError
        If the recording is shorter than that.
    """
    policy = Policy(
        window_minutes=FIRST_MINUTES, every_minutes=_WEEK_MINUTES, groups=(history.frame.symbols,)
    )
    try:
        return due_points(history, policy)
    except TooShortError as error:
        raise TooShortError(
            f"{recording}: shorter than the {FIRST_MINUTES // 1440} days that the first training waits for:"
            " take a longer recording"
        ) from error


def kept_minutes(open_time_ms: Int64, step_minutes: int) -> Bool:
    """Tell which minutes are learned from and scored."""
    kept: Bool = (open_time_ms // MINUTE_MS) % step_minutes == 0
    return kept


def scored_rows(
    history: History,
    actual: Float64,
    points: Sequence[Due],
    plan: TrainingPlan,
    step_minutes: int,
) -> list[Int64]:
    """Find, for each point, the rows at which its models speak, and of which an outcome is known.

    Parameters
    ----------
    actual
        Shape (rows of the history, horizons); NaN where an outcome is not known.
    points
        Ascending; the models of one speak until those of the next do.
    """
    times = history.frame.open_time_ms
    known = kept_minutes(times, step_minutes) & history.frame.is_complete & np.isfinite(actual).any(axis=1)
    delay_ms = plan.activation_delay_minutes * MINUTE_MS
    begins_ms = [due.train_at_ms + delay_ms for due in points]
    ends_ms = [*begins_ms[1:], np.inf]
    return [
        np.flatnonzero(known & (times >= begin_ms) & (times < end_ms))
        for begin_ms, end_ms in zip(begins_ms, ends_ms, strict=True)
    ]

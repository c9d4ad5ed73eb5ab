"""How long a new model runs in shadow before it may replace another."""

from __future__ import annotations

#: Fewest horizons of a shadow: the test needs ten blocks of two horizons whose outcomes are known by its end.
LEAST_HORIZONS = 24


def shadow_minutes(*, horizon_minutes: int, wanted_minutes: int, every_minutes: int) -> int:
    """Derive how long a shadow takes, in minutes of event time.

    As long as wanted, but at most half the time between two trainings, and in any case long enough for the
    paired test to tell anything.

    Parameters
    ----------
    horizon_minutes
        How far ahead the model looks.
    wanted_minutes
        By the settings.
    every_minutes
        Between two trainings.
    """
    return max(min(wanted_minutes, every_minutes // 2), LEAST_HORIZONS * horizon_minutes)

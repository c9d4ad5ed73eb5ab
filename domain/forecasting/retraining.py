"""When a training is due: at fixed common points of event time, never by a wall clock."""

from __future__ import annotations

from schemas.frames import MINUTE_MS

#: Puts weekly points on Monday 00:00 UTC (the epoch was a Thursday).
OFFSET_MINUTES = 4 * 24 * 60


def retraining_points(
    first_ms: int,
    after_ms: int,
    to_ms: int,
    window_minutes: int,
    every_minutes: int,
    *,
    offset_minutes: int = OFFSET_MINUTES,
) -> list[int]:
    """List the retraining points in the half-open span (`after_ms`, `to_ms`], ascending.

    The first point is `window_minutes` after the first candle. While there is little data, more of it helps
    most, so trainings follow whenever it has doubled, until `every_minutes` are there. The later points are
    the multiples of `every_minutes` since the epoch, shifted by `offset_minutes`, that lie behind the first.

    Parameters
    ----------
    first_ms
        Open time of the first candle.
    after_ms, to_ms
        The span of event time that is asked about, in milliseconds.
    window_minutes
        How much data the first training needs.
    every_minutes
        Distance of the later points.
    """
    if window_minutes < 1 or every_minutes < 1:
        raise ValueError(
            f"window_minutes={window_minutes} and every_minutes={every_minutes} must be at least 1"
        )
    initial = first_ms + window_minutes * MINUTE_MS
    points = [
        point for point in _doublings(first_ms, window_minutes, every_minutes) if after_ms < point <= to_ms
    ]
    step = every_minutes * MINUTE_MS
    shift = offset_minutes * MINUTE_MS
    start = max(initial, after_ms)
    point = ((start - shift) // step + 1) * step + shift
    while point <= to_ms:
        points.append(point)
        point += step
    return sorted(set(points))


def _doublings(first_ms: int, window_minutes: int, every_minutes: int) -> list[int]:
    """List the points at which there is the first window of data, then twice as much, and so on."""
    minutes = window_minutes
    points = [first_ms + minutes * MINUTE_MS]
    while (minutes := minutes * 2) < every_minutes:
        points.append(first_ms + minutes * MINUTE_MS)
    return points

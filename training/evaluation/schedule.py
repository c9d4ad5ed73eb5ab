"""Which trainings a walk-forward makes: those that production would, or those of equal folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.forecasting.retraining import retraining_points
from schemas.frames import ALL_SYMBOLS, MINUTE_MS
from training.evaluation.history import History

#: No fold is shorter: a training an hour is more than anybody runs.
LEAST_FOLD_MINUTES = 60

#: What one training learns at once: the horizons, and the family.
Learns = tuple[tuple[int, ...], str]


class TooShortError(ValueError):
    """The recording is too short to be evaluated as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When trainings are due, and of which symbols.

    Attributes
    ----------
    window_minutes, every_minutes
        As `domain.forecasting.retraining.retraining_points` has them.
    groups
        The symbols of each partition; a pooled training is asked for by the first.
    per_symbol
        One training for each symbol instead of one for all.
    folds
        So many equal folds behind the first window, each with a training at its beginning; None: the points
        of production.
    """

    window_minutes: int
    every_minutes: int
    groups: tuple[tuple[str, ...], ...]
    per_symbol: bool = False
    folds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A point of event time, and what is trained there.

    Attributes
    ----------
    train_at_ms
        Open time of the last candle that is known.
    trained
        What is trained (`ALL` or a symbol), and its first candle.
    """

    train_at_ms: int
    trained: tuple[tuple[str, int], ...]


def check_span(minutes: int, policy: Policy) -> None:
    """Refuse a recording of so many minutes in which nothing could be trained, or not in so many folds.

    Raises
    ------
    TooShortError
        Saying what to change.
    """
    behind = minutes - 1 - policy.window_minutes
    if behind < 1:
        raise TooShortError(
            f"the recording is {minutes} minutes long, and the first training waits for"
            f" {policy.window_minutes} minutes and one more: take a longer recording, or lower"
            " training.window_size"
        )
    if policy.folds is not None and behind < policy.folds * LEAST_FOLD_MINUTES:
        raise TooShortError(
            f"{policy.folds} folds of the {behind} minutes behind the first training would be shorter than"
            f" {LEAST_FOLD_MINUTES} minutes each: ask for at most {max(1, behind // LEAST_FOLD_MINUTES)} with"
            " --folds, or take a longer recording"
        )


def due_points(history: History, policy: Policy) -> list[Due]:
    """List the points of a recording, ascending.

    Raises
    ------
    TooShortError
        If there is none.
    """
    groups = policy.groups if policy.per_symbol else policy.groups[:1]
    found: dict[int, list[tuple[str, int]]] = {}
    for group in groups:
        begun_ms = history.first_ms(group)
        if begun_ms is None:
            continue
        for point_ms in _points(policy, begun_ms, history.last_ms):
            found.setdefault(point_ms, []).extend(_trained(history, policy, group, point_ms))
    due = [
        Due(train_at_ms=point_ms, trained=tuple(trained)) for point_ms, trained in found.items() if trained
    ]
    if not due:
        first_ms = history.first_ms(history.frame.symbols)
        minutes = 0 if first_ms is None else (history.last_ms - first_ms) // MINUTE_MS + 1
        check_span(minutes, policy)
        raise TooShortError(
            f"no symbol has {policy.window_minutes} minutes before the recording of {minutes} minutes ends:"
            " take a longer one, or lower training.window_size"
        )
    return sorted(due, key=lambda each: each.train_at_ms)


def _points(policy: Policy, begun_ms: int, last_ms: int) -> list[int]:
    if policy.folds is None:
        return retraining_points(begun_ms, begun_ms - 1, last_ms, policy.window_minutes, policy.every_minutes)
    start_ms = begun_ms + policy.window_minutes * MINUTE_MS
    minutes = (last_ms - start_ms) // MINUTE_MS
    if minutes < policy.folds:
        return []
    return [start_ms + fold * minutes // policy.folds * MINUTE_MS for fold in range(policy.folds)]


def _trained(history: History, policy: Policy, group: Sequence[str], point_ms: int) -> list[tuple[str, int]]:
    firsts = {symbol: history.first_ms([symbol]) for symbol in group}
    seen = {symbol: at for symbol, at in firsts.items() if at is not None and at <= point_ms}
    if not policy.per_symbol:
        return [(ALL_SYMBOLS, min(seen.values()))] if seen else []
    # a symbol that was listed later is trained once it has the window itself
    return [(symbol, at) for symbol, at in seen.items() if at + policy.window_minutes * MINUTE_MS <= point_ms]

"""A fresh copy knows nothing of earlier calls, wherever the function keeps what it remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from domain.features.fresh_copy import fresh_copy

_calls = [0]
_total = 0
_lock = threading.Lock()


def counts_in_a_variable() -> int:
    _calls[0] += 1
    return _calls[0]


def counts_in_a_number() -> int:
    global _total
    _total += 1
    return _total


def counts_through_another_function() -> int:
    with _lock:
        return max(counts_in_a_number(), *(counts_in_a_variable() for _ in range(1)))


def counts_in_a_default(kept: list[int] = [0]) -> int:  # noqa: B006
    kept[0] += 1
    return kept[0]


def counts_on_itself() -> int:
    counts_on_itself.calls += 1  # type: ignore[attr-defined]
    return counts_on_itself.calls  # type: ignore[attr-defined,no-any-return]


counts_on_itself.calls = 0  # type: ignore[attr-defined]


def _counts_in_its_closure() -> Callable[[], int]:
    kept = {"calls": 0}

    def count() -> int:
        kept["calls"] += 1
        return kept["calls"]

    return count


class Counter:
    """Counts in an attribute."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


@pytest.mark.parametrize(
    "function",
    [
        counts_in_a_variable,
        counts_in_a_number,
        counts_through_another_function,
        counts_in_a_default,
        counts_on_itself,
        _counts_in_its_closure(),
        Counter(),
        Counter().__call__,
    ],
)
def test_each_copy_counts_from_one_and_the_function_is_left_alone(function: Callable[[], int]) -> None:
    first, second = fresh_copy(function), fresh_copy(function)

    assert [first(), first(), second()] == [1, 2, 1]
    assert fresh_copy(function)() == 1


def test_what_cannot_be_copied_is_shared() -> None:
    lock = threading.Lock()

    assert fresh_copy(lambda: lock)() is lock

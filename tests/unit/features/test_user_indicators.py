"""Indicators added by name: the same live and in history, over a fixed window."""

from __future__ import annotations

import numpy as np
import pytest

from domain.features.benchmarks import random_walk
from domain.features.errors import CandleOrderError, SnapshotMismatchError, UnknownIndicatorError
from domain.features.user_indicators import UserIndicators, known_names, validate_names
from schemas.frames import MINUTE_MS

FIRST = 27_000_000
NAMES = ["ema(length=10)", "willr", "aroon"]
WINDOW = 60


def make(names: list[str] | None = None) -> UserIndicators:
    return UserIndicators(names or NAMES, symbols=("A", "B"), window=WINDOW)


def rows(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    candles = random_walk(np.random.default_rng(seed), count, 2)
    return {
        "symbol_index": np.tile(np.arange(2, dtype=np.int32), count),
        "open_time_ms": np.repeat(FIRST + np.arange(count), 2) * MINUTE_MS,
        "ohlcv": candles.reshape(-1, 5),
    }


def part(of: dict[str, np.ndarray], chosen: slice) -> dict[str, np.ndarray]:
    return {name: values[chosen] for name, values in of.items()}


@pytest.mark.slow
def test_any_division_with_a_restart_between_gives_the_same_bits() -> None:
    given = rows(90)
    whole = make().advance(**given)

    first, second = make(), make()
    head = first.advance(**part(given, slice(0, 133)))
    second.restore(first.snapshot())
    tail = second.advance(**part(given, slice(133, None)))

    assert np.concatenate([head, tail]).tobytes() == whole.tobytes()


def test_values_are_nan_until_the_window_is_full_and_then_do_not_depend_on_older_candles() -> None:
    given = rows(100)
    whole = make().advance(**given)
    late = make().advance(**part(given, slice(60, None)))

    assert np.isnan(whole[: 2 * (WINDOW - 1)]).all()
    assert np.isfinite(whole[2 * WINDOW :]).all()
    assert late[2 * WINDOW :].tobytes() == whole[60 + 2 * WINDOW :].tobytes()


def test_a_long_gap_empties_the_window() -> None:
    given = rows(80)
    given["open_time_ms"][140:] += 6 * MINUTE_MS

    values = make().advance(**given)

    assert np.isfinite(values[139]).all()
    assert np.isnan(values[140:]).all()


def test_columns_are_named_as_the_library_names_them() -> None:
    assert make().columns == ("EMA_10", "WILLR_14", "AROOND_14", "AROONU_14", "AROONOSC_14")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("supertrnd", "did you mean supertrend"),
        ("qzxv", "see the list"),
        ("ema(length='ten')", "does not run"),
        ("ema(length=)", "not understood"),
        ("__import__('os').getcwd()", "not understood"),
        ("beta", "one row per candle"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_a_hint(name: str, complaint: str) -> None:
    with pytest.raises(UnknownIndicatorError, match=complaint):
        validate_names([name])


def test_the_same_indicator_twice_is_refused() -> None:
    with pytest.raises(UnknownIndicatorError, match="same columns: EMA_10"):
        make(["ema(length=10)", "ema"])


def test_names_that_need_more_than_candles_are_not_offered() -> None:
    assert "rsi" in known_names()
    assert "xsignals" not in known_names()


def test_a_candle_out_of_order_is_refused() -> None:
    running = make()
    running.advance(**rows(3))

    with pytest.raises(CandleOrderError, match="comes after"):
        running.advance(**rows(1))


def test_a_snapshot_of_other_names_is_refused() -> None:
    with pytest.raises(SnapshotMismatchError, match="names"):
        make().restore(make(["willr"]).snapshot())

"""When an evaluation trains: at the points of production, or at the beginning of equal folds."""

from __future__ import annotations

import numpy as np
import pytest

from domain.forecasting.retraining import retraining_points
from schemas.frames import MINUTE_MS, FeatureFrame
from training.evaluation.history import History, feed_batches
from training.evaluation.schedule import Policy, TooShortError, due_points

FIRST_MS = 1_700_000_040_000
SYMBOLS = ("AAAUSDT", "BBBUSDT")


def history(minutes: int, late: int = 0) -> History:
    """Two symbols over so many minutes; the second begins later."""
    rows = [
        (FIRST_MS + minute * MINUTE_MS, symbol)
        for minute in range(minutes)
        for symbol in range(2)
        if symbol == 0 or minute >= late
    ]
    frame = FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.array([symbol for _, symbol in rows], np.int32),
        open_time_ms=np.array([at for at, _ in rows], np.int64),
        ohlcv=np.ones((len(rows), 5)),
        origin=np.zeros(len(rows), np.int8),
        vector=np.zeros((len(rows), 3), np.float32),
        is_complete=np.ones(len(rows), np.bool_),
        complete_to_ms=FIRST_MS + (minutes - 1) * MINUTE_MS,
        schema_hash="x",
    )
    return History(frame=frame, stops=(len(rows),), complete_to_ms=(frame.complete_to_ms,))


def policy(**changes: object) -> Policy:
    given: dict[str, object] = {"window_minutes": 100, "every_minutes": 300, "groups": (SYMBOLS,)}
    return Policy(**{**given, **changes})  # type: ignore[arg-type]


def test_without_folds_the_points_are_those_of_production() -> None:
    due = due_points(history(2_000), policy())
    last_ms = FIRST_MS + 1_999 * MINUTE_MS
    assert [each.train_at_ms for each in due] == retraining_points(FIRST_MS, FIRST_MS - 1, last_ms, 100, 300)
    assert all(each.trained == (("ALL", FIRST_MS),) for each in due)


def test_folds_are_equally_long_and_begin_behind_the_first_window() -> None:
    due = due_points(history(1_100), policy(folds=4))
    minutes = [(each.train_at_ms - FIRST_MS) // MINUTE_MS for each in due]
    assert minutes[0] == 100
    assert all(abs(step - 250) <= 1 for step in np.diff(minutes))
    assert len(minutes) == 4


def test_a_symbol_with_a_model_of_its_own_is_trained_once_it_has_the_window() -> None:
    due = due_points(history(700, late=250), policy(per_symbol=True))
    for each in due:
        named = dict(each.trained)
        assert "AAAUSDT" in named
        assert ("BBBUSDT" in named) == (each.train_at_ms >= FIRST_MS + 350 * MINUTE_MS)
    assert any(len(each.trained) == 2 for each in due)


def test_a_recording_shorter_than_the_first_window_says_how_long_it_is_and_what_to_change() -> None:
    with pytest.raises(TooShortError, match=r"50 minutes long.*training\.window_size"):
        due_points(history(50), policy())


def test_batches_hold_every_candle_once_in_order_and_know_of_absences_up_to_their_end() -> None:
    times = FIRST_MS + np.array([0, 1, 2, 9, 10, 23]) * MINUTE_MS
    candles = np.column_stack([times, np.ones((6, 5))])
    batches = list(feed_batches({"AAAUSDT": candles, "BBBUSDT": candles[2:4]}, SYMBOLS, batch_minutes=5))
    rows = [
        (int(at), int(symbol))
        for batch in batches
        for at, symbol in zip(batch.candles.open_time_ms, batch.candles.symbol_index, strict=True)
    ]
    assert rows == sorted(rows)
    assert len(rows) == len(set(rows)) == 8
    ends = [batch.known_to_ms.tolist() for batch in batches]
    assert all(first == second for first, second in ends)
    assert [first for first, _ in ends] == [FIRST_MS + k * MINUTE_MS for k in (4, 9, 14, 19, 23)]
    assert all(batch.as_of_ms is None for batch in batches)

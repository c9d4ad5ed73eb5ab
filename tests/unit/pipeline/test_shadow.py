"""What challengers would have said: rows of their own, and nothing that is served changes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain.models.serving import Answers
from pipeline.inference_stage import InferenceStage, ServingModel
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS, FeatureFrame

SYMBOLS = ("BTCUSDT", "ETHUSDT")
T0 = 1_617_321_600_000


def event_time(minute: int) -> int:
    return T0 + (minute + 1) * MINUTE_MS


def frame(rows: list[tuple[int, int]], *, complete: Any = True, schema_hash: str = "h") -> FeatureFrame:
    """Make rows of (minute, symbol)."""
    count = len(rows)
    times = np.array([T0 + minute * MINUTE_MS for minute, _ in rows], np.int64)
    return FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.array([symbol for _, symbol in rows], np.int32),
        open_time_ms=times,
        ohlcv=np.ones((count, 5)),
        origin=np.zeros(count, np.int8),
        vector=np.array([[minute + 0.5 * symbol] for minute, symbol in rows], np.float32).reshape(count, 1),
        is_complete=np.broadcast_to(np.asarray(complete, np.bool_), count).copy(),
        complete_to_ms=int(times.max()) if count else T0,
        schema_hash=schema_hash,
        as_of_ms=times + MINUTE_MS,
    )


class Asked:
    """A graph of two horizons that counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, vectors: Any) -> Answers:
        self.times += 1
        change = np.column_stack([vectors[:, 0], vectors[:, 0] + 100]).astype(np.float32)
        return Answers(change, np.full(change.shape, 0.75, np.float32), np.zeros(len(vectors), np.float32))


def model(version: str, begin: int, end: int | None, ask: Asked, **changes: Any) -> ServingModel:
    values: dict[str, Any] = {
        "version": version,
        "symbol": "ALL",
        "horizon_minutes": 5,
        "effective_from_ms": event_time(begin),
        "until_ms": None if end is None else event_time(end),
        "schema_hash": "h",
        "artifact": version,
        "ask": ask,
    }
    return ServingModel(**values | changes)


def stage(*challengers: ServingModel) -> InferenceStage:
    made = InferenceStage(horizons=(5, 15), max_prediction_age_s=300)
    made.serve([model("served", 0, None, Asked())])
    made.shadow(challengers)
    return made


def told(rows: Any) -> list[tuple[Any, ...]]:
    """Give the rows as (version, symbol, minute, horizon, value, probability), sorted."""
    found: list[tuple[Any, ...]] = []
    for part in rows:
        assert isinstance(part, Rows)
        assert (part.table, part.op) == ("challengerForecasts", "insert")
        columns = part.columns
        found += zip(
            columns["model_version"],
            columns["symbol"],
            ((columns["created_at"] - T0) // MINUTE_MS - 1).tolist(),
            columns["forecast_horizon"].tolist(),
            columns["predicted_value"].tolist(),
            columns["probability_up"].tolist(),
            strict=True,
        )
    return sorted(found)


def test_without_challengers_there_are_no_rows() -> None:
    assert list(stage().step(frame([(0, 0), (0, 1)])).rows) == []


def test_a_challenger_is_asked_in_its_shadow_and_not_before_or_after() -> None:
    rows = stage(model("new", 2, 4, Asked())).step(frame([(minute, 0) for minute in range(6)])).rows
    assert told(rows) == [("new", "BTCUSDT", 2, 5, 2.0, 0.75), ("new", "BTCUSDT", 3, 5, 3.0, 0.75)]


def test_what_is_served_is_the_same_with_and_without_challengers() -> None:
    batch = frame([(minute, symbol) for minute in range(4) for symbol in (0, 1)])
    alone = stage().step(batch).out
    beside = (
        stage(model("new", 0, 9, Asked()), model("other", 1, 3, Asked(), symbol="ETHUSDT")).step(batch).out
    )
    assert alone is not None
    assert beside is not None
    for each in fields(alone):
        left, right = getattr(alone, each.name), getattr(beside, each.name)
        same = np.array_equal(left, right, equal_nan=True) if isinstance(left, np.ndarray) else left == right
        assert same or (isinstance(left, np.ndarray) and left.dtype == object), each.name


def test_horizons_that_share_a_file_are_asked_once() -> None:
    graph = Asked()
    rows = (
        stage(
            model("five", 0, 9, graph, artifact="file"),
            model("fifteen", 0, 9, graph, artifact="file", horizon_minutes=15, column=1),
        )
        .step(frame([(1, 0)]))
        .rows
    )
    assert graph.times == 1
    assert told(rows) == [
        ("fifteen", "BTCUSDT", 1, 15, 101.0, 0.75),
        ("five", "BTCUSDT", 1, 5, 1.0, 0.75),
    ]


def test_a_challenger_of_one_symbol_or_of_other_features_is_asked_about_nothing_else() -> None:
    batch = frame([(0, 0), (0, 1)])
    own = stage(model("own", 0, 9, Asked(), symbol="ETHUSDT")).step(batch).rows
    assert [row[:2] for row in told(own)] == [("own", "ETHUSDT")]
    assert told(stage(model("foreign", 0, 9, Asked(), symbol="DOGEUSDT")).step(batch).rows) == []
    assert told(stage(model("old", 0, 9, Asked(), schema_hash="x")).step(batch).rows) == []


def test_minutes_that_are_not_complete_are_left_out() -> None:
    batch = frame([(0, 0), (1, 0)], complete=[False, True])
    assert [row[2] for row in told(stage(model("new", 0, 9, Asked())).step(batch).rows)] == [1]


def test_a_challenger_that_looks_further_back_than_is_kept_is_left_out() -> None:
    assert told(stage(model("lstm", 0, 9, Asked(), window=60)).step(frame([(1, 0)])).rows) == []


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_the_rows_are_the_same_however_the_minutes_are_cut_into_batches(cuts: list[bool]) -> None:
    def fresh() -> InferenceStage:
        return stage(model("new", 1, 5, Asked()), model("other", 3, 9, Asked(), symbol="ETHUSDT"))

    whole = told(fresh().step(frame([(m, s) for m in range(6) for s in (0, 1)])).rows)
    made, pending, found = fresh(), [], []
    for minute, cut in enumerate([*cuts, True]):
        pending += [(minute, 0), (minute, 1)]
        if cut:
            found += told(made.step(frame(pending)).rows)
            pending = []
    assert sorted(found) == whole

"""Which model speaks for which row, and what is said where none may."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.models.serving import Answers
from pipeline.inference_stage import BASELINE, InferenceStage, ServingModel
from pipeline.stage import StateVersionError
from schemas.frames import MINUTE_MS, FeatureFrame, PredictionFrame, Reason

SYMBOLS = ("BTCUSDT", "ETHUSDT")
BTC, ETH = 0, 1
T0 = 1_617_321_600_000
HORIZONS = (5, 15)


def event_time(minute: int) -> int:
    return T0 + (minute + 1) * MINUTE_MS


def frame(
    rows: list[tuple[int, int]], *, complete: Any = True, age_s: Any = 0, schema_hash: str = "h"
) -> FeatureFrame:
    """Make rows of (minute, symbol)."""
    count = len(rows)
    times = np.array([T0 + minute * MINUTE_MS for minute, _ in rows], np.int64)
    vector = np.array([[minute + 0.5 * symbol] for minute, symbol in rows], np.float32).reshape(count, 1)
    return FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.array([symbol for _, symbol in rows], np.int32),
        open_time_ms=times,
        ohlcv=np.ones((count, 5)),
        origin=np.zeros(count, np.int8),
        vector=vector,
        is_complete=np.broadcast_to(np.asarray(complete, np.bool_), count).copy(),
        complete_to_ms=int(times.max()) if count else T0,
        schema_hash=schema_hash,
        as_of_ms=times + MINUTE_MS + np.asarray(age_s, np.int64) * 1000,
    )


def model(
    version: str, begins: int, *, symbol: str = "ALL", horizon: int = 5, add: float = 0.0, **changes: Any
) -> ServingModel:
    """Make a model that serves from the event time of a minute's candle on, and predicts vector + `add`."""

    def ask(vectors: Any) -> Answers:
        assert len(vectors), "a model is never asked about nothing"
        change = vectors[:, :1] + np.float32(add)
        return Answers(change, np.full(change.shape, 0.75, np.float32), np.zeros(len(vectors), np.float32))

    values: dict[str, Any] = {
        "version": version,
        "symbol": symbol,
        "horizon_minutes": horizon,
        "effective_from_ms": event_time(begins),
        "schema_hash": "h",
        "artifact": version,
        "ask": ask,
    }
    return ServingModel(**values | changes)


def stage(*models: ServingModel) -> InferenceStage:
    made = InferenceStage(horizons=HORIZONS, max_prediction_age_s=300)
    made.serve(models)
    return made


def ask(made: InferenceStage, batch: FeatureFrame) -> PredictionFrame:
    out = made.step(batch).out
    assert isinstance(out, PredictionFrame)
    return out


def spoke(out: PredictionFrame, horizon: int = 5) -> list[str]:
    column = out.horizons.index(horizon)
    return [out.models[number] for number in out.model_index[:, column]]


def reasons(out: PredictionFrame, horizon: int = 5) -> list[Reason]:
    return [Reason(each) for each in out.reason[:, out.horizons.index(horizon)]]


def test_without_a_model_the_baseline_answers_and_says_so() -> None:
    out = ask(stage(), frame([(0, BTC), (0, ETH)]))
    assert out.models == (BASELINE,)
    assert not out.predicted_pct.any()
    assert np.isnan(out.probability_up).all()
    assert (out.reason == Reason.NO_MODEL).all()


def test_a_model_serves_from_its_event_time_on_even_within_one_batch() -> None:
    out = ask(stage(model("m1", 3), model("m2", 5, add=100)), frame([(t, BTC) for t in range(8)]))
    assert spoke(out) == [BASELINE] * 3 + ["m1"] * 2 + ["m2"] * 3
    assert out.predicted_pct[:, 0].tolist() == [0, 0, 0, 3, 4, 105, 106, 107]
    assert reasons(out) == [Reason.NO_MODEL] * 3 + [Reason.NONE] * 5


def test_each_horizon_has_its_own_models() -> None:
    out = ask(stage(model("m5", 0), model("m15", 1, horizon=15, add=1)), frame([(0, BTC), (1, BTC)]))
    assert spoke(out, 5) == ["m5", "m5"]
    assert spoke(out, 15) == [BASELINE, "m15"]
    assert out.predicted_pct[1].tolist() == [1, 2]


@pytest.mark.parametrize("own_begins", [0, 2])
def test_a_symbols_own_model_goes_before_the_pooled_one_whichever_is_newer(own_begins: int) -> None:
    made = stage(model("pooled", 1), model("own", own_begins, symbol="ETHUSDT"))
    out = ask(made, frame([(3, BTC), (3, ETH)]))
    assert spoke(out) == ["pooled", "own"]


def test_until_its_own_model_begins_the_pooled_one_speaks_for_a_symbol() -> None:
    made = stage(model("pooled", 0), model("own", 2, symbol="ETHUSDT"))
    assert spoke(ask(made, frame([(t, ETH) for t in range(4)]))) == ["pooled"] * 2 + ["own"] * 2


def test_models_of_symbols_that_are_not_here_and_of_other_features_are_left_out() -> None:
    made = stage(model("m1", 0), model("other", 1, symbol="DOGEUSDT"), model("old", 1, schema_hash="another"))
    assert spoke(ask(made, frame([(3, BTC), (3, ETH)]))) == ["m1", "m1"]


def test_a_vector_that_is_not_complete_is_warming_with_a_model_or_without() -> None:
    batch = frame([(3, BTC), (3, ETH)], complete=[False, True])
    out = ask(stage(model("m1", 0)), batch)
    assert reasons(out, 5) == [Reason.WARMING, Reason.NONE]
    assert reasons(out, 15) == [Reason.WARMING, Reason.NO_MODEL]
    assert spoke(out) == [BASELINE, "m1"]
    ask(stage(model("m1", 0)), frame([(3, BTC)], complete=False))


def test_what_is_predicted_too_late_says_so_but_is_predicted() -> None:
    out = ask(stage(model("m1", 0)), frame([(3, BTC), (4, BTC), (5, BTC)], age_s=[301, 300, 0]))
    assert reasons(out) == [Reason.TOO_OLD, Reason.NONE, Reason.NONE]
    assert spoke(out) == ["m1"] * 3
    assert reasons(out, 15) == [Reason.NO_MODEL] * 3


def test_the_frame_goes_on_with_everything_that_came() -> None:
    batch = frame([(3, BTC), (3, ETH)])
    out = ask(stage(model("m1", 0)), batch)
    for field in fields(FeatureFrame):
        assert getattr(out, field.name) is getattr(batch, field.name)
    assert out.horizons == HORIZONS


def test_a_message_without_rows_passes_through() -> None:
    made = stage(model("m1", 0))
    result = made.step(frame([]))
    assert result.event_time_ms == T0
    assert result.out is not None
    assert len(result.out) == 0


def test_models_are_taken_in_any_order() -> None:
    models = [model("m1", 0), model("m2", 2, add=1), model("own", 1, symbol="ETHUSDT", add=2)]
    batch = frame([(t, s) for t in range(4) for s in (BTC, ETH)])
    answers = [
        (spoke(out), out.predicted_pct.tolist())
        for order in itertools.permutations(models)
        for out in [ask(stage(*order), batch)]
    ]
    assert all(answer == answers[0] for answer in answers)


rows_of = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), max_size=25, unique=True).map(sorted)
models_of = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["ALL", *SYMBOLS]), st.sampled_from(HORIZONS)), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of, chosen=models_of, data=st.data())
def test_answers_do_not_depend_on_how_rows_are_cut_into_batches(
    rows: list[tuple[int, int]], chosen: list[tuple[int, str, int]], data: st.DataObject
) -> None:
    models = [
        model(f"m{number}", begins, symbol=symbol, horizon=horizon, add=number)
        for number, (begins, symbol, horizon) in enumerate(chosen)
    ]
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=5))
    edges = [0, *sorted(cuts), len(rows)]
    whole = ask(stage(*models), frame(rows))
    made = stage(*models)
    parts = [ask(made, frame(rows[a:b])) for a, b in itertools.pairwise(edges)]
    joined = PredictionFrame.concat(parts)
    for horizon in HORIZONS:
        assert spoke(joined, horizon) == spoke(whole, horizon)
    for name in ("predicted_pct", "probability_up", "reason"):
        assert getattr(joined, name).tobytes() == getattr(whole, name).tobytes()
    assert made.snapshot() == stage(*models).snapshot()


def test_a_snapshot_of_other_horizons_is_refused() -> None:
    other = InferenceStage(horizons=(5,), max_prediction_age_s=300)
    with pytest.raises(StateVersionError):
        stage().restore(other.snapshot())
    stage(model("m1", 0)).restore(stage().snapshot())


def test_the_checkpoint_names_the_models_in_place() -> None:
    assert stage(model("m2", 0), model("m1", 1)).summary() == {"models": ["m1", "m2"]}

"""Messages survive the wire bit for bit, and damaged ones are refused."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import UnreadableMessageError, decode, decode_feed, encode, encode_feed
from schemas.frames import CandleFrame, FeatureFrame, FeedBatch, PredictionFrame


def prediction_frame(rows: int, seed: int = 0) -> PredictionFrame:
    rng = np.random.default_rng(seed)
    vector = rng.standard_normal((rows, 72)).astype(np.float32)
    vector[rng.random((rows, 72)) < 0.1] = np.nan
    return PredictionFrame(
        symbols=("BTCUSDT", "ETHUSDT"),
        symbol_index=rng.integers(0, 2, rows).astype(np.int32),
        open_time_ms=np.arange(rows, dtype=np.int64) * 60_000,
        ohlcv=rng.random((rows, 5)),
        origin=np.zeros(rows, np.int8),
        vector=vector,
        is_complete=rng.random(rows) < 0.5,
        complete_to_ms=17,
        schema_hash="abc",
        as_of_ms=np.arange(rows, dtype=np.int64),
        horizons=(5, 15),
        predicted_pct=rng.random((rows, 2)).astype(np.float32),
        probability_up=rng.random((rows, 2)).astype(np.float32),
        model_index=np.zeros((rows, 2), np.int16),
        reason=np.zeros((rows, 2), np.int8),
        models=("last_value",),
        widen=(1 + rng.random((rows, 2))).astype(np.float32),
    )


@pytest.mark.parametrize("rows", [0, 1, 57])
def test_a_frame_read_back_has_the_same_bits(rows: int) -> None:
    frame = prediction_frame(rows)
    back = decode(encode(frame), PredictionFrame)
    for field in fields(frame):
        before, after = getattr(frame, field.name), getattr(back, field.name)
        if isinstance(before, np.ndarray):
            assert before.shape == after.shape, field.name
            assert before.tobytes() == after.tobytes(), field.name
        else:
            assert before == after


def test_a_feed_batch_read_back_has_the_same_bits() -> None:
    full = prediction_frame(9)
    candles = CandleFrame(**{f.name: getattr(full, f.name) for f in fields(CandleFrame)})
    batch = FeedBatch(
        candles=candles,
        known_to_ms=np.array([1, -(2**63)]),
        revisions=CandleFrame.empty(("BTCUSDT", "ETHUSDT")),
        as_of_ms=5,
    )
    back = decode_feed(encode_feed(batch))
    assert back.candles.ohlcv.tobytes() == candles.ohlcv.tobytes()
    assert back.known_to_ms.tolist() == batch.known_to_ms.tolist()
    assert len(back.revisions) == 0
    assert back.as_of_ms == 5


def test_another_kind_of_frame_is_refused() -> None:
    with pytest.raises(UnreadableMessageError, match="predictions"):
        decode(encode(prediction_frame(3)), FeatureFrame)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_and_never_anything_else(data: st.DataObject) -> None:
    good = bytearray(encode(prediction_frame(3)))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        frame = decode(cut, PredictionFrame)
    except UnreadableMessageError:
        return
    assert len(frame.vector) == len(frame)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        decode(raw, FeatureFrame)
    with pytest.raises(UnreadableMessageError):
        decode_feed(raw)


def test_joined_prediction_frames_keep_which_model_spoke() -> None:
    first, second = prediction_frame(2), prediction_frame(3, seed=1)
    second = replace(second, models=("last_value", "other"), model_index=np.ones((3, 2), np.int16))
    joined = PredictionFrame.concat([first, second])
    spoke = [joined.models[number] for number in joined.model_index[:, 0]]
    assert spoke == ["last_value"] * 2 + ["other"] * 3

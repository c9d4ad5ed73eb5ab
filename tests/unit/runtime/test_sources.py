"""A message or a feed batch can be cut anywhere without changing what it says in the end."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.feed_source import first_candles, without_first_candles
from runtime.stream_source import part_of
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, FeatureFrame, FeedBatch

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def feature_frame(minutes: int) -> FeatureFrame:
    rows = minutes * 2
    return FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.tile(np.array([0, 1], np.int32), minutes),
        open_time_ms=np.repeat(np.arange(minutes, dtype=np.int64) * MINUTE_MS, 2),
        ohlcv=np.ones((rows, 5)),
        origin=np.zeros(rows, np.int8),
        vector=np.zeros((rows, 72), np.float32),
        is_complete=np.ones(rows, bool),
        complete_to_ms=(minutes - 1) * MINUTE_MS,
        schema_hash="h",
    )


@given(st.integers(1, 20), st.data())
def test_a_part_of_a_message_never_claims_minutes_of_the_rest_to_be_complete(
    minutes: int, data: st.DataObject
) -> None:
    frame = feature_frame(minutes)
    cut = data.draw(st.integers(0, len(frame)))
    head, tail = part_of(frame, 0, cut), part_of(frame, cut, len(frame))
    assert len(head) + len(tail) == len(frame)
    assert tail.complete_to_ms == frame.complete_to_ms
    if len(tail):
        assert head.complete_to_ms < tail.open_time_ms.min()


@given(st.integers(0, 12), st.integers(1, 13))
def test_a_feed_batch_taken_in_pieces_gives_every_candle_once(count: int, size: int) -> None:
    candles = CandleFrame(
        symbols=SYMBOLS,
        symbol_index=np.arange(count, dtype=np.int32) % 2,
        open_time_ms=np.arange(count, dtype=np.int64) // 2 * MINUTE_MS,
        ohlcv=np.ones((count, 5)),
        origin=np.zeros(count, np.int8),
    )
    known = np.array([10 * MINUTE_MS, NULL_MS])
    rest: FeedBatch | None = FeedBatch(
        candles=candles, known_to_ms=known, revisions=CandleFrame.empty(SYMBOLS)
    )
    times: list[int] = []
    last = None
    while rest is not None:
        last = first_candles(rest, size)
        times += last.candles.open_time_ms.tolist()
        rest = without_first_candles(rest, len(last.candles))
        for index, t in zip(
            candles.symbol_index[len(times) :], candles.open_time_ms[len(times) :], strict=True
        ):
            assert last.known_to_ms[index] < t
    assert times == candles.open_time_ms.tolist()
    assert last is not None
    assert last.known_to_ms.tolist() == known.tolist()

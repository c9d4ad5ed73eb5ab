"""Candles go out in time order, and what is known never runs ahead of what was taken."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain.market.candle import Candle
from domain.market.release import Outbox
from schemas.frames import MINUTE_MS, NULL_MS, Origin


def flat(minute: int, price: float = 1.0) -> Candle:
    return Candle.flat(minute * MINUTE_MS, price)


def outbox_of(minutes: dict[str, list[int]]) -> Outbox:
    outbox = Outbox(tuple(minutes))
    for symbol, numbers in minutes.items():
        for number in numbers:
            outbox.add(symbol, flat(number), Origin.TRADED)
    return outbox


@given(
    st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=4),
    st.lists(st.integers(1, 20), min_size=1, max_size=40),
)
def test_any_cut_into_batches_gives_all_candles_in_order_of_time_and_symbol(minutes, sizes):
    outbox = outbox_of({f"S{index}": sorted(numbers) for index, numbers in enumerate(minutes)})
    total = len(outbox)
    taken = [outbox.take(size, None) for size in sizes]
    taken.append(outbox.take(total + 1, None))
    rows = [
        row
        for frame in taken
        for row in zip(frame.open_time_ms.tolist(), frame.symbol_index.tolist(), strict=True)
    ]
    assert rows == sorted(rows)
    assert len(rows) == total
    assert len(outbox) == 0


def test_nothing_past_the_horizon_is_taken():
    outbox = outbox_of({"A": [1, 2, 3], "B": [1]})
    assert outbox.take(10, 2 * MINUTE_MS).open_time_ms.tolist() == [60_000, 60_000, 120_000]


def test_known_is_what_was_taken_or_settled_without_a_candle():
    outbox = outbox_of({"A": [5, 6], "B": [], "C": []})
    assert outbox.known_to([6 * MINUTE_MS, 9 * MINUTE_MS, None]) == [4 * MINUTE_MS, 9 * MINUTE_MS, NULL_MS]


def test_a_revision_of_a_candle_still_queued_changes_it_there():
    outbox = outbox_of({"A": [1, 2]})
    outbox.revise("A", flat(2, 7.0))
    assert len(outbox.take_revisions()) == 0
    assert outbox.take(10, None).ohlcv[1, 3] == 7.0


def test_a_revision_of_a_candle_that_was_taken_goes_out_as_one():
    outbox = outbox_of({"A": [1, 2]})
    outbox.take(1, None)
    outbox.revise("A", flat(1, 7.0))
    assert outbox.has_revisions
    revised = outbox.take_revisions()
    assert revised.open_time_ms.tolist() == [MINUTE_MS]
    assert revised.origin.tolist() == [Origin.REVISED]
    assert np.all(revised.ohlcv[:, :4] == 7.0)
    assert not outbox.has_revisions

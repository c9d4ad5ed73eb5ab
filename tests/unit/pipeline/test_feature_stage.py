"""The feature stage: the same rows in whatever order the feed may bring the candles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.features.engine import FeatureEngine
from pipeline.feature_stage import FeatureStage
from pipeline.stage import StateVersionError, StepResult
from schemas.frames import MINUTE_MS, NULL_MS, CandleFrame, FeedBatch, Origin

SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOGEUSDT")
REFERENCES = SYMBOLS[:2]
BTC, ETH, DOGE = range(3)
T0 = 1_617_321_600_000
MINUTES = 90

Table = dict[tuple[str, int], tuple[Any, ...]]


def stage(owned: Sequence[str] = SYMBOLS, references: tuple[str, ...] = REFERENCES) -> FeatureStage:
    engine = FeatureEngine(symbols=SYMBOLS, references=references, leader=SYMBOLS[0])
    return FeatureStage(symbols=SYMBOLS, owned=owned, references=references, engine=engine)


def prices() -> np.ndarray:
    """Make candles of shape (minutes, symbols, 5)."""
    chance = np.random.default_rng(4)
    close = 100.0 * np.exp(np.cumsum(chance.standard_t(3, (MINUTES, len(SYMBOLS))) * 0.001, axis=0))
    open_ = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(open_, close) * 1.0005, np.minimum(open_, close) / 1.0005
    return np.stack([open_, high, low, close, chance.random(close.shape)], axis=2)


PRICES = prices()


class Hand:
    """Hands out minutes as a feed may: in order per symbol, each once, absent ones only as known."""

    def __init__(self, absent: frozenset[tuple[int, int]] = frozenset()) -> None:
        self._absent = absent
        self.known_to = [-1] * len(SYMBOLS)

    def give(self, to: Sequence[int | None], as_of_ms: int | None = None) -> FeedBatch:
        """Hand out everything up to and including the given minute of each symbol."""
        rows = []
        for symbol, minute in enumerate(to):
            if minute is None:
                continue
            first = self.known_to[symbol] + 1
            rows += [(t, symbol) for t in range(first, minute + 1) if (t, symbol) not in self._absent]
            self.known_to[symbol] = max(minute, self.known_to[symbol])
        rows.sort()
        return FeedBatch(
            candles=candles(rows),
            known_to_ms=np.array([NULL_MS if k < 0 else T0 + k * MINUTE_MS for k in self.known_to]),
            revisions=CandleFrame.empty(SYMBOLS),
            as_of_ms=as_of_ms,
        )


def candles(rows: Sequence[tuple[int, int]]) -> CandleFrame:
    minutes = np.array([t for t, _ in rows], np.int64)
    symbols = np.array([s for _, s in rows], np.int32)
    return CandleFrame(
        symbols=SYMBOLS,
        symbol_index=symbols,
        open_time_ms=T0 + minutes * MINUTE_MS,
        ohlcv=PRICES[minutes, symbols] if len(rows) else np.empty((0, 5)),
        origin=np.zeros(len(rows), np.int8),
    )


def written(results: Sequence[StepResult]) -> tuple[Table, Table, Table]:
    """Collect chart rows, vectors and what went out; no key may come twice."""
    chart: Table = {}
    vectors: Table = {}
    out: Table = {}
    for result in results:
        for rows in result.rows:
            if rows.op != "insert":
                continue
            table = chart if rows.table == "rollingChartData" else vectors
            for values in zip(*rows.columns.values(), strict=True):
                row = dict(zip(rows.columns, values, strict=True))
                key = (row["symbol"], int(row["timestamp"]))
                assert key not in table
                table[key] = tuple(plain(value) for value in values)
        if result.out is not None:
            frame = result.out
            for k in range(len(frame)):
                key = (frame.symbols[frame.symbol_index[k]], int(frame.open_time_ms[k]))
                assert key not in out
                out[key] = (frame.vector[k].tobytes(), bool(frame.is_complete[k]), int(frame.origin[k]))
    return chart, vectors, out


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return str(value) if isinstance(value, float) else value


absences = st.frozensets(
    st.tuples(st.integers(0, MINUTES - 1), st.integers(0, len(SYMBOLS) - 1)), max_size=25
)
#: Which symbol goes on, and by how many minutes.
moves = st.lists(st.tuples(st.integers(0, len(SYMBOLS) - 1), st.integers(1, 20)), max_size=40)


def batches(absent: frozenset[tuple[int, int]], order: list[tuple[int, int]]) -> list[FeedBatch]:
    hand = Hand(absent)
    given_out = []
    for symbol, more in order:
        to: list[int | None] = [None] * len(SYMBOLS)
        to[symbol] = min(hand.known_to[symbol] + more, MINUTES - 1)
        given_out.append(hand.give(to))
    return [*given_out, hand.give([MINUTES - 1] * len(SYMBOLS))]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(absent=absences, order=moves)
def test_rows_vectors_and_state_are_the_same_for_any_interleaving_and_split(
    absent: frozenset[tuple[int, int]], order: list[tuple[int, int]]
) -> None:
    at_once, piecemeal = stage(), stage()
    whole = [at_once.step(batch) for batch in batches(absent, [])]
    parts = [piecemeal.step(batch) for batch in batches(absent, order)]
    assert written(parts) == written(whole)
    assert parts[-1].event_time_ms == whole[-1].event_time_ms
    assert piecemeal.snapshot() == at_once.snapshot()


@settings(max_examples=20, deadline=None)
@given(absent=absences, order=moves, stop=st.integers(0, 40))
def test_a_stage_restored_in_the_middle_goes_on_identically(
    absent: frozenset[tuple[int, int]], order: list[tuple[int, int]], stop: int
) -> None:
    stream = batches(absent, order)
    first = stage()
    for batch in stream[:stop]:
        first.step(batch)
    second = stage()
    second.restore(first.snapshot())
    assert written([second.step(b) for b in stream[stop:]]) == written([first.step(b) for b in stream[stop:]])
    assert second.snapshot() == first.snapshot()


@settings(max_examples=25, deadline=None)
@given(absent=absences, order=moves)
def test_event_time_never_passes_what_is_known_of_every_owned_symbol(
    absent: frozenset[tuple[int, int]], order: list[tuple[int, int]]
) -> None:
    one = stage()
    seen: set[tuple[str, int]] = set()
    for batch in batches(absent, order):
        result = one.step(batch)
        assert result.event_time_ms <= int(batch.known_to_ms.min())
        chart, _, _ = written([result])
        assert seen.isdisjoint(chart)
        seen |= chart.keys()
        # Nothing that counts as complete comes later.
        missing = {
            (SYMBOLS[s], T0 + t * MINUTE_MS)
            for t in range((result.event_time_ms - T0) // MINUTE_MS + 1 if result.event_time_ms > T0 else 0)
            for s in range(len(SYMBOLS))
            if (t, s) not in absent
        }
        assert missing <= seen


def test_minute_t_waits_for_minute_t_minus_1_of_every_reference() -> None:
    one, hand = stage(), Hand()
    chart, _, _ = written([one.step(hand.give([3, 0, 3]))])
    # ETH is known to minute 0: minutes 0 and 1 of the others may go.
    assert sorted(chart) == sorted(
        (symbol, T0 + t * MINUTE_MS)
        for symbol, t in [("BTCUSDT", 0), ("BTCUSDT", 1), ("ETHUSDT", 0), ("DOGEUSDT", 0), ("DOGEUSDT", 1)]
    )
    assert one.summary()["waiting"] == 4


def test_nobody_waits_for_a_symbol_that_is_no_reference() -> None:
    one, hand = stage(), Hand()
    result = one.step(hand.give([30, 30, None]))
    chart, _, _ = written([result])
    assert len(chart) == 62
    assert result.event_time_ms == NULL_MS
    assert result.out is not None
    assert result.out.complete_to_ms == NULL_MS


def test_a_late_symbol_that_is_no_reference_sees_the_market_as_it_was() -> None:
    in_step, late = stage(), stage()
    hand = Hand()
    together = [in_step.step(hand.give([t, t, t])) for t in range(MINUTES)]
    hand = Hand()
    apart = [late.step(hand.give([MINUTES - 1, MINUTES - 1, None])), late.step(hand.give([None, None, 40]))]
    apart.append(late.step(hand.give([None, None, MINUTES - 1])))
    assert written(apart) == written(together)


def test_a_halted_reference_holds_the_others_until_its_minutes_are_known_to_be_absent() -> None:
    absent = frozenset((t, ETH) for t in range(20, 60))
    one, hand = stage(), Hand(absent)
    before, _, _ = written([one.step(hand.give([50, 19, 50]))])
    assert max(at for _, at in before) == T0 + 20 * MINUTE_MS
    released = one.step(hand.give([None, 45, None]))
    after, _, _ = written([released])
    assert max(at for _, at in after) == T0 + 46 * MINUTE_MS
    assert all(symbol != "ETHUSDT" for symbol, _ in after)
    assert released.event_time_ms == T0 + 45 * MINUTE_MS


def test_minutes_absent_for_good_are_told_even_without_rows() -> None:
    one, hand = stage(), Hand(frozenset((t, s) for t in range(10, 20) for s in range(3)))
    one.step(hand.give([9, 9, 9]))
    told = one.step(hand.give([15, 15, 15]))
    assert told.rows == []
    assert told.out is not None
    assert len(told.out) == 0
    assert told.out.complete_to_ms == T0 + 15 * MINUTE_MS
    assert one.step(hand.give([None, None, None])).out is None


def test_only_owned_symbols_make_rows_and_the_others_still_count_as_the_market() -> None:
    all_of_them, mine = stage(), stage(owned=["DOGEUSDT"])
    hand = Hand()
    batch = hand.give([MINUTES - 1] * 3)
    wanted = tuple(
        {key: row for key, row in table.items() if key[0] == "DOGEUSDT"}
        for table in written([all_of_them.step(batch)])
    )
    assert written([mine.step(batch)]) == wanted


def test_revisions_change_only_the_chart() -> None:
    plain_stage, revised_stage = stage(), stage()
    hand = Hand()
    first, second = hand.give([40, 40, 40]), hand.give([80, 80, 80])
    revised = candles([(30, BTC), (31, DOGE)])
    revised = replace(revised, ohlcv=revised.ohlcv * 1.01, origin=np.full(2, Origin.REVISED, np.int8))
    plain_stage.step(first)
    revised_stage.step(first)
    usual = plain_stage.step(second)
    result = revised_stage.step(replace(second, revisions=revised))
    assert written([result]) == written([usual])
    assert revised_stage.snapshot() == plain_stage.snapshot()
    updates = [rows for rows in result.rows if rows.op != "insert"]
    assert [rows.table for rows in updates] == ["rollingChartData"]
    columns = updates[0].columns
    assert list(columns["symbol"]) == ["BTCUSDT", "DOGEUSDT"]
    assert columns["close"].tolist() == revised.ohlcv[:, 3].tolist()
    assert columns["origin"] == ["revised", "revised"]
    assert [entry.symbol for entry in result.logs] == ["BTCUSDT", "DOGEUSDT"]


def test_revisions_of_symbols_of_other_partitions_are_left_to_their_owner() -> None:
    one, hand = stage(owned=["DOGEUSDT"]), Hand()
    one.step(hand.give([10, 10, 10]))
    nothing = hand.give([None, None, None])
    result = one.step(replace(nothing, revisions=candles([(5, BTC)])))
    assert (result.rows, result.logs) == ([], [])


def test_a_batch_carries_the_exchanges_clock_into_its_rows() -> None:
    one, hand = stage(), Hand()
    late = T0 + 10 * MINUTE_MS
    result = one.step(hand.give([3, 3, 3], as_of_ms=late))
    assert result.out is not None
    assert result.out.age_ms().tolist() == [(9 - t) * MINUTE_MS for t in range(4) for _ in range(3)]
    result = one.step(hand.give([20, 20, 20]))
    assert result.out is not None
    assert not result.out.age_ms().any()


@pytest.mark.parametrize("other", [stage(owned=["BTCUSDT"]), stage(references=SYMBOLS)])
def test_a_snapshot_for_other_symbols_is_refused(other: FeatureStage) -> None:
    with pytest.raises(StateVersionError):
        stage().restore(other.snapshot())

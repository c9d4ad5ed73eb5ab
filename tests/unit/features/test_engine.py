"""Live equals history, bit for bit, however candles are divided, interleaved, interrupted or missing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.features.benchmarks import random_walk
from domain.features.engine import FeatureEngine, FeatureRows
from domain.features.errors import CandleOrderError, FeatureSettingsError, SnapshotMismatchError
from domain.features.history import compute_history
from domain.features.market import MINUTES_KEPT
from domain.features.schema import INDICATOR_COLUMNS, NAMES, SCHEMA_HASH
from schemas.frames import MINUTE_MS, NULL_MS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "ADAUSDT", "XRPUSDT")
REFERENCES = ("BTCUSDT", "ETHUSDT")
FIRST = 27_000_013
LEADER = NAMES.index("leader_return_1")


def engine(**overrides: object) -> FeatureEngine:
    given: dict[str, object] = {"symbols": SYMBOLS, "references": REFERENCES, "leader": "BTCUSDT"}
    return FeatureEngine(**(given | overrides))  # type: ignore[arg-type]


class Rows:
    """Candles of all symbols, sorted by time and symbol, some minutes missing."""

    def __init__(self, seed: int, minutes: int, gap_chance: float = 0.01) -> None:
        rng = np.random.default_rng(seed)
        candles = random_walk(rng, minutes, len(SYMBOLS))
        there = np.ones((minutes, len(SYMBOLS)), np.bool_)
        for start, symbol in np.argwhere(rng.random(there.shape) < gap_chance):
            there[start : start + int(rng.choice([1, 3, 5, 6, 40])), symbol] = False
        place = np.argwhere(there)
        self.minute = FIRST + place[:, 0]
        self.index = place[:, 1].astype(np.int32)
        self.ohlcv = candles[place[:, 0], place[:, 1]]

    def __len__(self) -> int:
        return len(self.index)

    def feed(self, to: FeatureEngine, chosen: slice | np.ndarray, closed: int | None = None) -> FeatureRows:
        minute = self.minute[chosen]
        through = int(minute.max()) - 1 if closed is None else closed
        return to.advance(
            symbol_index=self.index[chosen],
            open_time_ms=minute * MINUTE_MS,
            ohlcv=self.ohlcv[chosen],
            closed_to_ms=through * MINUTE_MS,
        )


def joined(parts: list[FeatureRows]) -> tuple[bytes, bytes, bytes]:
    return (
        np.concatenate([p.vector for p in parts]).tobytes(),
        np.concatenate([p.indicators for p in parts]).tobytes(),
        np.concatenate([p.is_complete for p in parts]).tobytes(),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 2_000), max_size=12), restarts=st.data())
def test_any_division_into_calls_with_restarts_between_gives_the_same_bits(
    seed: int, cuts: list[int], restarts: st.DataObject
) -> None:
    rows = Rows(seed, minutes=520)
    whole = rows.feed(engine(), slice(None))

    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    running, parts = engine(), []
    for start, end in pairwise(edges):
        parts.append(rows.feed(running, slice(start, end)))
        if restarts.draw(st.booleans()):
            saved = running.snapshot()
            running = engine()
            running.restore(saved)

    assert joined(parts) == joined([whole])


def test_one_minute_at_a_time_gives_the_same_bits_as_the_whole_history() -> None:
    rows = Rows(seed=11, minutes=1_700)
    whole = rows.feed(engine(), slice(None))

    live = engine()
    parts = [rows.feed(live, rows.minute == minute, closed=int(minute)) for minute in np.unique(rows.minute)]

    assert joined(parts) == joined([whole])
    assert np.isfinite(whole.vector[-1]).any()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), delay=st.integers(1, 400))
def test_a_late_symbol_that_is_no_reference_sees_the_market_as_it_was(seed: int, delay: int) -> None:
    rows = Rows(seed, minutes=500)
    on_time = rows.feed(engine(), slice(None))

    late = rows.index == SYMBOLS.index("XRPUSDT")
    order = np.lexsort((rows.index, rows.minute + np.where(late, delay, 0)))
    delayed = rows.feed(engine(), order)

    place = np.argsort(order)
    assert delayed.vector[place].tobytes() == on_time.vector.tobytes()
    assert delayed.indicators[place].tobytes() == on_time.indicators.tobytes()


def test_a_symbol_later_than_the_market_is_kept_sees_nan_not_another_minute() -> None:
    rows = Rows(seed=3, minutes=MINUTES_KEPT + 300, gap_chance=0.0)
    late = rows.index == SYMBOLS.index("XRPUSDT")
    running = engine()
    rows.feed(running, ~late)

    vector = rows.feed(running, late, closed=int(rows.minute.max())).vector

    assert np.isnan(vector[:290, LEADER]).all()
    assert np.isfinite(vector[310:, LEADER]).all()


def test_the_market_is_seen_as_of_the_minute_before() -> None:
    rows = Rows(seed=4, minutes=300, gap_chance=0.0)
    changed = Rows(seed=4, minutes=300, gap_chance=0.0)
    last = rows.minute == rows.minute.max()
    leader_now = last & (rows.index == 0)
    changed.ohlcv[leader_now] *= 1.5

    vectors = rows.feed(engine(), slice(None)).vector
    others = changed.feed(engine(), slice(None)).vector

    untouched = ~leader_now
    assert vectors[untouched].tobytes() == others[untouched].tobytes()
    assert vectors[leader_now].tobytes() != others[leader_now].tobytes()


def test_a_halt_of_the_market_is_told_by_closing_and_not_guessed_from_calls() -> None:
    rows = Rows(seed=8, minutes=400, gap_chance=0.0)
    halt = (rows.minute > FIRST + 200) & (rows.minute < FIRST + 300)
    kept = np.flatnonzero(~halt)
    whole = rows.feed(engine(), kept)

    running = engine()
    before, after = kept[rows.minute[kept] <= FIRST + 200], kept[rows.minute[kept] >= FIRST + 300]
    parts = [rows.feed(running, before, closed=FIRST + 260)]
    rows.feed(running, before[:0].astype(np.int64), closed=FIRST + 290)
    parts.append(rows.feed(running, after))

    assert joined(parts) == joined([whole])


@pytest.mark.parametrize(("missing", "goes_on"), [(1, True), (5, True), (6, False), (3_000, False)])
def test_a_gap_up_to_the_maximum_is_gone_over_and_a_longer_one_starts_anew(
    missing: int, goes_on: bool
) -> None:
    candles = random_walk(np.random.default_rng(2), 200, 1)[:, 0]
    minutes = FIRST + np.arange(200) + np.where(np.arange(200) >= 100, missing, 0)
    rows = engine().advance(
        symbol_index=np.zeros(200, np.int32),
        open_time_ms=minutes * MINUTE_MS,
        ohlcv=candles,
        closed_to_ms=int(minutes[-1]) * MINUTE_MS,
    )

    alone = engine().advance(
        symbol_index=np.zeros(100, np.int32),
        open_time_ms=minutes[100:] * MINUTE_MS,
        ohlcv=candles[100:],
        closed_to_ms=int(minutes[-1]) * MINUTE_MS,
    )

    assert bool(rows.is_complete[100]) is goes_on
    own = [i for i, name in enumerate(NAMES) if not name.startswith(("breadth", "leader", "market"))]
    same = rows.vector[100:][:, own].tobytes() == alone.vector[:, own].tobytes()
    assert same is not goes_on


def test_a_row_is_complete_exactly_where_every_chart_indicator_is_there() -> None:
    rows = Rows(seed=9, minutes=300).feed(engine(), slice(None))

    assert np.array_equal(rows.is_complete, np.isfinite(rows.indicators).all(axis=1))
    assert 0 < rows.is_complete.sum() < len(rows.is_complete)


def test_not_ready_is_nan_and_never_zero() -> None:
    rows = Rows(seed=10, minutes=1, gap_chance=0.0).feed(engine(), slice(None))

    assert np.isnan(rows.indicators).all()
    ready = {"candle_body", "candle_upper_wick", "candle_lower_wick", "candle_range"}
    ready |= {"day_sine", "day_cosine", "week_sine", "week_cosine"}
    assert {NAMES[i] for i in np.flatnonzero(~np.isnan(rows.vector[0]))} == ready


def test_without_the_leader_only_what_needs_it_is_nan() -> None:
    symbols = SYMBOLS[1:]
    rows = Rows(seed=12, minutes=1_600, gap_chance=0.0)
    chosen = rows.index > 0
    without = FeatureEngine(symbols=symbols, references=("ETHUSDT",), leader="BTCUSDT")
    vector = without.advance(
        symbol_index=rows.index[chosen] - 1,
        open_time_ms=rows.minute[chosen] * MINUTE_MS,
        ohlcv=rows.ohlcv[chosen],
        closed_to_ms=int(rows.minute[-1]) * MINUTE_MS,
    ).vector

    assert {NAMES[i] for i in np.flatnonzero(np.isnan(vector[-1]))} == {
        name for name in NAMES if name.startswith("leader_")
    }


def test_the_leader_moves_with_itself() -> None:
    rows = Rows(seed=13, minutes=200, gap_chance=0.0)
    vector = rows.feed(engine(), slice(None)).vector[rows.index == 0][-1]

    assert vector[NAMES.index("leader_beta")] == pytest.approx(1.0, abs=1e-6)
    assert vector[NAMES.index("leader_correlation")] == pytest.approx(1.0, abs=1e-6)


def test_a_snapshot_keeps_nan_and_minus_zero() -> None:
    running = engine()
    Rows(seed=1, minutes=3).feed(running, slice(None))
    running._symbols.numbers[0, :3] = [np.nan, -0.0, np.frombuffer(b"\x01\0\0\0\0\0\xf8\x7f")[0]]
    running._symbols.close[1] = np.nan

    copy = engine()
    copy.restore(running.snapshot())

    assert copy.snapshot() == running.snapshot()
    assert copy._symbols.numbers.tobytes() == running._symbols.numbers.tobytes()


@pytest.mark.parametrize(
    "other",
    [
        {"rsi_period": 21},
        {"max_gap_minutes": 4},
        {"references": SYMBOLS},
        {"leader": "DOGEUSDT"},
        {"symbols": (*SYMBOLS, "SOLUSDT")},
    ],
)
def test_a_snapshot_of_other_settings_is_refused_and_changes_nothing(other: dict[str, object]) -> None:
    running = engine()
    Rows(seed=1, minutes=50).feed(running, slice(None))
    before = running.snapshot()

    with pytest.raises(SnapshotMismatchError, match="differs"):
        running.restore(engine(**other).snapshot())

    assert running.snapshot() == before


@given(position=st.integers(0, 10**7), value=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_damaged_snapshot_is_refused(position: int, value: int, cut: bool) -> None:
    state = bytearray(FeatureEngine(symbols=("A",), references=(), leader="A0").snapshot())
    position %= len(state)
    if cut:
        del state[position:]
    else:
        state[position] ^= value

    with pytest.raises(SnapshotMismatchError):
        FeatureEngine(symbols=("A",), references=(), leader="A0").restore(bytes(state))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"symbol_index": 9}, "not among the engine's"),
        ({"symbol_index": -1}, "not among the engine's"),
        ({"open_time_ms": 1}, "whole minute"),
        ({"open_time_ms": -3 * MINUTE_MS}, "already has a candle"),
        ({"close": np.nan}, "finite"),
        ({"close": np.inf}, "finite"),
        ({"close": -1.0}, "low <= open, close <= high"),
        ({"volume": -1.0}, "volume >= 0"),
    ],
)
def test_a_row_that_cannot_be_is_refused_and_changes_nothing(
    change: dict[str, float], complaint: str
) -> None:
    rows = Rows(seed=1, minutes=20, gap_chance=0.0)
    running = engine()
    rows.feed(running, slice(0, 40))
    before = running.snapshot()
    index, minute, ohlcv = rows.index[40:48].copy(), rows.minute[40:48] * MINUTE_MS, rows.ohlcv[40:48].copy()
    index[5] = change.get("symbol_index", index[5])
    minute[5] += int(change.get("open_time_ms", 0))
    ohlcv[5, 3] = change.get("close", ohlcv[5, 3])
    ohlcv[5, 4] = change.get("volume", ohlcv[5, 4])

    with pytest.raises(CandleOrderError, match=complaint):
        running.advance(symbol_index=index, open_time_ms=minute, ohlcv=ohlcv, closed_to_ms=NULL_MS)

    assert running.snapshot() == before


def test_a_reference_behind_the_closed_market_is_refused() -> None:
    rows = Rows(seed=1, minutes=20, gap_chance=0.0)
    running = engine()
    rows.feed(running, slice(0, 40), closed=FIRST + 12)

    with pytest.raises(CandleOrderError, match="is a reference"):
        rows.feed(running, slice(40, 44))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"symbols": ()}, "symbols must be given"),
        ({"references": ("DOGEUSDT",)}, "DOGEUSDT"),
        ({"references": ("ETHUSDT",)}, "add it to the references"),
        ({"rsi_period": 1, "stochastic_k": 0}, "rsi_period is 1.*stochastic_k is 0"),
        ({"macd_fast": 26}, r"macd_fast \(26\) must be below"),
        ({"bollinger_std_dev": float("nan")}, "bollinger_std_dev"),
        ({"max_gap_minutes": -1}, "max_gap_minutes"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(FeatureSettingsError, match=complaint):
        engine(**wrong)


def test_other_periods_are_another_schema() -> None:
    assert engine().schema_hash == SCHEMA_HASH
    assert engine(rsi_period=21).schema_hash != SCHEMA_HASH


def test_other_periods_move_the_chart() -> None:
    rows = Rows(seed=1, minutes=60, gap_chance=0.0)
    usual = rows.feed(engine(), slice(None)).indicators
    other = rows.feed(
        engine(
            rsi_period=7, macd_fast=5, macd_slow=9, macd_signal=3, bollinger_period=8, volatility_window=9
        ),
        slice(None),
    )

    assert other.is_complete.sum() > 0
    differ = [column for i, column in enumerate(INDICATOR_COLUMNS) if usual[-1, i] != other.indicators[-1, i]]
    assert differ == [column for column in INDICATOR_COLUMNS if not column.startswith("stochastic")]


def test_history_comes_back_by_symbol_in_the_order_of_its_candles() -> None:
    rows = Rows(seed=6, minutes=400)
    whole = rows.feed(engine(), slice(None))

    parts = compute_history(
        engine(),
        open_time_ms={name: rows.minute[rows.index == i] * MINUTE_MS for i, name in enumerate(SYMBOLS)},
        ohlcv={name: rows.ohlcv[rows.index == i] for i, name in enumerate(SYMBOLS)},
    )

    for i, name in enumerate(SYMBOLS):
        assert parts[name].vector.tobytes() == whole.vector[rows.index == i].tobytes()
        assert parts[name].indicators.tobytes() == whole.indicators[rows.index == i].tobytes()


def test_no_rows_are_no_rows() -> None:
    result = engine().advance(
        symbol_index=np.empty(0, np.int32),
        open_time_ms=np.empty(0, np.int64),
        ohlcv=np.empty((0, 5)),
        closed_to_ms=NULL_MS,
    )

    assert result.vector.shape == (0, 72)
    assert result.indicators.shape == (0, 7)

"""Alerts that come once and go once, and requests for missing minutes."""

from dataclasses import replace

import numpy as np

from domain.quality.check import Limits
from pipeline.quality_stage import QualityStage
from schemas.frames import FeatureFrame, Origin

MINUTE = 60_000
SYMBOLS = ("BTC", "ETH")


def frame(
    minutes: dict[int, list[int]], *, complete_to: int, close=None, origin=Origin.TRADED
) -> FeatureFrame:
    """Candles by symbol number; a rising price unless `close` is given."""
    rows = sorted((m, s) for s, found in minutes.items() for m in found)
    minute = np.array([m for m, _ in rows], np.int64)
    price = minute + 100.0 if close is None else np.full(len(rows), close)
    return FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.array([s for _, s in rows], np.int32),
        open_time_ms=minute * MINUTE,
        ohlcv=np.stack([price, price, price, price, np.ones(len(rows))], axis=1).reshape(len(rows), 5),
        origin=np.full(len(rows), origin, np.int8),
        vector=np.zeros((len(rows), 2), np.float32),
        is_complete=np.ones(len(rows), bool),
        complete_to_ms=complete_to * MINUTE,
        schema_hash="h",
    )


def stage(**options) -> QualityStage:
    return QualityStage(symbols=SYMBOLS, **options)


def news(result) -> list[tuple[str, str, str | None]]:
    return [(entry.level, entry.subcategory, entry.symbol) for entry in result.logs]


def test_symbol_that_stops_is_reported_once_and_cleared_once():
    one = stage(limits=Limits(window_minutes=600))
    one.step(frame({0: range(10), 1: range(10)}, complete_to=9))
    stopped = one.step(frame({0: range(10, 20)}, complete_to=19))
    assert news(stopped) == [("error", "staleness", "ETH")]
    (alert,) = stopped.logs
    # Last heard at minute 9: more than 300 s later is minute 15.
    assert alert.context == {"open_time_ms": 15 * MINUTE, "limit": 300.0, "value": 360.0}
    assert one.summary()["alerts"] == {"staleness": ["ETH"]}
    assert news(one.step(frame({0: range(20, 25)}, complete_to=24))) == []
    assert news(one.step(frame({0: [25], 1: [25]}, complete_to=25))) == [("info", "staleness", "ETH")]
    assert one.summary()["alerts"] == {}


def test_minutes_are_judged_only_once_they_are_complete():
    one = stage(limits=Limits(window_minutes=600))
    one.step(frame({0: range(20), 1: range(10)}, complete_to=9))
    assert news(one.step(frame({1: range(10, 20)}, complete_to=19))) == []


def test_price_that_stands_still_is_frozen_unless_the_market_is_known_to_be_quiet():
    limits = Limits(frozen_minutes=10)
    frozen = stage(limits=limits).step(frame({0: range(30)}, complete_to=29, close=5.0))
    quiet = stage(limits=limits).step(
        frame({0: range(30)}, complete_to=29, close=5.0, origin=Origin.SYNTHETIC)
    )
    assert news(frozen) == [("warning", "repeated", "BTC"), ("warning", "frozen_price", "BTC")]
    assert news(quiet) == []


def test_many_symbols_with_the_same_news_share_one_entry():
    names = tuple(f"S{k}" for k in range(20))
    one = QualityStage(symbols=names)
    one.tick(0)
    (entry,) = one.tick(301_000)
    assert (entry.symbol, entry.context["symbols"]) == (None, list(names))


def test_hole_inside_a_short_window_is_asked_for_and_a_halt_is_not():
    one = stage(hole_minutes=60)
    result = one.step(frame({0: [0, 1, 4, 70], 1: [0, 60]}, complete_to=70))
    (request,) = result.rows
    columns = {name: list(values) for name, values in request.columns.items()}
    assert request.table == "backfill_requests"
    assert columns["symbol"] == ["BTC", "ETH"]
    assert columns["from_at"] == [2 * MINUTE, 1 * MINUTE]
    assert columns["to_at"] == [3 * MINUTE, 59 * MINUTE]
    assert columns["created_at"] == [5 * MINUTE, 61 * MINUTE]
    assert columns["requested_by"] == ["chart_monitor"] * 2


def test_hole_across_two_batches_is_found():
    one = stage()
    one.step(frame({0: [0]}, complete_to=0))
    (request,) = one.step(frame({0: [2]}, complete_to=2)).rows
    assert request.columns["from_at"].tolist() == request.columns["to_at"].tolist() == [MINUTE]


def test_silence_is_noticed_by_the_clock_once_and_cleared_by_the_next_candle():
    one = stage()
    one.step(frame({0: [0], 1: [0]}, complete_to=0))
    assert one.tick(MINUTE + 300_000) == []
    assert [(e.level, e.subcategory, e.symbol) for e in one.tick(MINUTE + 300_001)] == [
        ("error", "silence", "BTC"),
        ("error", "silence", "ETH"),
    ]
    assert one.tick(MINUTE + 400_000) == []
    back = one.step(frame({0: [1]}, complete_to=0))
    assert news(back) == [("info", "silence", "BTC")]


def test_symbol_that_was_never_heard_of_counts_from_the_first_tick():
    one = stage()
    one.step(frame({0: [1000]}, complete_to=1000))
    assert one.tick(1001 * MINUTE) == []
    assert [entry.symbol for entry in one.tick(1001 * MINUTE + 301_000)] == ["BTC", "ETH"]


def test_checks_are_made_at_the_interval_of_the_settings():
    one = stage(limits=Limits(window_minutes=600), check_interval_s=600)
    one.step(frame({0: range(10), 1: range(10)}, complete_to=9))
    stopped = one.step(frame({0: range(10, 30)}, complete_to=29))
    assert [entry.context["open_time_ms"] for entry in stopped.logs] == [19 * MINUTE]


def test_candle_that_stands_out_gets_a_row_and_an_alert():
    one = stage()
    calm = frame({0: range(200), 1: range(200)}, complete_to=199)
    moved = calm.ohlcv.copy()
    moved[-1, :4] *= 1.5
    moved[-2, 4] = 1e6
    result = one.step(replace(calm, ohlcv=moved))
    (rows,) = result.rows
    columns = {name: list(values) for name, values in rows.columns.items()}
    assert rows.table == "anomalies"
    assert list(zip(columns["symbol"], columns["kind"], strict=True)) == [("BTC", "burst"), ("ETH", "spike")]
    assert columns["timestamp"] == [199 * MINUTE] * 2
    assert columns["created_at"] == [200 * MINUTE] * 2
    assert all(value > limit for value, limit in zip(columns["value"], columns["threshold"], strict=True))
    assert sorted(news(result)) == [("warning", "burst", "BTC"), ("warning", "spike", "ETH")]


def test_many_symbols_that_spike_in_one_minute_share_one_alert():
    names = tuple(f"S{k}" for k in range(20))
    minute = np.repeat(np.arange(150), 20)
    price = np.where(minute == 149, 150.0, 100.0 + 0.01 * (minute % 2))
    spikes = FeatureFrame(
        symbols=names,
        symbol_index=np.tile(np.arange(20, dtype=np.int32), 150),
        open_time_ms=minute * MINUTE,
        ohlcv=np.stack([price, price, price, price, np.ones(3000)], axis=1),
        origin=np.zeros(3000, np.int8),
        vector=np.zeros((3000, 2), np.float32),
        is_complete=np.ones(3000, bool),
        complete_to_ms=149 * MINUTE,
        schema_hash="h",
    )
    result = QualityStage(symbols=names).step(spikes)
    assert len(result.rows[0]) == 20
    (entry,) = result.logs
    assert (entry.subcategory, entry.symbol, entry.context["symbols"]) == ("spike", None, list(names))

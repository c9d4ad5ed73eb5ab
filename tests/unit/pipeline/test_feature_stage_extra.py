"""Indicators that a user adds: the same in any split and after a restart, and none where none are wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from domain.features.benchmarks import random_walk
from domain.features.engine import FeatureEngine
from domain.features.user_indicators import UserIndicators
from pipeline.feature_stage import FeatureStage
from pipeline.stage import StepResult
from schemas.frames import MINUTE_MS, CandleFrame, FeedBatch

SYMBOLS = ("BTCUSDT", "ETHUSDT")
NAMES = ("ema(length=10)", "aroon")
T0 = 1_617_321_600_000
WINDOW, MINUTES = 30, 50
PRICES = random_walk(np.random.default_rng(3), MINUTES, 2)


def stage(names: tuple[str, ...] = NAMES, owned: tuple[str, ...] = SYMBOLS) -> FeatureStage:
    extra = UserIndicators(names, symbols=SYMBOLS, window=WINDOW) if names else None
    engine = FeatureEngine(symbols=SYMBOLS, references=SYMBOLS, leader=SYMBOLS[0])
    return FeatureStage(
        symbols=SYMBOLS, owned=owned, references=SYMBOLS, engine=engine, user_indicators=extra
    )


def minutes(first: int, end: int) -> FeedBatch:
    count = end - first
    candles = CandleFrame(
        symbols=SYMBOLS,
        symbol_index=np.tile(np.arange(2, dtype=np.int32), count),
        open_time_ms=np.repeat(T0 + np.arange(first, end) * MINUTE_MS, 2),
        ohlcv=PRICES[first:end].reshape(-1, 5),
        origin=np.zeros(2 * count, np.int8),
    )
    return FeedBatch(
        candles=candles,
        known_to_ms=np.full(2, T0 + (end - 1) * MINUTE_MS),
        revisions=CandleFrame.empty(SYMBOLS),
    )


def extras(*results: StepResult) -> dict[tuple[str, int], Any]:
    return {
        (symbol, int(at)): extra
        for result in results
        for rows in result.rows
        if rows.table == "rollingChartData"
        for symbol, at, extra in zip(
            rows.columns["symbol"], rows.columns["timestamp"], rows.columns["extra"], strict=True
        )
    }


def test_values_come_by_name_and_are_null_until_the_window_is_full() -> None:
    found = extras(stage().step(minutes(0, MINUTES)))
    warming, warm = found["ETHUSDT", T0], found["ETHUSDT", T0 + (MINUTES - 1) * MINUTE_MS]
    assert len(found) == 2 * MINUTES
    assert list(warm) == ["EMA_10", "AROOND_14", "AROONU_14", "AROONOSC_14"]
    assert warming == dict.fromkeys(warm)
    assert all(isinstance(value, float) for value in warm.values())


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 29, 30, 47])
def test_live_candles_and_a_batch_with_a_restart_between_give_the_same_values(cut: int) -> None:
    whole = extras(stage().step(minutes(0, MINUTES)))
    one, other = stage(), stage()
    live = [one.step(minutes(k, k + 1)) for k in range(cut)]
    other.restore(one.snapshot())
    assert extras(*live, other.step(minutes(cut, MINUTES))) == whole


def test_only_owned_symbols_have_values() -> None:
    whole = extras(stage().step(minutes(0, MINUTES)))
    mine = extras(stage(owned=("ETHUSDT",)).step(minutes(0, MINUTES)))
    assert mine == {key: value for key, value in whole.items() if key[0] == "ETHUSDT"}


def test_where_none_are_wanted_the_column_is_not_written() -> None:
    chart = stage(names=()).step(minutes(0, 3)).rows[0]
    assert "extra" not in chart.columns


def test_a_snapshot_made_with_other_indicators_keeps_the_vectors_warm_and_warms_the_new_ones() -> None:
    before, after, unbroken = stage(names=("willr",)), stage(), stage(names=())
    before.step(minutes(0, 40))
    unbroken.step(minutes(0, 40))
    after.restore(before.snapshot())
    went_on = after.step(minutes(40, MINUTES))
    vectors = went_on.rows[1].columns["vector"]
    assert vectors.tobytes() == unbroken.step(minutes(40, MINUTES)).rows[1].columns["vector"].tobytes()
    assert all(value is None for extra in extras(went_on).values() for value in extra.values())


def test_an_indicator_that_raises_is_told_once_and_its_value_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = stage()
    one.step(minutes(0, WINDOW))

    def fails(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr("domain.features.user_indicators._call", fails)
    first, second = one.step(minutes(WINDOW, 40)), one.step(minutes(40, MINUTES))
    assert [entry.subcategory for entry in first.logs] == ["user_indicator"] * len(NAMES)
    assert second.logs == []
    assert all(value is None for extra in extras(second).values() for value in extra.values())

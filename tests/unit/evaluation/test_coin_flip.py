from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from domain.evaluation.coin_flip import coin_flip
from domain.evaluation.trading_performance import TradeResults
from schemas.frames import MINUTE_MS

COST = 0.24
RUNS = 300


def _trades(symbol: np.ndarray, entered: np.ndarray, gross: np.ndarray, minutes: int = 15) -> TradeResults:
    return TradeResults(
        symbol_index=symbol.astype(np.int64),
        entered_at_ms=entered.astype(np.int64) * MINUTE_MS,
        completed_at_ms=(entered.astype(np.int64) + minutes) * MINUTE_MS,
        net_pct=gross - COST,
        gross_pct=gross,
    )


def _six_symbols_that_move_together(seed: int, edge: float = 0.0) -> TradeResults:
    """Every quarter of an hour six trades in one direction, which persists for an hour, on one market."""
    chance = np.random.default_rng(seed)
    market = chance.normal(size=200)
    side = np.sign(np.repeat(chance.normal(size=50), 4) + edge * market)
    gross = side[:, None] * (market[:, None] + 0.3 * chance.normal(size=(200, 6)))
    return _trades(np.tile(np.arange(6), 200), np.repeat(np.arange(200) * 15, 6), gross.ravel())


def test_a_few_coins_are_distributed_as_if_all_their_sides_were_listed() -> None:
    gross = np.array([3.0, 1.0, 0.5, -2.0])
    found = coin_flip(
        trades=_trades(np.zeros(4), np.arange(4) * 1000, gross), symbols=1, draws=20_000, seed=1
    )
    every = np.array([np.dot(sides, gross) for sides in product((-1, 1), repeat=4)])
    assert found.coins == 4
    assert found.p_value == pytest.approx(np.mean(every >= gross.sum()), abs=0.015)
    assert found.mean_pct == pytest.approx(-4 * COST)
    assert found.low_pct == pytest.approx(-6.5 - 4 * COST)
    assert found.high_pct == pytest.approx(6.5 - 4 * COST)


def test_trades_without_an_edge_are_better_than_the_coin_no_more_often_than_stated() -> None:
    wrong = sum(
        coin_flip(trades=_six_symbols_that_move_together(seed), symbols=6, draws=400, seed=seed).p_value
        <= 0.05
        for seed in range(RUNS)
    )
    error = math.sqrt(0.05 * 0.95 / RUNS)
    assert abs(wrong / RUNS - 0.05) <= 3 * error


def test_a_coin_for_every_trade_would_take_symbols_that_move_together_for_proof() -> None:
    wrong = sum(
        coin_flip(
            trades=_six_symbols_that_move_together(seed), symbols=6, draws=200, seed=seed, together_minutes=0
        ).p_value
        <= 0.05
        for seed in range(60)
    )
    assert wrong / 60 > 0.15


def test_an_edge_is_found() -> None:
    found = coin_flip(trades=_six_symbols_that_move_together(1, edge=0.5), symbols=6, seed=1)
    assert found.p_value < 0.001
    assert found.low_pct < found.mean_pct < found.high_pct


def test_trades_of_one_stretch_of_time_draw_one_coin() -> None:
    trades = _six_symbols_that_move_together(1)
    assert coin_flip(trades=trades, symbols=6, draws=10, seed=1).coins == 100
    assert coin_flip(trades=trades, symbols=6, draws=10, seed=1, together_minutes=60).coins == 50
    assert coin_flip(trades=trades, symbols=6, draws=10, seed=1, together_minutes=0).coins == 1200


def test_the_same_seed_gives_the_same_answer() -> None:
    trades = _six_symbols_that_move_together(1)
    assert coin_flip(trades=trades, symbols=6, draws=500, seed=3) == coin_flip(
        trades=trades, symbols=6, draws=500, seed=3
    )


def test_a_single_trade_proves_nothing() -> None:
    found = coin_flip(trades=_trades(np.zeros(1), np.zeros(1), np.array([50.0])), symbols=1, seed=1)
    assert found.p_value == pytest.approx(0.5, abs=0.03)


def test_trades_that_moved_nothing_are_no_better_than_a_coin() -> None:
    found = coin_flip(trades=_trades(np.zeros(20), np.arange(20) * 99, np.zeros(20)), symbols=1, seed=1)
    assert found.p_value == 1.0


def test_no_trades_have_no_coin() -> None:
    found = coin_flip(trades=_trades(np.empty(0), np.empty(0), np.empty(0)), symbols=1, seed=1)
    assert found.coins == 0
    assert math.isnan(found.p_value)
    assert math.isnan(found.mean_pct)

"""The stated likelihood of a take-profit is what becomes of such trades."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.trading.costs import Costs
from domain.trading.likelihood import TakeProfitRates, rule_of_thumb
from domain.trading.signals import Signal
from domain.trading.trade import Candle, Exits, advance, enter
from schemas.frames import MINUTE_MS

HORIZON = 15
COSTS = Costs(fee_bps=1.0, slippage_bps=3.0)
EXITS = Exits()


def walk(minutes: int, *, seed: int, deviation_pct: float = 0.1, drift_pct: float = 0.0) -> np.ndarray:
    """Make open, high, low, close of a random walk whose candles open where the last one closed."""
    chance = np.random.default_rng(seed)
    steps = chance.normal(drift_pct, deviation_pct, (minutes, 60)) / 100 / math.sqrt(60)
    path = 100 * np.exp(np.cumsum(steps.ravel())).reshape(minutes, 60)
    open_ = np.concatenate([[100.0], path[:-1, -1]])
    high, low = np.maximum(path.max(axis=1), open_), np.minimum(path.min(axis=1), open_)
    return np.stack([open_, high, low, path[:, -1]], axis=1)


def stated(ohlc: np.ndarray, minute: np.ndarray, side: np.ndarray, **changes) -> dict[str, np.ndarray]:
    distances = EXITS.distances_pct(0.16, HORIZON, COSTS)
    return {
        "symbol_index": np.zeros(len(ohlc), np.int64),
        "minute": minute.astype(np.int64),
        "ohlc": ohlc,
        "side": side.astype(np.int8),
        "confidence": np.full(len(ohlc), 0.55),
        "atr_pct": np.full(len(ohlc), 0.16),
        "distances_pct": np.tile(distances, (len(ohlc), 1)),
        **changes,
    }


def rates() -> TakeProfitRates:
    return TakeProfitRates(symbols=1, horizon_minutes=HORIZON, slippage_bps=COSTS.slippage_bps)


def traded_outcome(ohlc: np.ndarray, minute: np.ndarray, row: int, side: int) -> bool | None:
    """Play one signal with the real rules of a trade; None if no candle filled or ended it."""
    signal = Signal(
        direction="LONG" if side > 0 else "SHORT",
        confidence=55.0,
        created_at_ms=int(minute[row] + 1) * MINUTE_MS,
        horizon_minutes=HORIZON,
        model_version="m",
        atr_pct=0.16,
        profit_likelihood=0.0,
    )
    trade = None
    for k in range(row + 1, len(ohlc)):
        open_, high, low, close = ohlc[k].tolist()
        candle = Candle(open_time_ms=int(minute[k]) * MINUTE_MS, open=open_, high=high, low=low, close=close)
        if trade is None:
            if candle.open_time_ms >= signal.expires_at_ms:
                return None
            trade = enter(signal, candle, COSTS, EXITS)
        trade = advance(trade, candle, COSTS, opposite=False)
        if not trade.is_active:
            return trade.exit_reason == "take_profit"
    return None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), gap=st.integers(0, 40))
def test_what_is_followed_ends_as_a_trade_would(seed: int, gap: int) -> None:
    chance = np.random.default_rng(seed)
    ohlc = walk(120, seed=seed, deviation_pct=0.25)
    minute = np.arange(120)
    minute[60:] += gap
    side = chance.integers(-1, 2, 120)
    followed = rates()
    followed.advance(**stated(ohlc, minute, side))
    outcomes = [traded_outcome(ohlc, minute, row, side[row]) for row in range(120) if side[row]]
    ended = [outcome for outcome in outcomes if outcome is not None]
    assert followed.counts.sum(axis=0).tolist() == [sum(ended), len(ended)]


@pytest.mark.slow
@pytest.mark.parametrize("drift_pct", [0.0, 0.02])
def test_the_stated_likelihood_comes_true(drift_pct: float) -> None:
    minutes = 60_000
    ohlc = walk(minutes, seed=4, drift_pct=drift_pct)
    minute, side = np.arange(minutes), np.ones(minutes)
    said = rates().advance(**stated(ohlc, minute, side))
    later = range(20_000, minutes - 2 * HORIZON, 7)
    came = np.mean([bool(traded_outcome(ohlc, minute, row, 1)) for row in later])
    assert said[list(later)].mean() == pytest.approx(came, abs=0.02)


def test_before_anything_is_known_the_rule_of_thumb_is_stated() -> None:
    ohlc = walk(2, seed=1)
    said = rates().advance(**stated(ohlc, np.arange(2), np.array([1, 0])))
    profit, stop = EXITS.distances_pct(0.16, HORIZON, COSTS)
    # it is told apart in steps of a twentieth
    assert said[0] == pytest.approx(rule_of_thumb(0.55, 0.16, profit, stop, HORIZON), abs=0.025)
    assert math.isnan(said[1])


def test_the_rule_says_what_a_random_walk_does() -> None:
    # without a drift and with all the time in the world, the nearer level is reached first
    assert rule_of_thumb(0.5, 1.6, 0.02, 0.01, 10_000) == pytest.approx(1 / 3, abs=0.01)
    # a level twice the spread away is touched in time by 2 Phi(-2), if the stop is far
    assert rule_of_thumb(0.5, 1.6, 2 * math.sqrt(15), 1e6, 15) == pytest.approx(0.0455, abs=0.001)


@given(st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_the_surer_the_direction_the_likelier_the_take_profit(confidence: float, more: float) -> None:
    surer = rule_of_thumb(confidence + more, 0.2, 0.4, 0.3, HORIZON)
    assert surer >= rule_of_thumb(confidence, 0.2, 0.4, 0.3, HORIZON) - 1e-12


def test_a_better_rule_is_never_stated_as_less_likely() -> None:
    followed = rates()
    chance = np.random.default_rng(0)
    followed.counts[:, 1] = chance.integers(0, 5_000, len(followed.counts))
    followed.counts[:, 0] = followed.counts[:, 1] * chance.random(len(followed.counts))
    confidences = np.linspace(0.02, 0.98, 50)
    ohlc = np.tile([100.0, 100.0, 100.0, 100.0], (50, 1))
    said = [
        followed.advance(
            **stated(ohlc[:1], np.array([k * 100]), np.array([1]), confidence=np.array([confidence]))
        )[0]
        for k, confidence in enumerate(confidences)
    ]
    assert said == sorted(said)

"""Which predictions open trades, and what their rows hold."""

import math

import numpy as np
import pytest

from domain.trading.costs import Costs
from pipeline.trade_stage import Strategy, TradeStage
from schemas.frames import NULL_MS, PredictionFrame, Reason

MINUTE = 60_000
FREE = Costs(fee_bps=0, slippage_bps=0)


def frame(first: int, says: list[tuple[float, float]], *, reason=Reason.NONE, model=1, price=100.0):
    """One symbol, candles between 99 and 101; at each a (percent, probability of a rise) for 15 minutes."""
    n = len(says)
    minute = np.arange(first, first + n)
    return PredictionFrame(
        symbols=("BTC",),
        symbol_index=np.zeros(n, np.int32),
        open_time_ms=minute * MINUTE,
        ohlcv=np.tile([price, price * 1.01, price * 0.99, price, 1.0], (n, 1)),
        origin=np.zeros(n, np.int8),
        vector=np.zeros((n, 2), np.float32),
        is_complete=np.ones(n, bool),
        complete_to_ms=int(minute[-1]) * MINUTE,
        schema_hash="h",
        horizons=(5, 15),
        predicted_pct=np.array([[0.0, percent] for percent, _ in says], np.float32),
        probability_up=np.array([[math.nan, up] for _, up in says], np.float32),
        model_index=np.array([[0, model]] * n, np.int16),
        reason=np.array([[Reason.NO_MODEL, reason]] * n, np.int8),
        models=("last_value", "m1"),
    )


WAIT = (0.1, 0.5)
LONG = (0.1, 0.75)
SHORT = (-0.1, 0.25)


def warmed(**options) -> TradeStage:
    """A stage with enough candles (minutes 0 to 19) to know their range of 2%."""
    stage = TradeStage(symbols=("BTC",), **{"costs": FREE, **options})
    assert stage.step(frame(0, [WAIT] * 20)).rows == []
    return stage


def trades(result) -> list[dict]:
    return [
        dict(zip(part.columns, values, strict=True))
        for part in result.rows
        for values in zip(*part.columns.values(), strict=True)
    ]


def test_row_of_a_trade_holds_its_signal_its_levels_and_its_state():
    stage = warmed()
    assert stage.step(frame(20, [LONG])).rows == []
    (row,) = trades(stage.step(frame(21, [WAIT])))
    assert row["symbol"] == "BTC"
    assert (row["strategy"], row["signal_type"]) == ("main", "LONG")
    assert (row["forecast_horizon"], row["model_version"]) == (15, "m1")
    assert row["created_at"] == 21 * MINUTE
    assert row["entered_at"] == row["last_candle_at"] == 21 * MINUTE
    assert row["entry_price"] == row["current_price"] == 100.0
    # The average range is 2%: take-profit 4%, stop 3%.
    assert (row["tp_price"], row["sl_price"]) == pytest.approx((104.0, 97.0))
    assert (row["real_time_pnl"], row["highest_profit"], row["lowest_loss"]) == pytest.approx(
        (0.0, 1.0, -1.0)
    )
    assert (row["total_minutes"], row["profitable_minutes"]) == (1, 0)
    assert row["confidence"] == 75
    # by the rule of thumb: 4 % up before 3 % down, at a spread of 4.8 % over the horizon
    assert row["profit_likelihood"] == pytest.approx(42, abs=2)
    assert row["is_active"]
    assert (row["completed_at"], row["exit_reason"]) == (NULL_MS, None)
    assert np.isnan(row["exit_price"])


def test_trade_ends_at_its_horizon_in_one_row():
    stage = warmed()
    (row,) = trades(stage.step(frame(20, [LONG] + [WAIT] * 20)))
    assert (row["exit_reason"], row["is_active"]) == ("expiry", False)
    assert row["completed_at"] == 36 * MINUTE
    assert row["total_minutes"] == 15
    assert stage.summary() == {"active_trades": {"main": 0}}


@pytest.mark.parametrize(
    ("says", "options"),
    [
        (WAIT, {}),
        ((0.1, 0.59), {}),
        ((-0.1, 0.75), {}),
        (LONG, {"reason": Reason.TOO_OLD}),
        (LONG, {"reason": Reason.WARMING}),
        (LONG, {"reason": Reason.NO_MODEL, "model": 0}),
        (LONG, {"reason": Reason.NONE, "model": 0}),
    ],
)
def test_prediction_that_may_not_be_acted_on_opens_nothing(says, options):
    stage = warmed()
    assert stage.step(frame(20, [says] * 3, **options)).rows == []


def test_without_an_average_range_nothing_is_opened():
    stage = TradeStage(symbols=("BTC",), costs=FREE)
    assert stage.step(frame(0, [LONG] * 14)).rows == []


def test_disabled_stage_opens_nothing():
    assert warmed(enabled=False).step(frame(20, [LONG] * 5)).rows == []


def test_opposite_signal_ends_one_trade_and_opens_another():
    stage = warmed()
    ended, opened = trades(stage.step(frame(20, [LONG, WAIT, SHORT, WAIT])))
    assert (ended["signal_type"], ended["exit_reason"], ended["completed_at"]) == (
        "LONG",
        "opposite",
        23 * MINUTE,
    )
    assert (opened["signal_type"], opened["created_at"], opened["is_active"]) == ("SHORT", 23 * MINUTE, True)


def test_strategies_trade_apart():
    fast, slow = Strategy(), Strategy(name="sure", confidence_threshold=80.0)
    stage = warmed(strategies=(fast, slow))
    rows = trades(stage.step(frame(20, [LONG, WAIT, (0.1, 0.9), WAIT])))
    assert [(row["strategy"], row["created_at"] // MINUTE) for row in rows] == [("main", 21), ("sure", 23)]


def test_strategy_on_a_horizon_that_nobody_predicts_waits():
    stage = warmed(strategies=(Strategy(horizon_minutes=60),))
    assert stage.step(frame(20, [LONG] * 5)).rows == []

"""Forecasts are scored on the rows at which a model spoke and whose outcome is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domain.evaluation.metrics import directional_accuracy, skill
from domain.trading.costs import Costs
from schemas.frames import MINUTE_MS, FeatureFrame
from training.evaluation.earnings import trade_results
from training.evaluation.history import History
from training.evaluation.scoring import horizon_scores, outcomes_pct, scored_rows
from training.evaluation.serving import BOUNDS, Said

MINUTES, HORIZON = 3_000, 5
FIRST_MS = 1_700_000_040_000


def history() -> History:
    """One symbol that walks at random, with a hole."""
    steps = np.random.default_rng(3).normal(0.0, 0.05, MINUTES)
    close = 100.0 * np.exp(np.cumsum(steps) / 100.0)
    kept = np.r_[0:1_000, 1_020:MINUTES]
    frame = FeatureFrame(
        symbols=("AAAUSDT",),
        symbol_index=np.zeros(len(kept), np.int32),
        open_time_ms=(FIRST_MS + kept * MINUTE_MS).astype(np.int64),
        ohlcv=np.repeat(close[kept, None], 5, axis=1),
        origin=np.zeros(len(kept), np.int8),
        vector=np.zeros((len(kept), 1), np.float32),
        is_complete=np.ones(len(kept), np.bool_),
        complete_to_ms=FIRST_MS + (MINUTES - 1) * MINUTE_MS,
        schema_hash="x",
    )
    return History(frame=frame, stops=(len(kept),), complete_to_ms=(frame.complete_to_ms,))


def said(rows: int, predicted: np.ndarray[tuple[int], np.dtype[np.float64]], **changes: object) -> Said:
    shape = (rows, 1)
    whole = Said(
        horizons=(HORIZON,),
        has_model=np.ones(shape, np.bool_),
        is_stated=np.ones(rows, np.bool_),
        predicted_pct=predicted[:, None],
        confidence=np.full(shape, 60.0),
        probability_up=np.where(predicted[:, None] > 0, 0.6, 0.4),
        bounds={
            name: np.full(shape, -0.2 if name.startswith("lower") else 0.2)
            if name.endswith("80")
            else np.full(shape, np.nan)
            for name in BOUNDS
        },
        model_index=np.ones(shape, np.int16),
        models=("last_value", "m"),
        regime=(np.arange(rows) % 2).astype(np.int8),
        regimes=("ranging", "volatile"),
        trades=(),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_an_outcome_is_never_taken_over_a_hole() -> None:
    past = history()
    actual = outcomes_pct(past, (HORIZON,))[:, 0]
    assert np.isnan(actual[995:1_000]).all()
    assert np.isnan(actual[-HORIZON:]).all()
    assert np.isfinite(actual[:995]).all()


def test_scores_are_those_of_the_chosen_rows_and_groups_add_up_to_them() -> None:
    past = history()
    rows = len(past.frame)
    actual = outcomes_pct(past, (HORIZON,))
    hint = np.nan_to_num(actual[:, 0]) * 0.1 + np.random.default_rng(4).normal(0.0, 0.02, rows)
    silent = np.ones((rows, 1), np.bool_)
    silent[:500] = False
    spoken = said(rows, hint, has_model=silent)
    chosen = scored_rows(spoken, actual)
    found = horizon_scores(
        history=past,
        said=spoken,
        actual=actual,
        chosen=chosen,
        horizon=HORIZON,
        family="m",
        seed=1,
        draws=200,
    )
    mine = chosen[:, 0]
    assert not mine[:500].any()
    assert found.n == mine.sum() == sum(group.n for group in found.by_regime.values())
    assert found.n == sum(group.n for group in found.by_hour.values())
    assert found.skill == skill(actual=actual[mine, 0], predicted=hint[mine])
    assert found.accuracy == directional_accuracy(actual=actual[mine, 0], predicted=hint[mine])
    assert found.accuracy_ci[0] < found.accuracy < found.accuracy_ci[1]
    inside = np.abs(actual[mine, 0]) <= 0.2
    assert found.coverage["80"] == inside.mean()
    assert np.isnan(found.coverage["95"])


def test_what_a_trade_earned_before_costs_is_the_move_of_the_price() -> None:
    costs = Costs(fee_bps=10.0, slippage_bps=2.0)
    trades = []
    for side, exit_price, reason in (("LONG", 101.0, "expiry"), ("SHORT", 99.0, "take_profit")):
        entry = costs.entry_fill(side, 100.0)  # type: ignore[arg-type]
        left = exit_price if reason == "take_profit" else costs.exit_fill(side, exit_price)  # type: ignore[arg-type]
        trades.append(
            {
                "symbol": "AAAUSDT",
                "entered_at": FIRST_MS + len(trades) * 10 * MINUTE_MS,
                "completed_at": FIRST_MS + (len(trades) * 10 + 5) * MINUTE_MS,
                "signal_type": side,
                "entry_price": entry,
                "exit_price": left,
                "exit_reason": reason,
                "real_time_pnl": costs.profit_pct(side, entry, left),  # type: ignore[arg-type]
            }
        )
    found = trade_results(trades, ("AAAUSDT",), costs)
    assert np.allclose(found.gross_pct, 1.0)
    assert (found.net_pct < found.gross_pct - 0.2).all()

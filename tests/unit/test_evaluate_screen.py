"""What `tidecast evaluate` shows of money: only of what was traded."""

from __future__ import annotations

from typing import Any

import pytest

from cli.evaluate_screen import show

MONEY = {
    "return_pct": -1.5, "sharpe": -2.0, "sortino": -3.0, "max_drawdown_pct": 2.5, "turnover_per_day": 1.25,
    "coin_flip_pct": -1.0, "coin_flip_p": 0.6, "deflated_sharpe": 0.01,
}  # fmt: skip


def told(trades: int, days: float = 2.6) -> dict[str, Any]:
    money = {"5": {"trades": trades, **MONEY}}
    return {
        "span": {"from": "2021-04-02T10:05Z", "to": "2021-04-05T00:00Z"},
        "verdict": "no evidence of skill",
        "families": {"xgboost": {"horizons": {}, "served": {"pnl_by_horizon": money},
                                 "always": {"pnl_by_horizon": {"5": {"trades": 0, **MONEY}}}}},
        "buy_and_hold": {"total_return_pct": 4.084, "days": days},
        "trainings": [{"promoted": True}, {"promoted": False}],
        "trials": 2, "deflated_sharpe": None, "pbo": None, "seconds": 3.2,
    }  # fmt: skip


def test_money_is_shown_of_what_traded_with_a_warning_where_days_are_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(told(trades=7))
    said = capsys.readouterr()
    assert "holding earned 4.08 %" in said.out + said.err
    assert "annualised from 2.6 days" in said.out + said.err
    assert "no model traded" not in said.out + said.err
    show(told(trades=7, days=30.0))
    assert "annualised" not in capsys.readouterr().out


def test_without_a_trade_that_is_said_instead_of_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    show(told(trades=0))
    said = capsys.readouterr()
    assert "no model traded; holding earned 4.08 %" in said.out + said.err
    assert "sharpe" not in (said.out + said.err).replace("deflated Sharpe", "")
    assert "annualised" not in said.out + said.err

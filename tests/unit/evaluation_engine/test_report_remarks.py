from __future__ import annotations

from typing import Any

import pytest

from cli.evaluate_screen import show
from training.evaluation.report import few_days


def told(days: float) -> dict[str, Any]:
    """An answer about no family at all."""
    return {
        "span": {"from": "2024-01-01", "to": "2024-02-01"},
        "verdict": "no evidence of skill",
        "families": {},
        "buy_and_hold": {"days": days, "total_return_pct": 1.0},
        "trainings": [],
        "trials": 0,
        "deflated_sharpe": None,
        "pbo": None,
        "seconds": 1.0,
    }


def test_ratios_of_few_days_are_told_to_say_little(capsys: pytest.CaptureFixture[str]) -> None:
    assert "annualised from 6.2 days" in few_days(told(6.2))
    assert few_days(told(30.0)) == ""
    for days, remarked in ((6.2, True), (30.0, False)):
        show(told(days))
        assert ("annualised from" in capsys.readouterr().out) == remarked

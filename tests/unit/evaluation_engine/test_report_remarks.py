from __future__ import annotations

from training.evaluation.report import few_days


def test_ratios_of_few_days_are_told_to_say_little() -> None:
    assert "annualised from 6.2 days" in few_days({"buy_and_hold": {"days": 6.2}})
    assert few_days({"buy_and_hold": {"days": 30.0}}) == ""

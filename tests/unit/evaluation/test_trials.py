from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evaluation.trials import Trial, TrialLedger, settings_text


def _trial(family: str = "xgboost", horizon: int | None = 5, seed: int = 0, *returns: float) -> Trial:
    return Trial(
        family=family, horizon_minutes=horizon, settings="{}", seed=seed, daily_returns_pct=tuple(returns)
    )


def test_every_family_horizon_settings_and_seed_is_a_trial_of_its_own() -> None:
    other = Trial(family="xgboost", horizon_minutes=5, settings='{"depth":3}', seed=0)
    ledger = TrialLedger().counting(
        _trial(),
        _trial("lstm"),
        _trial("xgboost", 15),
        _trial("xgboost", 5, 1),
        other,
        _trial("xgboost", None),
    )
    assert len(ledger) == 6


def test_the_same_recipe_tried_again_counts_once_with_its_last_result() -> None:
    first = TrialLedger().counting(_trial("xgboost", 5, 0, 1.0), _trial("lstm"))
    again = first.counting(_trial("xgboost", 5, 0, 2.0))
    assert len(again) == 2
    assert again.trials[0].daily_returns_pct == (2.0,)
    assert first.trials[0].daily_returns_pct == (1.0,)


keys = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 2)), max_size=20)


@given(keys, keys)
def test_a_ledger_counts_what_is_different_in_whatever_parts_it_was_written(
    left: list[tuple[str, int, int]], right: list[tuple[str, int, int]]
) -> None:
    parts = [TrialLedger().counting(*(_trial(*key) for key in part)) for part in (left, right)]
    assert len(parts[0].merged(parts[1])) == len({*left, *right})
    assert len(parts[1].merged(parts[0])) == len({*left, *right})


def test_settings_are_equal_whatever_the_order_of_their_keys() -> None:
    assert settings_text({"a": 1, "b": {"c": 2, "d": None}}) == settings_text(
        {"b": {"d": None, "c": 2}, "a": 1}
    )
    assert settings_text({"a": 1}) != settings_text({"a": 2})


def test_the_spread_and_the_best_of_their_sharpe_ratios() -> None:
    good, bad, idle = (
        _trial("xgboost", 5, 0, 1.0, 2.0, 3.0),
        _trial("lstm", 5, 0, -1.0, 1.0, -3.0),
        _trial("last_value", 5, 0, 0.0, 0.0, 0.0),
    )
    ledger = TrialLedger().counting(bad, good, idle)
    assert good.sharpe == pytest.approx(2.0)
    assert ledger.sharpe_variance == pytest.approx(np.var([2.0, -0.5, 0.0], ddof=1))
    assert ledger.best == good
    assert ledger.returns_pct().shape == (3, 3)
    assert list(ledger.returns_pct()[:, 1]) == [1.0, 2.0, 3.0]


def test_an_empty_ledger_has_nothing_to_choose_from() -> None:
    assert TrialLedger().best is None
    assert math.isnan(TrialLedger().sharpe_variance)
    assert TrialLedger().returns_pct().shape[1] == 0


def test_what_came_to_nothing_counts_but_has_no_returns() -> None:
    ledger = TrialLedger().counting(_trial(), _trial("lstm", 5, 0, 1.0, 2.0))
    assert len(ledger) == 2
    assert ledger.returns_pct().shape == (2, 1)


def test_trials_over_different_spans_cannot_stand_beside_each_other() -> None:
    ledger = TrialLedger().counting(_trial("xgboost", 5, 0, 1.0), _trial("lstm", 5, 0, 1.0, 2.0))
    with pytest.raises(ValueError, match="different numbers of days"):
        ledger.returns_pct()

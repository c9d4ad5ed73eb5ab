"""A training leaves the score of its validation rows in the form that live is held against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.frames import MINUTE_MS
from training.fitting import FitRequest, fit


def test_the_score_to_hold_live_against_is_that_of_the_validation_rows(market: Callable[..., Path]) -> None:
    request = FitRequest(
        folder=str(market()),
        checkpoint_path="",
        family="xgboost",
        settings={"rounds": 20, "learning_rate": 0.15, "early_stopping_patience": 10},
        seed=3,
        symbol="ALL",
        horizons=(5, 15),
        train_at_ms=1499 * MINUTE_MS,
        feature_names=tuple("abcdef"),
        schema_hash="hash",
    )
    result = fit(request, progress=lambda done, text: None, cancelled=lambda: False)
    assert result.model is not None
    for horizon, found in result.model.by_horizon.items():
        known = found.walk_forward
        assert known.rows == found.scores.rows > 100
        assert known.skill == pytest.approx(found.scores.skill)
        assert known.accuracy == pytest.approx(found.scores.accuracy)
        assert known.brier < (0.25 if horizon == 5 else 0.255), "its probabilities know the planted signal"
        assert (known.blocks >= 10) == (horizon == 5), "a longer horizon has fewer independent outcomes"
        assert (known.skill_error > 0) == (horizon == 5)

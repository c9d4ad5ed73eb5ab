from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from domain.models import serving
from domain.models.model import (
    BadSettingsError,
    BadTrainingDataError,
    Fitted,
    NoSignalError,
    TrainingCancelledError,
    TrainingRows,
)
from domain.models.ridge import FAMILY, Line
from schemas.frames import MINUTE_MS

Change = Callable[[Any], Any]


def _rows(
    seed: int, *, minutes: int = 3000, features: int = 30, signal: float = 0.3, change: Change = lambda v: v
) -> TrainingRows:
    """Make rows whose target is spread thinly over all features, each of which says next to nothing alone."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(minutes, features))
    target = signal * vectors.sum(axis=1) / np.sqrt(features) + chance.normal(size=minutes)
    return TrainingRows(
        vectors=change(vectors).astype(np.float32),
        target_pct=target[:, None],
        open_time_ms=np.arange(minutes) * MINUTE_MS,
        symbol_index=np.zeros(minutes, np.int32),
    )


def _fit(train: TrainingRows, validation: TrainingRows, **options: Any) -> Fitted:
    return FAMILY.fit(
        train=train,
        validation=validation,
        settings=options.pop("settings", {}),
        seed=1,
        progress=options.pop("progress", lambda done, text: None),
        cancelled=options.pop("cancelled", lambda: False),
    )


def _skill(fitted: Fitted, rows: TrainingRows) -> float:
    said = serving.run(serving.open_session(fitted.graph), rows.vectors).predicted_pct
    return float(1 - np.mean((rows.target_pct - said) ** 2) / np.mean(rows.target_pct**2))


def test_a_signal_spread_over_all_features_is_found() -> None:
    fitted = _fit(_rows(1), _rows(2, minutes=1000))
    possible = 0.09 / 1.09
    assert _skill(fitted, _rows(3, minutes=6000)) > 0.75 * possible


def test_log_odds_are_those_of_the_true_probability() -> None:
    rows = _rows(3, minutes=6000)
    said = serving.run(serving.open_session(_fit(_rows(1), _rows(2)).graph), rows.vectors).log_odds_up
    chance = 1 / (1 + np.exp(-said[:, 0]))
    sure = chance > 0.6
    assert np.mean(rows.target_pct[sure, 0] > 0) == pytest.approx(np.mean(chance[sure]), abs=0.03)


def test_the_unit_of_a_feature_does_not_matter() -> None:
    shift, size = 60_000.0, np.logspace(-5, 3, 30)
    plain = _fit(_rows(1), _rows(2))
    moved = _fit(_rows(1, change=lambda v: v * size), _rows(2, change=lambda v: v * size))
    fresh = _rows(3)
    assert _skill(moved, _rows(3, change=lambda v: v * size)) == pytest.approx(_skill(plain, fresh), abs=1e-3)
    far = _fit(_rows(1, change=lambda v: v + shift), _rows(2, change=lambda v: v + shift))
    assert _skill(far, _rows(3, change=lambda v: v + shift)) == pytest.approx(_skill(plain, fresh), abs=5e-3)


def test_one_wild_value_does_not_turn_the_line() -> None:
    def wild(vectors: Any) -> Any:
        vectors[7, 3], vectors[11, 5] = 1e9, -1e9
        return vectors

    assert _skill(_fit(_rows(1, change=wild), _rows(2)), _rows(3)) > 0.05


def test_missing_values_and_features_that_never_differ_say_nothing() -> None:
    def blank(vectors: Any) -> Any:
        vectors[:, 0], vectors[:, 1] = np.nan, 5.0
        vectors[::7, 2:] = np.nan
        return vectors

    fitted = _fit(_rows(1, change=blank), _rows(2, change=blank))
    line = Line.from_text(fitted.native)
    assert (line.scale[:2] == 0).all()
    said = serving.run(serving.open_session(fitted.graph), np.full((3, 30), np.nan, np.float32))
    assert not np.any(said.predicted_pct)
    assert not np.any(said.log_odds_up)
    assert 0 not in fitted.importance


def test_noise_is_refused_or_nearly_flat() -> None:
    for seed in range(10):
        noise = _rows(100 + seed, signal=0.0), _rows(200 + seed, signal=0.0)
        try:
            fitted = _fit(*noise)
        except NoSignalError:
            continue
        said = serving.run(serving.open_session(fitted.graph), noise[1].vectors)
        assert np.std(said.predicted_pct) < 0.07
        assert np.std(said.log_odds_up) < 0.14


def test_a_horizon_learns_the_same_beside_others_whose_labels_are_not_always_known() -> None:
    rows, judged = _rows(1), _rows(2)
    alone = Line.from_text(_fit(rows, judged).native)
    sparse = rows.target_pct.copy()
    sparse[::2] = np.nan
    both = replace(rows, target_pct=np.hstack([sparse, rows.target_pct]))
    beside = _fit(both, replace(judged, target_pct=np.hstack([judged.target_pct, judged.target_pct])))
    assert (Line.from_text(beside.native).change[1] == alone.change[0]).all()
    assert not (Line.from_text(beside.native).change[0] == alone.change[0]).any()


def test_a_target_that_moves_one_way_only_is_refused() -> None:
    rows = _rows(1)
    rows.target_pct[:] = np.abs(rows.target_pct)
    with pytest.raises(BadTrainingDataError, match="one way"):
        _fit(rows, rows)


def test_it_stops_when_asked() -> None:
    with pytest.raises(TrainingCancelledError):
        _fit(_rows(1), _rows(2), cancelled=lambda: True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tail_shar": 0.1}, "did you mean 'tail_share'"),
        ({"tail_share": 0.5}, "0..0.25"),
        ({"tail_share": True}, "number"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettingsError, match="ridge: ") as caught:
        FAMILY.check_settings(settings)
    assert said in str(caught.value)

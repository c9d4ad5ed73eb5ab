from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from domain.evaluation.metrics import directional_accuracy
from domain.models import serving, xgboost_graph
from domain.models.model import (
    BadSettingsError,
    BadTrainingDataError,
    Fitted,
    NoSignalError,
    TrainingCancelledError,
    TrainingRows,
)
from domain.models.xgboost import FAMILY
from domain.models.xgboost_settings import XGBoostSettings

Make = Callable[..., TrainingRows]
SETTINGS = {"rounds": 40, "chunk_rounds": 7, "early_stopping_patience": 15, "learning_rate": 0.2}


def _fit(make_rows: Make, *, settings: dict[str, Any] = SETTINGS, seed: int = 5, **options: Any) -> Fitted:
    return FAMILY.fit(
        train=options.pop("train", None) or make_rows(seed=1),
        validation=options.pop("validation", None) or make_rows(rows=400, seed=2),
        settings=settings,
        seed=seed,
        progress=options.pop("progress", lambda done, text: None),
        cancelled=options.pop("cancelled", lambda: False),
        **options,
    )


def test_the_same_training_gives_the_same_bytes(make_rows: Make) -> None:
    one, other = _fit(make_rows), _fit(make_rows)
    assert one.graph == other.graph
    assert one.native == other.native


def test_another_seed_gives_another_model(make_rows: Make) -> None:
    assert _fit(make_rows).native != _fit(make_rows, seed=6).native


def test_a_training_killed_after_any_chunk_ends_in_the_same_bytes(make_rows: Make, memory: Any) -> None:
    whole = _fit(make_rows, checkpoints=memory)
    assert len(memory.states) > 4
    for kept in range(1, len(memory.states)):
        resumed = type(memory)()
        resumed.states = memory.states[:kept]
        again = _fit(make_rows, checkpoints=resumed)
        assert again.native == whole.native
        assert again.graph == whole.graph
        assert len(resumed.states) == len(memory.states), "it went on, and did not begin again"


@pytest.mark.parametrize("damage", [lambda state: state[:50], lambda state: b"", lambda state: b"[1]"])
def test_a_damaged_state_begins_again_and_ends_in_the_same_bytes(
    make_rows: Make, memory: Any, damage: Callable[[bytes], bytes]
) -> None:
    whole = _fit(make_rows, checkpoints=memory)
    torn = type(memory)()
    torn.states = [damage(memory.states[-1])]
    assert _fit(make_rows, checkpoints=torn).graph == whole.graph


def test_a_state_of_other_rows_is_not_taken_over(make_rows: Make, memory: Any) -> None:
    _fit(make_rows, checkpoints=memory)
    other = make_rows(seed=9)
    assert _fit(make_rows, train=other, checkpoints=memory).native == _fit(make_rows, train=other).native


def test_a_planted_signal_is_found(make_rows: Make) -> None:
    fitted = _fit(make_rows)
    unseen = make_rows(seed=3)
    found = FAMILY.predict(native=fitted.native, inputs=unseen.vectors)
    assert directional_accuracy(actual=unseen.target_pct, predicted=found.predicted_pct) > 0.62
    agrees = (found.log_odds_up > 0) == (unseen.target_pct > 0)
    assert agrees[unseen.target_pct != 0].mean() > 0.62
    assert max(fitted.importance, key=lambda column: fitted.importance[column]) == 0
    assert sum(fitted.importance.values()) == pytest.approx(1.0)


def test_a_model_without_any_split_is_refused(make_rows: Make) -> None:
    with pytest.raises(NoSignalError, match="no split"):
        _fit(make_rows, settings={**SETTINGS, "min_leaf_rows": 1000})


@pytest.mark.parametrize("base", [0.5, 0.2])
@pytest.mark.parametrize("gamma", [0.0, 1e9])
def test_a_direction_head_of_bare_leaves_is_exported_truly(
    make_rows: Make, gamma: float, base: float
) -> None:
    # Origin: converters are known to put such a head's base score into the wrong space.
    rows = make_rows(seed=1)
    options = {"tree_method": "hist", "nthread": 1, "max_depth": 3, "seed": 1}
    change = xgb.train(
        {**options, "objective": "reg:squarederror", "base_score": 0.3},
        xgb.DMatrix(rows.vectors, label=rows.target_pct),
        3,
    )
    rise = xgb.train(
        {**options, "objective": "binary:logistic", "base_score": base, "gamma": gamma},
        xgb.DMatrix(rows.vectors, label=rows.target_pct > 0),
        3,
    )
    models = [json.loads(bytes(booster.save_raw("json"))) for booster in (change, rise)]
    graph = xgboost_graph.build(changes=models[:1], rises=models[1:], features=6)
    found = serving.run(serving.open_session(graph), rows.vectors)
    for booster, values in zip((change, rise), found, strict=True):
        expected = booster.inplace_predict(rows.vectors, predict_type="margin")
        np.testing.assert_allclose(values[:, 0], expected, atol=1e-6)


def test_a_horizon_learns_the_same_beside_others_as_alone(make_rows: Make) -> None:
    # All of them see the same rows here, so that the bins are the same.
    one, other = make_rows(seed=1), make_rows(seed=1, signal=-0.2)
    checks = make_rows(rows=400, seed=2), make_rows(rows=400, seed=2, signal=-0.2)
    both = [
        replace(a, target_pct=np.concatenate([a.target_pct, b.target_pct], axis=1))
        for a, b in ((one, other), checks)
    ]
    joint = _fit(make_rows, train=both[0], validation=both[1])
    alone = _fit(make_rows, train=one, validation=checks[0])
    unseen = make_rows(seed=3).vectors
    found = FAMILY.predict(native=joint.native, inputs=unseen)
    expected = FAMILY.predict(native=alone.native, inputs=unseen)
    assert found.predicted_pct.shape == (len(unseen), 2)
    np.testing.assert_array_equal(found.predicted_pct[:, 0], expected.predicted_pct[:, 0])
    assert np.corrcoef(found.predicted_pct.T)[0, 1] < -0.5


def test_rows_whose_target_is_not_known_teach_nothing(make_rows: Make) -> None:
    rows = make_rows(seed=1)
    wild = replace(rows, target_pct=np.where(np.arange(len(rows))[:, None] % 3, rows.target_pct, np.nan))
    fitted = _fit(make_rows, train=wild)
    unseen = make_rows(seed=3)
    said = FAMILY.predict(native=fitted.native, inputs=unseen.vectors).predicted_pct
    assert directional_accuracy(actual=unseen.target_pct, predicted=said) > 0.6


def test_a_feature_that_is_always_missing_is_never_used(make_rows: Make) -> None:
    rows = make_rows(seed=1)
    rows.vectors[:, 3] = np.nan
    fitted = _fit(make_rows, train=rows)
    assert 3 not in fitted.importance


def test_a_target_that_only_rises_is_refused(make_rows: Make) -> None:
    rows = make_rows()
    rising = replace(rows, target_pct=np.abs(rows.target_pct))
    with pytest.raises(BadTrainingDataError, match="one way"):
        _fit(make_rows, train=rising)


def test_a_training_stops_soon_after_it_is_asked_to(make_rows: Make, memory: Any) -> None:
    with pytest.raises(TrainingCancelledError):
        _fit(make_rows, cancelled=lambda: len(memory.states) >= 2, checkpoints=memory)
    assert len(memory.states) == 2


def test_progress_only_ever_rises_to_one(make_rows: Make) -> None:
    seen: list[float] = []
    _fit(make_rows, progress=lambda done, text: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_all_wrong_settings_are_reported_at_once_with_the_nearest_name() -> None:
    with pytest.raises(BadSettingsError) as caught:
        XGBoostSettings.of({"max_dept": 3, "rounds": 0, "subsample": "all", "threads": True})
    text = str(caught.value)
    assert "did you mean 'max_depth'" in text
    assert "rounds = 0" in text
    assert "subsample = 'all'" in text
    assert "threads = True" in text


def _trees(native: bytes) -> list[int]:
    heads = json.loads(native)["heads"]
    return [len(head["learner"]["gradient_booster"]["model"]["trees"]) for head in heads.values()]


def test_a_model_that_is_trained_further_keeps_its_trees_and_learns_what_is_new(make_rows: Make) -> None:
    before = _fit(make_rows)
    # what is new: the sign of the second feature counts as well
    new, check, unseen = (
        replace(rows, target_pct=rows.target_pct + 0.2 * np.sign(np.nan_to_num(rows.vectors[:, 1:2])))
        for rows in (make_rows(seed=11), make_rows(rows=400, seed=12), make_rows(seed=13))
    )
    further = _fit(make_rows, train=new, validation=check, start_from=before.native)
    for old, grown in zip(_trees(before.native), _trees(further.native), strict=True):
        assert old < grown <= old + 50
    errors = [
        np.mean((FAMILY.predict(native=n, inputs=unseen.vectors).predicted_pct - unseen.target_pct) ** 2)
        for n in (before.native, further.native)
    ]
    assert errors[1] < 0.8 * errors[0]
    head, *_ = json.loads(before.native)["heads"].values()
    longer, *_ = json.loads(further.native)["heads"].values()
    trees = [h["learner"]["gradient_booster"]["model"]["trees"] for h in (head, longer)]
    assert trees[1][: len(trees[0])] == trees[0]


def test_a_model_that_cannot_be_bettered_stays_as_it_is(make_rows: Make) -> None:
    before = _fit(make_rows)
    wild = {**SETTINGS, "learning_rate": 1.0, "min_leaf_rows": 1, "min_leaf_fraction": 0.0, "max_depth": 8}
    noise = make_rows(seed=21, signal=0.0)
    further = _fit(make_rows, train=noise, settings=wild, start_from=before.native)
    assert _trees(further.native)[0] == _trees(before.native)[0]


@pytest.mark.slow
def test_a_further_training_killed_after_any_chunk_ends_in_the_same_bytes(
    make_rows: Make, memory: Any
) -> None:
    before = _fit(make_rows)
    whole = _fit(make_rows, train=make_rows(seed=11), start_from=before.native, checkpoints=memory)
    for kept in range(1, len(memory.states)):
        resumed = type(memory)()
        resumed.states = memory.states[:kept]
        again = _fit(make_rows, train=make_rows(seed=11), start_from=before.native, checkpoints=resumed)
        assert again.native == whole.native


def test_a_model_of_other_horizons_or_features_is_not_trained_further(make_rows: Make) -> None:
    before = _fit(make_rows)
    rows = make_rows(seed=11)
    two = replace(rows, target_pct=np.repeat(rows.target_pct, 2, axis=1))
    with pytest.raises(BadSettingsError, match="1 horizons, this training 2"):
        _fit(make_rows, train=two, validation=two, start_from=before.native)
    narrow = make_rows(features=5)
    with pytest.raises(BadSettingsError, match="6 features, this training 5"):
        _fit(make_rows, train=narrow, validation=narrow, start_from=before.native)

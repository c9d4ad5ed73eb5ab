from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from domain.models import ensemble_rows, ensemble_weights
from domain.models.ensemble_weights import FRESH, STOPPED_BY, Judged
from domain.models.model import Predictions, TrainingRows
from schemas.frames import MINUTE_MS


def _judged(said: Mapping[str, Any], target: Any, overlap: int = 1) -> Judged:
    rows = TrainingRows(
        vectors=np.zeros((len(target), 1), np.float32),
        target_pct=np.asarray(target, np.float64)[:, None],
        open_time_ms=np.arange(len(target)) * MINUTE_MS,
        symbol_index=np.zeros(len(target), np.int32),
    )
    columns = {name: np.asarray(values, np.float32)[:, None] for name, values in said.items()}
    return Judged(
        rows=rows,
        said={name: Predictions(column, column) for name, column in columns.items()},
        overlap=(overlap,),
    )


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_never_negative_and_add_up_to_at_most_one(seed: int) -> None:
    chance = np.random.default_rng(seed)
    hints = chance.normal(size=(800, 4)) * chance.uniform(0, 0.6, size=4)
    target = hints.sum(axis=1) + chance.normal(size=800)
    said = {f"m{k}": hints[:, k] * chance.uniform(-1, 3) for k in range(4)}
    found = ensemble_weights.by_skill(_judged(said, target), doubt=FRESH)
    total = sum(found.values(), np.zeros((2, 1)))
    assert all((weights >= 0).all() for weights in found.values())
    assert (total <= 1).all()


def test_noise_weighs_nearly_nothing() -> None:
    totals = {FRESH: 0.0, STOPPED_BY: 0.0}
    for seed in range(100):
        chance = np.random.default_rng(seed)
        judged = _judged({"a": chance.normal(size=600)}, chance.normal(size=600))
        for doubt in totals:
            found = ensemble_weights.by_skill(judged, doubt=doubt)
            totals[doubt] += float(sum(weights.sum() for weights in found.values())) / 200
    assert totals[FRESH] < 0.02
    assert totals[STOPPED_BY] < totals[FRESH]


def test_what_overlaps_counts_as_one_outcome_a_horizon() -> None:
    # the same outcome sixty minutes long looks like sixty outcomes, unless one is told
    chance = np.random.default_rng(1)
    hint = np.repeat(chance.normal(size=60), 60)
    target = 0.3 * hint + np.repeat(chance.normal(size=60), 60)
    blind = ensemble_weights.by_skill(_judged({"a": 0.3 * hint}, target, overlap=1), doubt=FRESH)
    told = ensemble_weights.by_skill(_judged({"a": 0.3 * hint}, target, overlap=60), doubt=FRESH)
    assert told.get("a", np.zeros((2, 1)))[0, 0] < 0.95 * blind["a"][0, 0]


def test_too_few_outcomes_are_no_evidence() -> None:
    hint = np.random.default_rng(1).normal(size=200)
    assert ensemble_weights.by_skill(_judged({"a": hint}, hint, overlap=60), doubt=FRESH) == {}


def test_one_who_overstates_is_toned_down_and_one_who_says_the_opposite_is_silenced() -> None:
    chance = np.random.default_rng(2)
    hint = chance.normal(size=4000)
    target = 0.5 * hint + chance.normal(size=4000)
    found = ensemble_weights.by_skill(_judged({"loud": 2.0 * hint, "wrong": -hint}, target), doubt=FRESH)
    assert 0.22 < found["loud"][0, 0] < 0.3
    assert "wrong" not in found


def test_one_whose_weight_rounds_to_nothing_is_left_out() -> None:
    chance = np.random.default_rng(2)
    hint = chance.normal(size=4000)
    judged = _judged({"loud": 1e6 * hint}, 0.5 * hint + chance.normal(size=4000))
    silent = replace(
        judged, said={"loud": Predictions(judged.said["loud"][0], np.zeros((4000, 1), np.float32))}
    )
    assert ensemble_weights.by_skill(silent, doubt=FRESH) == {}
    assert set(ensemble_weights.alike(("a", "b"), {"a": 1.0, "b": 1e-9}, 2)) == {"a"}


def test_stacking_gives_each_its_due() -> None:
    chance = np.random.default_rng(3)
    hints = 0.4 * chance.normal(size=(6000, 2))
    target = hints[:, 0] + 0.5 * hints[:, 1] + chance.normal(size=6000)
    noise = 0.4 * chance.normal(size=6000)
    said = {"a": hints[:, 0], "b": hints[:, 1], "noise": noise}
    found = ensemble_weights.by_stacking(_judged(said, target))
    assert found["a"][0, 0] == pytest.approx(0.9, abs=0.1)
    assert found["b"][0, 0] == pytest.approx(0.45, abs=0.1)
    assert found.get("noise", np.zeros((2, 1)))[0, 0] < 0.08


@pytest.mark.parametrize(("horizon", "every"), [(5, 1), (60, 1), (60, 5)])
def test_how_far_labels_overlap_is_measured(horizon: int, every: int) -> None:
    steps = np.random.default_rng(horizon).standard_t(4, size=(6000, 2))
    path = np.cumsum(steps, axis=0)
    target = np.full(path.shape, np.nan)
    target[:-horizon] = path[horizon:] - path[:-horizon]
    minutes = np.repeat(np.arange(6000), 2)
    rows = TrainingRows(
        vectors=np.zeros((12_000, 1), np.float32),
        target_pct=target.reshape(-1, 1),
        open_time_ms=minutes * MINUTE_MS,
        symbol_index=np.tile(np.arange(2, dtype=np.int32), 6000),
    ).take(np.flatnonzero(minutes % every == 0))
    (found,) = ensemble_weights.overlap(rows, longest_minutes=10_080)
    assert found == pytest.approx(horizon / every, rel=0.3)


# Rows that they are found on


def test_short_validation_rows_are_not_halved() -> None:
    times = np.arange(400) * MINUTE_MS
    assert ensemble_rows.halves(times, purge_minutes=10) is None
    assert ensemble_rows.halves(times, purge_minutes=9) is not None


def test_no_label_of_a_fold_reaches_into_what_is_foretold() -> None:
    times = np.repeat(np.arange(1500), 2) * MINUTE_MS
    found = ensemble_rows.folds(times, purge_minutes=30, count=3)
    assert len(found) == 3
    for learn, stop, ahead in found:
        minutes = [times[part] // MINUTE_MS for part in (learn, stop, ahead)]
        assert minutes[0].max() + 30 < minutes[1].min()
        assert minutes[1].max() + 30 < minutes[2].min()
    assert len(np.unique(np.concatenate([ahead for _, _, ahead in found]))) == 1800


def test_stacking_on_too_short_a_history_weighs_by_skill() -> None:
    assert ensemble_rows.folds(np.arange(120) * MINUTE_MS, purge_minutes=60, count=3) == []

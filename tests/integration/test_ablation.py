"""The ablation on a market where one feature says what comes and all others are noise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.frames import MINUTE_MS, FeatureFrame
from training.evaluation.ablation import FULL, RESEEDED, Ablated, ablate, variants_of
from training.evaluation.ablation_scores import worths
from training.evaluation.contrasts import HELPS, UNKNOWN
from training.evaluation.history import History
from training.evaluation.schedule import TooShortError
from training.settings import TrainingPlan

NAMES = ("signal", "noise_one", "noise_two", "noise_three")
GROUPS = {"what counts": ["signal"], "what does not": ["noise_one", "noise_two"]}
STEP = 5
PLAN = TrainingPlan(
    symbols=("A",),
    feature_names=NAMES,
    warm_up_minutes=(1,) * 4,
    schema_hash="planted",
    optional_features=frozenset(),
    family_settings={"xgboost": {"rounds": 25, "learning_rate": 0.2}},
)


class Here:
    """Runs what a pool would, in this process."""

    async def run(self, function: Callable[..., Any], *args: Any, progress: Any = None) -> Any:
        return function(*args, progress=lambda *_: None, cancelled=lambda: False)


def planted(days: int) -> History:
    """Every fifth minute the next five are decided, half of it by the signal of that minute."""
    chance = np.random.default_rng(1)
    minutes = days * 1440
    vector = chance.normal(size=(minutes, 4)).astype(np.float32)
    moves = 0.1 * (vector[:, 0] + chance.normal(size=minutes))
    moves[np.arange(minutes) % STEP != 0] = 0.0
    # what is decided at the close of minute 0 shows in the close of minute 1
    price = 100.0 * np.exp(np.concatenate([[0.0], np.cumsum(moves)[:-1]]) / 100.0)
    times = np.arange(minutes, dtype=np.int64) * MINUTE_MS
    frame = FeatureFrame(
        symbols=("A",),
        symbol_index=np.zeros(minutes, np.int32),
        open_time_ms=times,
        ohlcv=np.repeat(price[:, None], 5, axis=1),
        origin=np.zeros(minutes, np.int8),
        vector=vector,
        is_complete=np.ones(minutes, np.bool_),
        complete_to_ms=int(times[-1]),
        schema_hash="planted",
    )
    return History(frame=frame, stops=(minutes,), complete_to_ms=(int(times[-1]),))


async def ablated(days: int, scratch: Path) -> Ablated:
    return await ablate(
        planted(days),
        recording="planted",
        plan=PLAN,
        horizons=(5,),
        variants=variants_of(GROUPS),
        step_minutes=STEP,
        compute=Here(),
        scratch=scratch,
        tell=lambda *_: None,
    )


async def test_the_group_that_says_what_comes_helps_and_the_others_do_not(tmp_path: Path) -> None:
    found = await ablated(13, tmp_path)
    verdicts = {(each.group, each.loss): each for each in worths([found], seed=1)}
    for loss in ("squared error", "log loss"):
        assert verdicts["what counts", loss].verdict == HELPS
        # noise in a model may even hurt it
        assert verdicts["what does not", loss].verdict != HELPS
        assert verdicts[RESEEDED, loss].verdict == UNKNOWN
    # half of the variance is the signal's
    assert verdicts["what counts", "squared error"].worth.estimate == pytest.approx(50, abs=12)
    # after the first week, and on the Monday of the second
    assert (found.trainings, found.without_model) == (2 * len(found.hidden), 0)
    assert not any(os.scandir(tmp_path))


async def test_only_minutes_behind_a_model_are_scored_and_one_in_five(tmp_path: Path) -> None:
    found = await ablated(9, tmp_path)
    minutes = found.open_time_ms // MINUTE_MS
    assert minutes[0] >= 7 * 1440 + PLAN.activation_delay_minutes
    assert set(np.diff(minutes)) == {STEP}
    assert found.actual_pct.shape == found.predicted_pct[FULL].shape == (len(minutes), 1)


async def test_a_recording_that_is_too_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(TooShortError, match="planted: shorter than the 7 days"):
        await ablated(6, tmp_path)

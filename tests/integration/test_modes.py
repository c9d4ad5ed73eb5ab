"""Training modes on markets where it is known which one must win."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.models.model import BadSettingsError
from schemas.frames import MINUTE_MS, FeatureFrame
from training.evaluation.contrasts import HELPS
from training.evaluation.history import History
from training.evaluation.modes import BATCH, ONLINE, OWN, RESEEDED, TRANSFER, Tried, try_modes
from training.evaluation.modes_scores import Gain, gains, standings
from training.evaluation.schedule import TooShortError
from training.settings import TrainingPlan

NAMES = ("signal", "noise_one", "noise_two")
STEP = 5
FIRST_WEEK = 7 * 1440


class Here:
    """Runs what a pool would, in this process."""

    async def run(self, function: Callable[..., Any], *args: Any, progress: Any = None) -> Any:
        return function(*args, progress=lambda *_: None, cancelled=lambda: False)


def plan(**settings: Any) -> TrainingPlan:
    return TrainingPlan(
        symbols=("A", "B"),
        feature_names=NAMES,
        warm_up_minutes=(1,) * 3,
        schema_hash="planted",
        optional_features=frozenset(),
        family_settings={"xgboost": {"rounds": 25, "learning_rate": 0.2, **settings}},
    )


def planted(days: int, *, symbols: tuple[str, ...] = ("A",), turns: bool = False) -> History:
    """Every fifth minute the next five are decided, half of it by the signal of that minute.

    The signal says the same of every symbol; where it `turns`, it says the opposite after the first week.
    """
    chance = np.random.default_rng(1)
    minutes = days * 1440
    sign = np.where(turns & (np.arange(minutes) >= FIRST_WEEK), -1.0, 1.0)
    vectors, closes = [], []
    for _ in symbols:
        vector = chance.normal(size=(minutes, 3)).astype(np.float32)
        moves = 0.1 * (sign * vector[:, 0] + chance.normal(size=minutes))
        moves[np.arange(minutes) % STEP != 0] = 0.0
        # what is decided at the close of minute 0 shows in the close of minute 1
        closes.append(100.0 * np.exp(np.concatenate([[0.0], np.cumsum(moves)[:-1]]) / 100.0))
        vectors.append(vector)
    many = len(symbols)
    times = np.repeat(np.arange(minutes, dtype=np.int64) * MINUTE_MS, many)
    close = np.stack(closes, axis=1).reshape(-1)
    frame = FeatureFrame(
        symbols=symbols,
        symbol_index=np.tile(np.arange(many, dtype=np.int32), minutes),
        open_time_ms=times,
        ohlcv=np.repeat(close[:, None], 5, axis=1),
        origin=np.zeros(len(times), np.int8),
        vector=np.stack(vectors, axis=1).reshape(-1, 3),
        is_complete=np.ones(len(times), np.bool_),
        complete_to_ms=int(times[-1]),
        schema_hash="planted",
    )
    return History(frame=frame, stops=(len(times),), complete_to_ms=(int(times[-1]),))


async def tried(history: History, scratch: Path, settings: TrainingPlan | None = None) -> Tried:
    return await try_modes(
        history,
        recording="planted",
        family="xgboost",
        plan=settings or plan(),
        horizons=(5,),
        step_minutes=STEP,
        compute=Here(),
        scratch=scratch,
        tell=lambda *_: None,
    )


def of(found: list[Gain], way: str) -> dict[str, Gain]:
    return {each.loss: each for each in found if each.way == way}


async def test_where_the_market_has_turned_going_on_with_new_rows_alone_wins(tmp_path: Path) -> None:
    # the first week ends on a Thursday, the second point is the Monday after, the third a week later
    found = await tried(planted(22, turns=True), tmp_path, plan(further_rounds=50))
    gained = gains([found], seed=1)
    for loss in ("squared error", "log loss"):
        online, reseeded = of(gained, ONLINE)[loss], of(gained, RESEEDED)[loss]
        assert online.verdict == HELPS
        assert online.worth.low > 3 * abs(reseeded.worth.estimate)
    assert of(gained, ONLINE)["squared error"].worth.low > 5
    assert found.efforts[ONLINE].went_on == found.efforts[ONLINE].trainings == found.points - 1
    assert found.efforts[BATCH].went_on == 0
    assert not any(os.scandir(tmp_path))


async def test_where_the_market_stays_as_it_is_going_on_is_about_as_good(tmp_path: Path) -> None:
    found = await tried(planted(16), tmp_path, plan(rounds=80))
    online = of(gains([found], seed=1), ONLINE)["squared error"]
    assert abs(online.worth.estimate) < 3
    (batch,) = [each.level for each in standings([found], seed=1) if each.way == BATCH]
    # half of the variance is the signal's
    assert batch.squared_error.estimate == pytest.approx(50, abs=12)
    # one symbol has no others to borrow from
    assert set(found.predicted_pct) == {BATCH, RESEEDED, ONLINE}


async def test_a_model_of_the_others_helps_a_symbol_with_too_little_of_its_own(tmp_path: Path) -> None:
    # a few trees say little; those of the others are kept, and more are added
    found = await tried(
        planted(12, symbols=("A", "B")), tmp_path, plan(rounds=4, further_rounds=8, learning_rate=0.2)
    )
    transfer = of(gains([found], seed=1), TRANSFER)
    assert transfer["squared error"].verdict == HELPS
    assert transfer["squared error"].against == OWN
    effort = found.efforts[TRANSFER]
    assert (effort.trainings, effort.went_on, effort.failed) == (2 * (found.points - 1), 2, 0)
    assert effort.cpu_s > 0


async def test_only_minutes_from_the_second_point_on_are_scored_and_one_in_five(tmp_path: Path) -> None:
    found = await tried(planted(12, symbols=("A", "B")), tmp_path)
    minutes = found.open_time_ms // MINUTE_MS
    assert minutes[0] >= 11 * 1440 + plan().activation_delay_minutes
    assert set(np.diff(minutes)) == {0, STEP}
    for way in (BATCH, RESEEDED, ONLINE, OWN, TRANSFER):
        assert found.predicted_pct[way].shape == (len(minutes), 1)
        # everybody spoke about every row
        assert np.all(found.predicted_pct[way] != 0.0)


async def test_a_model_that_saw_the_validation_rows_is_not_gone_on_from(tmp_path: Path) -> None:
    # the donor knows the first seven days of eleven; the symbol's own are the last seven, and of them seven
    # tenths are to validate on
    greedy = replace(plan(rounds=5), validation_fraction=0.7)
    found = await tried(planted(12, symbols=("A", "B")), tmp_path, greedy)
    assert (found.efforts[TRANSFER].went_on, found.efforts[TRANSFER].had_been_seen) == (0, 2)
    assert np.array_equal(found.predicted_pct[TRANSFER], found.predicted_pct[OWN])


async def test_where_nothing_can_be_learned_the_model_before_goes_on_speaking(tmp_path: Path) -> None:
    history = planted(12)
    # after the first week there are no complete rows to learn from, until the second model speaks
    minute = history.frame.open_time_ms // MINUTE_MS
    history.frame.is_complete[(minute > FIRST_WEEK) & (minute <= 11 * 1440 - 10)] = False
    found = await tried(history, tmp_path)
    assert found.efforts[ONLINE].failed == 1
    assert np.all(found.predicted_pct[ONLINE] != 0.0)
    (online,) = [each.level for each in standings([found], seed=1) if each.way == ONLINE]
    assert online.squared_error.low > 20


async def test_a_recording_without_a_second_training_is_named(tmp_path: Path) -> None:
    with pytest.raises(TooShortError, match="planted: no forecast fell due after its second training"):
        await tried(planted(9), tmp_path)


async def test_a_setting_that_the_family_does_not_know_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsError, match="'rouns' is unknown"):
        await tried(planted(12), tmp_path, plan(rouns=3))

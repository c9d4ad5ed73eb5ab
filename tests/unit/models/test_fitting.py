from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.evaluation.walk_forward import TooFewRowsError
from domain.models.model import BadSettingsError, BadTrainingDataError, UnknownFamilyError
from domain.models.serving import ServedModel
from schemas.frames import MINUTE_MS
from training.checkpoints import FileCheckpoints
from training.fitting import FitRequest, FitResult, ServedBefore, fit
from training.parts import are_enough
from training.promotion import decide

Market = Callable[..., Path]
NAMES = tuple("abcdef")
SETTINGS = {"rounds": 60, "chunk_rounds": 10, "learning_rate": 0.15, "early_stopping_patience": 10}


def _request(folder: Path, **changes: Any) -> FitRequest:
    request = FitRequest(
        folder=str(folder),
        checkpoint_path="",
        family="xgboost",
        settings=SETTINGS,
        seed=3,
        symbol="ALL",
        horizons=(5,),
        train_at_ms=1499 * MINUTE_MS,
        feature_names=NAMES,
        schema_hash="hash",
    )
    return replace(request, **changes)


def _fit(request: FitRequest, cancelled: Callable[[], bool] = lambda: False) -> FitResult:
    return fit(request, progress=lambda done, text: None, cancelled=cancelled)


def _promoted(result: FitResult) -> bool:
    if result.model is None:
        return False
    found = result.model.by_horizon[5]
    return decide(found.against_no_change).promote


def test_a_planted_signal_is_learned_and_promoted(market: Market) -> None:
    result = _fit(_request(market()))
    assert result.model is not None
    assert result.model.by_horizon[5].scores.accuracy > 0.65
    assert result.model.by_horizon[5].scores.skill > 0.1
    assert max(result.model.importance, key=lambda name: result.model.importance[name]) == "a"
    assert _promoted(result)


@pytest.mark.slow
def test_pure_noise_is_refused_nearly_always(market: Market) -> None:
    promoted = [_promoted(_fit(_request(market(signal=0.0, seed=seed)))) for seed in range(10)]
    assert sum(promoted) <= 2


def test_the_same_rows_give_the_same_bytes(market: Market) -> None:
    one, other = _fit(_request(market())), _fit(_request(market(seed=0)))
    assert one.model is not None
    assert other.model is not None
    assert one.model.graph == other.model.graph
    assert one.model.sha256 == hashlib.sha256(one.model.graph).hexdigest()
    assert one.model.by_horizon == other.model.by_horizon


def test_rows_after_the_time_of_the_training_change_nothing(market: Market) -> None:
    whole = market()
    cut = market(seed=0, signal=0.6000001)  # another folder
    for name in ("vectors", "symbol_index", "open_time_ms", "close", "is_complete"):
        np.save(cut / f"{name}.npy", np.load(whole / f"{name}.npy")[: 2 * 1201])
    early = 1200 * MINUTE_MS
    one, other = (_fit(_request(folder, train_at_ms=early)) for folder in (whole, cut))
    assert one.model is not None
    assert other.model is not None
    assert one.model.graph == other.model.graph
    assert one.train_end_ms == other.train_end_ms < early


def test_a_killed_training_resumes_from_its_file_in_the_same_bytes(market: Market, tmp_path: Path) -> None:
    path = tmp_path / "unfinished.state"
    request = _request(market(), checkpoint_path=str(path))
    whole = _fit(replace(request, checkpoint_path=""))
    asked = iter(range(100))
    with pytest.raises(Exception, match="asked to stop"):
        _fit(request, cancelled=lambda: next(asked) >= 2)
    assert path.exists()
    resumed = _fit(request)
    assert whole.model is not None
    assert resumed.model is not None
    assert resumed.model.graph == whole.model.graph
    assert not path.exists()


def test_the_model_in_production_is_compared_on_rows_that_neither_has_seen(market: Market) -> None:
    folder = market()
    first = _fit(_request(folder, train_at_ms=1300 * MINUTE_MS))
    assert first.model is not None
    before = ServedBefore(
        version="old",
        train_at_ms=1300 * MINUTE_MS,
        payload=first.model.graph,
        sha256=first.model.sha256,
    )
    second = _fit(_request(folder, production={5: before}))
    assert second.model is not None
    found = second.model.by_horizon[5].against_production
    assert found is not None
    # validation is the last fifth, from about minute 1,200; the old model had seen up to 1,300
    assert found.minutes == 1494 - 1300


def test_the_artifact_can_be_served_and_says_what_it_is(market: Market) -> None:
    result = _fit(_request(market()))
    assert result.model is not None
    served = ServedModel.from_bytes(
        result.model.graph, sha256=result.model.sha256, feature_names=NAMES, schema_hash="hash"
    )
    assert served.card.horizons == (5,)
    assert served.card.trained_to_ms == 1499 * MINUTE_MS
    assert served.card.native_sha256 == hashlib.sha256(result.model.native).hexdigest()


def test_rows_without_signal_for_the_settings_give_no_model_but_a_reason(market: Market) -> None:
    result = _fit(_request(market(), settings={**SETTINGS, "min_leaf_fraction": 0.5, "min_leaf_rows": 5000}))
    assert result.model is None
    assert "no split" in result.reason
    assert result.baseline[5].accuracy == 0.5


def test_a_horizon_longer_than_the_history_is_refused(market: Market) -> None:
    with pytest.raises(BadTrainingDataError, match="too short for this horizon"):
        _fit(_request(market(), horizons=(2000,)))
    with pytest.raises(TooFewRowsError, match="wait for more history"):
        _fit(_request(market(), horizons=(1400,)))


def test_an_unknown_family_is_refused(market: Market) -> None:
    with pytest.raises(UnknownFamilyError, match="no model family 'prophet'"):
        _fit(_request(market(), family="prophet"))


def test_an_unknown_setting_is_refused(market: Market) -> None:
    with pytest.raises(BadSettingsError, match="did you mean 'rounds'"):
        _fit(_request(market(), settings={"round": 5}))


def test_a_feature_without_any_value_is_refused_unless_it_is_still_warming(market: Market) -> None:
    folder = market()
    vectors = np.load(folder / "vectors.npy")
    vectors[:, 4] = np.nan
    np.save(folder / "vectors.npy", vectors)
    with pytest.raises(BadTrainingDataError, match="no value at all of e"):
        _fit(_request(folder, warm_up_minutes=(1, 1, 1, 1, 100, 1)))
    assert _fit(_request(folder, warm_up_minutes=(1, 1, 1, 1, 5000, 1))).model is not None
    assert _fit(_request(folder, optional_features=frozenset("e"))).model is not None


def test_no_rows_at_all_is_a_clear_error(market: Market) -> None:
    folder = market()
    for name in ("vectors", "symbol_index", "open_time_ms", "close", "is_complete"):
        np.save(folder / f"{name}.npy", np.load(folder / f"{name}.npy")[:0])
    with pytest.raises(BadTrainingDataError, match="no rows at all of ALL"):
        _fit(_request(folder))


def test_a_state_is_replaced_as_a_whole(tmp_path: Path) -> None:
    checkpoints = FileCheckpoints(tmp_path / "a.state")
    assert checkpoints.load() is None
    checkpoints.save(b"one")
    checkpoints.save(b"two")
    assert checkpoints.load() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.state"]
    checkpoints.clear()
    checkpoints.clear()
    assert checkpoints.load() is None


@pytest.mark.slow
def test_a_model_that_has_seen_validation_rows_is_not_gone_on_from(market: Market) -> None:
    folder = market()
    first = _fit(_request(folder, train_at_ms=900 * MINUTE_MS))
    assert first.model is not None
    anew = _fit(_request(folder))
    honest, cheating = (
        _fit(_request(folder, start_from=first.model.native, start_seen_to_ms=seen * MINUTE_MS))
        for seen in (900, 1300)
    )
    assert anew.model is not None
    assert honest.model is not None
    assert cheating.model is not None
    assert honest.model.sha256 != anew.model.sha256
    assert cheating.model.sha256 == anew.model.sha256


def test_an_earlier_model_is_not_taken_without_what_it_has_seen(market: Market) -> None:
    with pytest.raises(ValueError, match="start_seen_to_ms"):
        _request(market(), start_from=b"{}")


def test_few_new_minutes_are_not_gone_on_with() -> None:
    def enough(minutes: int) -> bool:
        return are_enough(minutes, horizons=(5, 60), validation_fraction=0.2, embargo_minutes=5)

    told = [enough(minutes) for minutes in range(0, 3_000, 10)]
    assert not any(told[:40])
    assert all(told[100:])
    assert told == sorted(told), "more minutes are never too few"

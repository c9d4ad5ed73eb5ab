"""Tuning looks for better settings on nothing but the rows to learn from, and repeats itself bit for bit."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.models import families
from domain.models.model import BadSettingsError, TrainingCancelledError
from domain.models.search_space import Range
from domain.models.serving import ServedModel
from schemas.frames import MINUTE_MS
from training.checkpoints import FileCheckpoints, TuningCheckpoints
from training.fitting import FitRequest, FitResult, fit
from training.parts import parts_of
from training.rows import save_rows
from training.tuning import Tuning

pytest.importorskip("optuna", reason="optuna is not installed: nothing is tuned")

#: Every test trains several models.
pytestmark = pytest.mark.slow

Market = Callable[..., Path]
ROOT = Path(__file__).parents[3]
NAMES = tuple("abcdef")
SETTINGS = {"rounds": 20, "chunk_rounds": 10, "learning_rate": 0.1, "early_stopping_patience": 10}
TRIALS = 4
_COLUMNS = ("vectors", "symbol_index", "open_time_ms", "close", "is_complete")


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
        tuning_trials=TRIALS,
    )
    return replace(request, **changes)


def _fit(
    request: FitRequest, cancelled: Callable[[], bool] = lambda: False, told: list[str] | None = None
) -> FitResult:
    said = [] if told is None else told
    return fit(request, progress=lambda _, text: said.append(text), cancelled=cancelled)


def _tuning(result: FitResult) -> Tuning:
    assert result.tuning is not None
    return result.tuning


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a market in which the first feature tells where the price goes."""
    return _save(tmp_path_factory.mktemp("market") / "rows", lambda vectors: np.sign(vectors[:, :, 0]))


@pytest.fixture(scope="module")
def whole(folder: Path) -> FitResult:
    """Tune and train once, without a stop."""
    return _fit(_request(folder))


def _save(folder: Path, hint: Callable[[Any], Any], *, minutes: int = 1500) -> Path:
    """Save rows of two symbols, whose vectors hint at the next five minutes."""
    chance = np.random.default_rng(5)
    vectors = chance.normal(size=(minutes, 2, len(NAMES))).astype(np.float32)
    hints = hint(vectors)
    steps = 0.05 * chance.normal(size=(minutes, 2))
    for ahead in range(1, 6):
        steps[ahead:] += 0.06 * hints[:-ahead]
    save_rows(
        folder,
        vectors=vectors.reshape(-1, len(NAMES)),
        symbol_index=np.tile(np.arange(2, dtype=np.int32), minutes),
        open_time_ms=np.repeat(np.arange(minutes), 2) * MINUTE_MS,
        close=(100.0 * np.exp(np.cumsum(steps, axis=0) / 100)).reshape(-1),
        is_complete=np.ones(2 * minutes, np.bool_),
    )
    return folder


def test_bad_settings_are_replaced_by_ones_that_do_better_on_later_rows(tmp_path: Path) -> None:
    # trees of one level cannot see two features together, and so small a step learns nothing
    bad = {**SETTINGS, "max_depth": 1, "learning_rate": 0.001}
    two = _save(tmp_path / "two", lambda vectors: np.sign(vectors[:, :, 0] * vectors[:, :, 1]))
    request = _request(two, settings=bad, tuning_trials=10)
    given, tuned = _fit(replace(request, tuning_trials=0)), _fit(request)
    found = _tuning(tuned)
    assert tuned.model is not None
    assert found.chosen > 0
    assert found.trials[0].settings["max_depth"] == 1
    assert tuned.model.settings["max_depth"] >= 2
    assert tuned.model.settings["learning_rate"] > 0.005
    # what nobody looks for stays as given
    assert tuned.model.settings["rounds"] == SETTINGS["rounds"]
    before = given.model.by_horizon[5].scores.skill if given.model is not None else 0.0
    assert tuned.model.by_horizon[5].scores.skill > before + 0.1


def test_what_was_chosen_and_how_each_trial_did_is_kept(whole: FitResult) -> None:
    result, found = whole, _tuning(whole)
    assert result.model is not None
    served = ServedModel.from_bytes(
        result.model.graph, sha256=result.model.sha256, feature_names=NAMES, schema_hash="hash"
    )
    assert dict(served.card.settings) == dict(result.model.settings) == dict(found.applied(SETTINGS))
    assert len(found.trials) == TRIALS == result.model.metrics["tuning_trials"]
    best = max(trial.skill for trial in found.trials)
    assert result.model.metrics["tuning_skill"] == found.trials[found.chosen].skill == best
    assert result.model.metrics["tuning_skill_as_given"] == found.trials[0].skill
    assert found.trials[0].settings["learning_rate"] == SETTINGS["learning_rate"]
    assert len({tuple(sorted(trial.settings.items())) for trial in found.trials}) == TRIALS


def test_equal_scores_leave_the_settings_as_given(folder: Path) -> None:
    # no leaf may be as small as the rows allow, so no tree ever splits
    request = _request(folder, settings={**SETTINGS, "min_leaf_rows": 100_000})
    result = _fit(request)
    assert [trial.skill for trial in _tuning(result).trials] == [0.0] * TRIALS
    assert _tuning(result).chosen == 0
    assert _tuning(result).applied(request.settings) is request.settings
    assert result.model is None


def test_the_same_rows_settings_and_seed_give_the_same_trials_and_bytes(
    folder: Path, whole: FitResult
) -> None:
    again = _fit(_request(folder))
    assert whole.model is not None
    assert again.model is not None
    assert again.tuning == whole.tuning
    assert again.model.graph == whole.model.graph
    other_seed = _fit(_request(folder, seed=4, tuning_trials=2))
    assert _tuning(other_seed).trials[1].settings != _tuning(whole).trials[1].settings


@pytest.mark.parametrize("at_once", [40, pytest.param(3, marks=pytest.mark.slow), 11])
def test_a_tuning_that_is_stopped_again_and_again_ends_in_the_same_bytes(
    folder: Path, whole: FitResult, tmp_path: Path, at_once: int
) -> None:
    path = tmp_path / "unfinished.state"
    request = _request(folder, checkpoint_path=str(path))
    stops, result, told = 0, None, []
    while result is None:
        left = iter(range(at_once))
        told = []
        try:
            result = _fit(request, cancelled=lambda left=left: next(left, None) is None, told=told)
        except TrainingCancelledError:
            stops += 1
            assert path.exists()
            assert stops < 100
    assert stops >= 1
    assert whole.model is not None
    assert result.model is not None
    assert result.tuning == whole.tuning
    assert result.model.graph == whole.model.graph
    assert not path.exists()
    # what was finished is not made again
    assert not any(text.startswith("trial 1 ") for text in told)


def test_a_tuning_that_is_killed_at_several_trials_ends_in_the_same_bytes(
    folder: Path, whole: FitResult, tmp_path: Path
) -> None:
    path = tmp_path / "unfinished.state"
    request = _request(folder, checkpoint_path=str(path))
    script = (
        "import pickle, sys\n"
        "from training.fitting import fit\n"
        "request = pickle.loads(sys.stdin.buffer.read())\n"
        "fit(request, progress=lambda done, text: print(text, flush=True), cancelled=lambda: False)\n"
    )
    for wanted in ("trial 2 of 4", "trial 4 of 4"):
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(request))
        process.stdin.close()
        seen = ""
        for line in process.stdout:
            seen = line.decode()
            if seen.startswith(wanted):
                break
        process.kill()
        process.wait(120)
        process.stdout.close()
        assert seen.startswith(wanted)
        assert path.exists()
    told: list[str] = []
    resumed = _fit(request, told=told)
    assert whole.model is not None
    assert resumed.model is not None
    assert resumed.tuning == whole.tuning
    assert resumed.model.graph == whole.model.graph
    assert not any(text.startswith(("trial 1 ", "trial 2 ")) for text in told)


def test_a_tuned_network_that_is_stopped_ends_in_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: no lstm")
    small = {"lookback_minutes": 4, "hidden_size": 8, "max_epochs": 2, "device": "cpu"}
    request = _request(folder, family="lstm", settings=small, tuning_trials=3)
    through = _fit(request)
    kept = replace(request, checkpoint_path=str(tmp_path / "unfinished.state"))
    for asked in (9, 13):
        left = iter(range(asked))
        with pytest.raises(TrainingCancelledError):
            _fit(kept, cancelled=lambda left=left: next(left, None) is None)
    resumed = _fit(kept)
    assert resumed.tuning == through.tuning
    assert len(_tuning(through).trials) == 3
    assert through.model is not None
    assert resumed.model is not None
    assert resumed.model.graph == through.model.graph


def test_a_state_of_other_settings_is_not_gone_on_from(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "unfinished.state"
    request = _request(folder, checkpoint_path=str(path), tuning_trials=2)
    left = iter(range(20))
    with pytest.raises(TrainingCancelledError):
        _fit(request, cancelled=lambda: next(left, None) is None)
    other = replace(request, settings={**SETTINGS, "max_bin": 32})
    begun_anew, alone = _fit(other), _fit(replace(other, checkpoint_path=""))
    assert begun_anew.tuning == alone.tuning


def test_no_row_at_or_after_the_early_stopping_part_changes_what_is_chosen(
    folder: Path, whole: FitResult, tmp_path: Path
) -> None:
    request, honest = _request(folder), whole
    begin_ms = int(parts_of(request).stop.open_time_ms.min())
    times = np.load(folder / "open_time_ms.npy")
    later = times >= begin_ms
    assert 0.2 < later.mean() < 0.6
    chance = np.random.default_rng(99)
    vectors, close = np.load(folder / "vectors.npy"), np.load(folder / "close.npy")
    vectors[later] = 50.0 * chance.normal(size=vectors[later].shape)
    close[later] = 100.0 * np.exp(0.5 * chance.normal(size=int(later.sum())))
    poisoned = tmp_path / "poisoned"
    save_rows(
        poisoned,
        vectors=vectors,
        symbol_index=np.load(folder / "symbol_index.npy"),
        open_time_ms=times,
        close=close,
        is_complete=np.load(folder / "is_complete.npy"),
    )
    other = _fit(replace(request, folder=str(poisoned)))
    assert len(_tuning(other).trials) == TRIALS
    assert other.tuning == honest.tuning
    assert dict(_tuning(other).applied(SETTINGS)) == dict(_tuning(honest).applied(SETTINGS))
    # the poison is there: the model, which stops by those rows, is another one
    assert honest.model is not None
    assert other.model is None or other.model.graph != honest.model.graph


def test_in_folds_too_short_to_know_its_cycle_the_calendar_is_hidden(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (*NAMES[:-1], "day_sine")
    # the training itself has enough minutes, none of its folds has
    monkeypatch.setattr("training.parts._CYCLE_MINUTES", {"day_": 700})
    other = tmp_path / "other"
    columns = {name: np.load(folder / f"{name}.npy") for name in _COLUMNS}
    vectors = columns.pop("vectors").copy()
    vectors[:, -1] = columns["close"] ** 2
    save_rows(other, vectors=vectors, **columns)
    one, two = (_fit(_request(each, feature_names=names, tuning_trials=2)) for each in (folder, other))
    assert one.tuning == two.tuning
    assert one.model is not None
    assert two.model is not None
    assert "day_sine" in two.model.importance
    monkeypatch.setattr("training.parts._CYCLE_MINUTES", {"day_": 100})
    assert _fit(_request(other, feature_names=names, tuning_trials=2)).tuning != two.tuning


def test_progress_counts_the_trials_and_never_goes_back(folder: Path) -> None:
    told: list[tuple[float, str]] = []
    fit(
        _request(folder),
        progress=lambda done, text: told.append((done, text)),
        cancelled=lambda: False,
    )
    done = [share for share, _ in told]
    assert done == sorted(done)
    assert {text for _, text in told if text == "trial 1 of 4"}
    assert any(text.startswith("trial 4 of 4, best skill ") for _, text in told)


def test_too_few_rows_to_tune_by_are_learned_from_as_given(market: Market) -> None:
    request = _request(market(minutes=330), train_at_ms=329 * MINUTE_MS)
    plain, tuned = _fit(replace(request, tuning_trials=0)), _fit(request)
    assert plain.model is not None
    assert tuned.model is not None
    assert tuned.model.graph == plain.model.graph
    assert _tuning(tuned).trials == ()
    assert _tuning(tuned).note.startswith("too few rows to tune by")
    assert tuned.model.metrics["tuning_trials"] == 0.0


def test_a_family_without_a_search_space_is_trained_as_it_is(folder: Path) -> None:
    request = _request(folder, family="last_value", settings={})
    plain, asked = _fit(replace(request, tuning_trials=0)), _fit(request)
    assert asked.tuning is None
    assert plain.model is not None
    assert asked.model is not None
    assert asked.model.graph == plain.model.graph


def test_several_horizons_are_tuned_together(folder: Path) -> None:
    result = _fit(_request(folder, family="ridge", settings={}, horizons=(5, 15)))
    assert len(_tuning(result).trials) == TRIALS
    assert result.model is not None
    assert set(result.model.settings) <= {"clip_deviations", "tail_share"}


def test_a_training_that_goes_on_from_a_tuned_model_keeps_what_was_tuned(folder: Path) -> None:
    first = _fit(_request(folder, train_at_ms=900 * MINUTE_MS, tuning_trials=0))
    assert first.model is not None
    tuned = {**SETTINGS, "max_depth": 7, "rounds": 999}
    further = _fit(
        _request(
            folder,
            start_from=first.model.native,
            start_seen_to_ms=900 * MINUTE_MS,
            start_settings=tuned,
        )
    )
    assert further.tuning is None
    assert further.model is not None
    assert further.model.settings["max_depth"] == 7
    assert further.model.settings["rounds"] == SETTINGS["rounds"]


def test_without_optuna_a_tuning_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BadSettingsError, match=r"pip install 'tidecast\[tune\]'"):
        _fit(_request(folder))


def test_what_trains_without_tuning_loads_no_optuna() -> None:
    code = "import sys, training.fitting, training.handler, training.evaluation.evaluation;"
    code += "sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300).returncode == 0


def test_trials_and_the_fit_share_one_file_and_do_not_disturb_each_other(tmp_path: Path) -> None:
    file = FileCheckpoints(tmp_path / "a.state")
    kept = TuningCheckpoints(file)
    assert (kept.trials, kept.load()) == (b"", None)
    kept.save(b"fit\nof two lines")
    assert TuningCheckpoints(file).load() == b"fit\nof two lines"
    kept.save_trials(b"{}")
    assert (TuningCheckpoints(file).trials, TuningCheckpoints(file).load()) == (b"{}", None)
    kept.save(b"next")
    assert (TuningCheckpoints(file).trials, TuningCheckpoints(file).load()) == (b"{}", b"next")


@pytest.mark.parametrize("name", families.NAMES)
def test_both_ends_of_a_search_space_are_allowed_settings(name: str) -> None:
    if not families.is_installed(name):
        pytest.skip(f"{name} is not installed")
    family = families.load(name)
    assert bool(family.search_space) == (name in families.TUNABLE)
    for each in family.search_space:
        assert each.holds(each.usual)
        for value in (each.low, each.high, each.usual):
            family.check_settings({each.name: value})


def test_a_range_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing can be looked for"):
        Range(name="a", low=1, high=1, usual=1)
    with pytest.raises(ValueError, match="nothing can be looked for"):
        Range(name="a", low=0, high=1, usual=1, log=True)

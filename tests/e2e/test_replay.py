"""The same candles in give the same rows out, whatever happens on the way."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from . import replays

SYMBOLS = ("BTCUSDT", "ETHUSDT", "HBARUSDT")
MINUTES = 600


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three symbols that end at different minutes, with a halt of all in the middle."""
    folder: Path = replays.record(
        tmp_path_factory.mktemp("market") / "recorded", SYMBOLS, MINUTES, halt=(300, 330)
    )
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = replays.settings_file(tmp_path_factory.mktemp("settings") / "settings.toml")
    return path


@pytest.fixture(scope="module")
def undisturbed(recording: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary and the digests of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "dir"
    summary = replays.tidecast("replay", recording, "--dir", folder, "--config", settings)
    return {"summary": summary, "digests": replays.tidecast("fingerprint", "--dir", folder), "dir": folder}


@pytest.mark.slow
def test_a_replay_writes_every_table_and_says_what_it_did(undisturbed: dict[str, Any]) -> None:
    summary = undisturbed["summary"]
    candles = (MINUTES - 30) * 3 - 7 - 14
    assert summary["market"] == "SIMULATED"
    assert summary["candles"] == candles
    assert summary["rows"]["ml_features"] == candles
    assert summary["rows"]["persistentForecasts"] > 10 * candles
    assert summary["models_trained"] >= 4
    jobs = "SELECT job_type, count(*) FROM ml_jobs GROUP BY job_type"
    counted = dict(replays.tidecast("sql", "--dir", undisturbed["dir"], jobs)["rows"])
    assert summary["models_trained"] + summary["trainings_failed"] == counted["TRAIN"]
    assert sum(counted.values()) == summary["rows"]["ml_jobs"]
    lost = 'SELECT max(expires_at) AS last FROM "persistentForecasts" WHERE missing_reason IS NOT NULL'
    last = replays.tidecast("sql", "--dir", undisturbed["dir"], lost)["rows"][0][0]
    # What would have come after the recording is unknown: only its own minutes can be absent.
    end_s = replays.START_MS / 1000 + MINUTES * 60
    assert datetime.fromisoformat(last).timestamp() == end_s
    assert {"5", "15"} <= set(summary["accuracy"])
    for scores in summary["accuracy"].values():
        assert scores["outcomes"] > scores["scored"], "before the first training there is no model"
        assert (scores["rmse"] is None) == (scores["scored"] == 0)
    wrong = replays.tidecast("sql", "--dir", undisturbed["dir"], "SELECT count(*) AS n FROM dead_letters")
    assert "0" in json.dumps(wrong)


@pytest.mark.slow
def test_a_replay_of_a_recording_too_short_to_train_says_so(settings: Path, tmp_path: Path) -> None:
    recording = replays.record(tmp_path / "recorded", SYMBOLS[:1], 120)
    summary = replays.tidecast("replay", recording, "--dir", tmp_path / "dir", "--config", settings)
    assert (summary["models_trained"], summary["trainings_failed"]) == (0, 0)
    assert "the recording is 120 minutes long" in summary["training_remark"]
    assert "waits for 240 minutes" in summary["training_remark"]


@pytest.mark.slow
def test_whatever_is_killed_during_a_replay_the_tables_hold_the_same_rows(
    recording: Path, settings: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    words = ("replay", recording, "--dir", tmp_path / "dir", "--config", settings)
    with replays.started(*words) as launcher:
        killer = replays.Killer(launcher, Random(5))
        killer.run(rounds=2, pause_s=3.0)
        out, _ = launcher.communicate(timeout=replays.PATIENCE_S)
        assert launcher.returncode == 0, out
    assert sum(killer.kills.values()) >= 6, killer.kills
    assert replays.tidecast("fingerprint", "--dir", tmp_path / "dir") == undisturbed["digests"]
    # What drift detectors say is of the symbols of a partition, so no fingerprint tells it.
    looks = (
        "SELECT at, symbol, kind, subject, forecast_horizon, value, drifted, reaction, train_at"
        ' FROM "driftChecks" ORDER BY at, symbol, kind, subject, forecast_horizon'
    )
    disturbed, before = (
        replays.tidecast("sql", "--dir", folder, looks)["rows"]
        for folder in (tmp_path / "dir", undisturbed["dir"])
    )
    assert any(row[2] == "coverage" for row in before)
    assert disturbed == before


@pytest.mark.slow
def test_a_replay_cut_off_in_the_middle_goes_on_to_the_same_rows(
    recording: Path, settings: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "dir"
    words = ("replay", recording, "--dir", folder, "--config", settings)
    with replays.started(*words) as launcher:

        def is_on_its_way() -> bool:
            return replays.reached_minute(folder, "forecaster") > MINUTES // 3 or launcher.poll() is not None

        assert replays.eventually(is_on_its_way)
        assert launcher.poll() is None, "the replay was over before it could be cut"
        launcher.terminate()
        assert launcher.wait(60) == 130
    replays.tidecast(*words)
    assert replays.tidecast("fingerprint", "--dir", folder) == undisturbed["digests"]


@pytest.mark.slow
def test_a_replay_whose_exchange_has_ended_for_good_says_so_and_ends(
    recording: Path, settings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dir"
    words = ("replay", recording, "--dir", folder, "--config", settings, "--speed", "60")
    with replays.started(*words) as launcher:
        replays.eventually(lambda: replays.all_workers_answer(folder) or launcher.poll() is not None)
        assert launcher.poll() is None
        # From now on it finds settings with which it cannot work.
        (folder / "settings.toml").write_text("nothing = [")
        exchange = replays.find(launcher, "exchange")
        assert exchange is not None
        exchange.kill()
        out, _ = launcher.communicate(timeout=replays.PATIENCE_S)
    assert launcher.returncode == 1
    error = json.loads(out)["error"]
    assert "exchange ended with code 78" in error
    assert "exchange.log" in error


@pytest.mark.slow
def test_a_replay_ends_where_a_worker_dies_again_and_again_and_names_its_log(
    recording: Path, settings: Path, tmp_path: Path
) -> None:
    with replays.started("replay", recording, "--dir", tmp_path / "dir", "--config", settings) as launcher:

        def is_over() -> bool:
            if (worker := replays.find(launcher, "forecaster")) is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            return launcher.poll() is not None

        assert replays.eventually(is_over)
        out, _ = launcher.communicate()
    assert launcher.returncode == 1
    error = json.loads(out)["error"]
    assert "forecaster-0 ended" in error
    assert "forecaster-0.log" in error

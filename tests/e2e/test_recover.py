"""Checkpoints are shown, and a new folder can be replayed from one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import replays

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MINUTES = 400


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished replay, with one candle revised afterwards."""
    base = tmp_path_factory.mktemp("source")
    recording = replays.record(base / "recorded", SYMBOLS, MINUTES, halt=(300, 310))
    settings = replays.settings_file(base / "settings.toml")
    folder = base / "dir"
    replays.tidecast("replay", recording, "--dir", folder, "--config", settings)
    revise = """
        UPDATE "rollingChartData" SET volume = 1234.5, origin = 'revised'
        WHERE symbol = 'ETHUSDT' AND timestamp = (SELECT max(timestamp) - interval '100 minutes'
                                                  FROM "rollingChartData")
    """
    replays.tidecast("sql", "--dir", folder, revise, "--write")
    return folder


def ask(folder: Path, query: str) -> list[Any]:
    rows: list[Any] = replays.tidecast("sql", "--dir", folder, query)["rows"]
    return rows


def refused(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "recover", *map(str, words), "--json"],
        cwd=replays.ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    error: str = json.loads(done.stdout)["error"]
    return error


@pytest.mark.slow
def test_checkpoints_are_listed_with_what_they_hold(source: Path) -> None:
    found = replays.tidecast("recover", "--list", "--dir", source)["checkpoints"]
    services = {each["service_name"] for each in found}
    assert services == {"feature_calculator", "ml_trainer", "ml_inference", "forecaster", "chart_monitor"}
    kinds = {each["checkpoint_type"] for each in found}
    assert kinds == {"intermediate", "success"}
    snapshots = [each for each in found if each["checkpoint_type"] == "success"]
    assert all(each["state_bytes"] > 0 and each["state_version"] >= 1 for each in snapshots)
    assert all(each["parked"] == 0 for each in found)
    times = [each["event_time"] for each in snapshots if each["service_name"] == "forecaster"]
    assert len(times) > 3
    assert times == sorted(times)


@pytest.mark.slow
def test_a_new_folder_is_replayed_from_a_checkpoint_and_the_old_one_stays_as_it_is(
    source: Path, tmp_path: Path
) -> None:
    before = replays.tidecast("fingerprint", "--dir", source)
    found = replays.tidecast("recover", "--list", "--dir", source)["checkpoints"]
    snapshots = [
        each
        for each in found
        if each["checkpoint_type"] == "success" and each["service_name"] == "ml_inference"
    ]
    chosen = snapshots[len(snapshots) // 2]
    fresh = tmp_path / "fresh"
    answer = replays.tidecast(
        "recover", "--from", chosen["operation_id"], "--source", source, "--dir", fresh,
        "--warm-up-days", "0.05",
    )  # fmt: skip
    assert replays.tidecast("fingerprint", "--dir", source) == before
    told = answer["recovered"]
    assert told["checkpoint"]["operation_id"] == chosen["operation_id"]
    since = f"timestamp >= to_timestamp({told['event_time_ms'] / 1000} - 0.05 * 86400)"
    columns = "symbol, timestamp, open, high, low, close, volume"
    query = f'SELECT {columns} FROM "rollingChartData" WHERE {since} ORDER BY 1, 2'
    rows = ask(fresh, query)
    assert rows == ask(source, query)
    assert any(row[-1] == 1234.5 for row in rows), "the revised candle is played as revised"
    assert answer["candles"] == len(rows) == sum(told["candles"].values())
    assert answer["rows"]["persistentForecasts"] > 0
    # The recording that was made can be played again, into the same rows.
    again = ("replay", told["recording"], "--dir", tmp_path / "again", "--config", fresh / "recover.toml")
    replays.tidecast(*again)
    digests = [replays.tidecast("fingerprint", "--dir", each) for each in (fresh, tmp_path / "again")]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_what_cannot_be_recovered_is_refused_with_what_can(source: Path, tmp_path: Path) -> None:
    missing = refused("--from", "forecaster/0/20231114T2215", "--source", source, "--dir", tmp_path / "new")
    assert "is no checkpoint" in missing
    assert "forecaster/0/2023" in missing.split("nearest is")[1]
    assert not (tmp_path / "new").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    assert "not empty" in refused(
        "--from", "forecaster/0/position", "--source", source, "--dir", tmp_path / "full"
    )
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"
    # Who has mistyped the checkpoint hears of that, whatever the new folder is like.
    assert "is no checkpoint" in refused("--from", "nope", "--source", source, "--dir", tmp_path / "full")
    assert "holds no pipeline" in refused("--list", "--dir", tmp_path / "nothing")

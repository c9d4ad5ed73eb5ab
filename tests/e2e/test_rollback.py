"""Promotions and a rollback in a replay: the record says of every forecast which model made it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runtime.directory import Directory

from . import replays

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
MINUTES = 1000
#: So generous that models follow each other: what is tested is the record, not the test.
MORE = """
[training]
window_size = 240
retrain_every_minutes = 180
rounds = 20
model_types = ["xgboost"]
forecast_horizons = [5]
promotion_error_rate = 0.49
promotion_margin = 0.5
[trading]
horizon_minutes = 5
[pipeline]
max_batch_minutes = 30
max_lag_minutes = 90
snapshot_minutes = 45
"""
#: Forecasts of a minute that no term of the timeline names, or another one than the row does.
DISAGREE = """
    SELECT count(*) FROM "persistentForecasts" AS f
    LEFT JOIN "modelTimeline" AS t ON t.symbol = 'ALL' AND t.forecast_horizon = f.forecast_horizon
      AND t.effective_from <= f.created_at AND f.created_at < t.effective_until
    WHERE f.forecast_type = 'price_direction' AND f.forecast_horizon = 5
      AND f.model_version <> COALESCE(t.model_version, 'last_value')
"""


def asked(folder: Path, query: str) -> list[list[Any]]:
    rows: list[list[Any]] = replays.tidecast("sql", "--dir", folder, query)["rows"]
    return rows


@pytest.mark.slow
def test_every_forecast_was_made_by_the_model_that_the_timeline_names(tmp_path: Path) -> None:
    recording = replays.record(tmp_path / "recorded", SYMBOLS, MINUTES)
    settings = tmp_path / "settings.toml"
    settings.write_text(MORE)
    folder = tmp_path / "dir"
    words = ("replay", recording, "--dir", folder, "--config", settings)
    replays.tidecast(*words)
    assert asked(folder, DISAGREE) == [[0]]
    versions = asked(folder, 'SELECT count(DISTINCT model_version) FROM "modelTimeline"')
    assert versions[0][0] >= 2, "no model followed another"

    # what challengers said in their shadow is what they said once they served, where both is on record
    shadowed = asked(folder, 'SELECT count(*), count(DISTINCT model_version) FROM "challengerForecasts"')
    assert shadowed[0][0] > 100
    listed = replays.tidecast("models", "--dir", folder)
    (serving,) = listed["serving"]
    done = replays.tidecast("rollback", "--dir", folder, "--reason", "a test")
    (rolled_back,) = done["rolled_back"]
    assert rolled_back["from"] == serving["model_version"]
    listed = replays.tidecast("models", "--dir", folder)
    assert listed["serving"][0]["model_version"] == rolled_back["to"]
    assert listed["serving"][0]["why"] == "a test"
    assert asked(folder, DISAGREE) == [[0]]


@pytest.mark.slow
def test_a_rollback_in_the_middle_of_a_replay_is_used_by_the_rest_of_it(tmp_path: Path) -> None:
    recording = replays.record(tmp_path / "recorded", SYMBOLS, MINUTES)
    settings = tmp_path / "settings.toml"
    settings.write_text(MORE)
    folder = tmp_path / "dir"
    words = ("replay", recording, "--dir", folder, "--config", settings)
    # slow enough to be met in the middle
    with replays.started(*words, "--speed", "1800") as launcher:
        assert replays.eventually(lambda: _serves(folder) or launcher.poll() is not None)
        # however long the next lines take, the replay cannot come to its end meanwhile
        forecaster = replays.find(launcher, "forecaster")
        assert forecaster is not None
        forecaster.suspend()
        refused = subprocess.run(
            [sys.executable, "-m", "cli.main", "rollback", "--dir", str(folder), "--json"],
            cwd=replays.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "a replay runs" in json.loads(refused.stdout)["error"]
        assert launcher.poll() is None
        launcher.terminate()
        forecaster.resume()
        assert launcher.wait(60) == 130
    (done,) = replays.tidecast("rollback", "--dir", folder, "--to", "last_value")["rolled_back"]
    replays.tidecast(*words)
    assert asked(folder, DISAGREE) == [[0]]
    terms = asked(folder, 'SELECT model_version, decided_by FROM "modelTimeline" ORDER BY effective_from')
    versions = [version for version, _ in terms]
    rolled_back = versions.index("last_value")
    assert versions[rolled_back - 1] == done["from"]
    assert done["from"] not in versions[rolled_back:], "it was promoted again"
    during = asked(
        folder,
        'SELECT DISTINCT f.model_version FROM "persistentForecasts" AS f JOIN "modelTimeline" AS t'
        " ON t.effective_from <= f.created_at AND f.created_at < t.effective_until"
        " WHERE t.model_version = 'last_value' AND f.forecast_type = 'price_direction'",
    )
    assert during == [["last_value"]]


def _serves(folder: Path) -> bool:
    """Tell whether a model has made a forecast."""
    if not Directory.exists(folder):
        return False
    made = "SELECT FROM \"persistentForecasts\" WHERE model_version LIKE 'xgboost%' LIMIT 1"
    try:
        with psycopg.connect(Directory.open(folder).postgres_url) as connection:
            return connection.execute(made).fetchone() is not None
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return False

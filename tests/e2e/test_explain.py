"""A forecast is taken apart by the very model that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from . import replays

SYMBOLS = ("BTCUSDT", "ETHUSDT")
DRIFTS = """
[training]
window_size = 240
rounds = 20
model_types = ["xgboost"]
forecast_horizons = [5]
promotion_error_rate = 0.49
[trading]
horizon_minutes = 5
[drift]
reactions = ["warn", "baseline"]
threshold = 0.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay with models in production."""
    base = tmp_path_factory.mktemp("explain")
    recording = replays.record(base / "recorded", SYMBOLS, 480, halt=(400, 410))
    settings = replays.settings_file(base / "settings.toml")
    replays.tidecast("replay", recording, "--dir", base / "dir", "--config", settings)
    return base / "dir"


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay whose model is promoted at a nod and called drifted at a nod."""
    base = tmp_path_factory.mktemp("drifted")
    recording = replays.record(base / "recorded", SYMBOLS, 1290)
    settings = base / "settings.toml"
    settings.write_text(DRIFTS)
    replays.tidecast("replay", recording, "--dir", base / "dir", "--config", settings)
    return base / "dir"


def rows(folder: Path, condition: str) -> list[list[Any]]:
    query = (
        'SELECT id, predicted_value, confidence, model_version FROM "persistentForecasts"'
        f" WHERE {condition} ORDER BY id LIMIT 3"
    )
    found: list[list[Any]] = replays.tidecast("sql", "--dir", folder, query)["rows"]
    return found


@pytest.mark.slow
def test_a_models_forecast_is_said_again_and_its_contributions_add_up(folder: Path) -> None:
    found = rows(folder, "model_version LIKE 'xgboost%'")
    assert found
    for number, predicted, confidence, version in found:
        told = replays.tidecast("explain", str(number), "--dir", folder, "--top", "72")
        said = told["said"]
        assert told["model"]["version"] == version
        assert said["predicted_pct"] == pytest.approx(float(predicted), abs=1e-8)
        sure = said["probability_up"] if said["predicted_pct"] > 0 else 1 - said["probability_up"]
        assert 100 * sure == pytest.approx(float(confidence), abs=0.006)
        shares = told["contributions"]
        total = shares["base_pct"] + sum(each["pct"] for each in shares["features"])
        assert shares["method"] == "shapley"
        assert total == pytest.approx(said["predicted_pct"], abs=1e-5)
        assert told["decision"]["signal"] in {"LONG", "SHORT", "WAIT"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ("reason = 'no model'", "no model of this horizon"),
        ("reason = 'warming'", "not warm"),
        ("forecast_type = 'volatility'", "only price forecasts"),
    ],
)
def test_a_wait_says_why(folder: Path, condition: str, word: str) -> None:
    (number, *_), *_ = rows(folder, condition)
    told = replays.tidecast("explain", str(number), "--dir", folder)
    assert told["decision"]["signal"] == "WAIT"
    assert word in told["decision"]["why"]
    assert "rule" in told


@pytest.mark.slow
def test_a_drifted_row_names_the_silenced_model_the_check_and_what_the_model_said(drifted: Path) -> None:
    found = rows(drifted, "reason = 'drifted'")
    assert found
    checks = replays.tidecast(
        "sql", "--dir", drifted,
        'SELECT subject, at, value, threshold FROM "driftChecks"'
        " WHERE drifted AND kind = 'error' ORDER BY at LIMIT 1",
    )["rows"]  # fmt: skip
    ((version, at, value, threshold),) = checks
    told = replays.tidecast("explain", str(found[0][0]), "--dir", drifted, "--top", "72")
    silenced, why = told["silenced"], told["decision"]["why"]
    assert silenced["model_version"] == told["model"]["version"] == version
    check = silenced["check"]
    assert (check["at"], check["value"], check["threshold"]) == (at, value, threshold)
    assert silenced["settings"] == {
        "drift.detector": "page_hinkley", "drift.threshold": 0.5, "drift.reactions": ["warn", "baseline"]
    }  # fmt: skip
    for word in (version, "drift.threshold", "drift.reactions", f"{value:.4g}"):
        assert word in why
    shares = told["contributions"]
    total = shares["base_pct"] + sum(each["pct"] for each in shares["features"])
    assert total == pytest.approx(told["said"]["predicted_pct"], abs=1e-5)
    assert "no-change baseline" in told["rule"]


@pytest.mark.slow
def test_a_row_without_a_model_says_which_families_were_asked_and_why_none_serves(drifted: Path) -> None:
    (early, *_), *_ = rows(drifted, "reason = 'no model' AND forecast_horizon = 5")
    told = replays.tidecast("explain", str(early), "--dir", drifted)
    (family,) = told["families"]
    assert family["family"] == "xgboost"
    assert "the first training waits for 240 minutes" in family["why"]
    assert family["why"] in told["decision"]["why"]
    (other, *_), *_ = rows(drifted, "reason = 'no model' AND forecast_horizon = 240")
    told = replays.tidecast("explain", str(other), "--dir", drifted)
    assert told["families"] == []
    assert "240 is not in training.forecast_horizons" in told["decision"]["why"]

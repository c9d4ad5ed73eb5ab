"""A forecast is taken apart by the very model that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from . import replays

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay with models in production."""
    base = tmp_path_factory.mktemp("explain")
    recording = replays.record(base / "recorded", SYMBOLS, 480, halt=(400, 410))
    settings = replays.settings_file(base / "settings.toml")
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

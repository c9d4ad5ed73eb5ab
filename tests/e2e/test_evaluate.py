"""Live equals backtest: a replay through the five processes says what `evaluate` says, to the last digit."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.evaluate import history_of, walk_of, with_families
from cli.evaluation_stages import WiredStages
from cli.folder import settings_for_start
from cli.recording import candles_of, recorded_at
from domain.forecasting.stated import hundredths
from runtime.compute import ComputePool
from schemas.frames import MINUTE_MS, NULL_MS
from training.evaluation import serving
from training.evaluation.history import History
from training.evaluation.schedule import due_points
from training.evaluation.serving import Said
from training.evaluation.trained import Training
from training.evaluation.trainings import Trainings

from . import replays

SYMBOLS = ("BTCUSDT", "ETHUSDT", "HBARUSDT")
FORECASTS = """
    SELECT symbol, forecast_horizon, created_at, predicted_value, confidence, model_version,
           lower_80, upper_80, lower_95, upper_95, regime
    FROM "persistentForecasts" WHERE forecast_type = 'price_direction' AND forecast_horizon = ANY(%s)
"""
MODELS = """
    SELECT model_version, artifact_sha256, promoted, promotion_reason FROM "mlTrainingBatches"
    WHERE model_version IS NOT NULL
"""
TRADES = """
    SELECT symbol, created_at, signal_type, entry_price, tp_price, sl_price, current_price, confidence,
           real_time_pnl, exit_price, exit_reason, completed_at, model_version
    FROM "tradeSimulations"
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three symbols that end at different minutes, with a halt of all in the middle."""
    folder: Path = replays.record(
        tmp_path_factory.mktemp("market") / "recorded", SYMBOLS, 1_100, halt=(300, 330)
    )
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = replays.settings_file(
        tmp_path_factory.mktemp("settings") / "settings.toml",
        "[inference]\nconfidence_threshold = 50\n[trading]\nhorizon_minutes = 5\n",
    )
    return path


@pytest.fixture(scope="module")
def replayed(recording: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("replayed") / "dir"
    replays.tidecast("replay", recording, "--dir", folder, "--config", config)
    return folder


@pytest.fixture(scope="module")
def evaluated(
    recording: Path, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[History, list[Training], Said]:
    """What an evaluation of the same recording and settings computes, before anything is scored."""
    settings = with_families(settings_for_start(config, recorded_at(recording, SYMBOLS)), ("xgboost",))
    history = history_of(settings, candles_of(settings), lambda done: None)
    walk = walk_of(settings, (settings.training.seed,), None)
    scratch = tmp_path_factory.mktemp("scratch")

    async def train() -> list[Training]:
        async with ComputePool(max_workers=2) as compute:
            walked = Trainings(
                plan=walk.plan, learns=walk.learns, seeds=walk.seeds, compute=compute, scratch=scratch
            )
            return await walked.run(history, due_points(history, walk.policy), tell=lambda done, text: None)

    trainings = asyncio.run(train())
    assert list(scratch.iterdir()) == []
    models = [model for each in trainings for model in each.models]
    said = serving.replay(
        history,
        serving.opened(serving.promoted(models), walk.plan),
        WiredStages(settings, walk.strategies),
        walk.horizons,
        tell=lambda done: None,
    )
    return history, trainings, said


def ask(folder: Path, query: str) -> list[list[Any]]:
    """Read a replay's table."""
    rows: list[list[Any]] = replays.tidecast("sql", "--dir", folder, query)["rows"]
    return rows


def at_ms(text: str) -> int:
    """Read a time as the database tells it."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def as_column(value: Any) -> float:
    """Round to the eight decimals of a column, as the bulk writer does."""
    size = abs(float(value))
    whole = np.floor(size)
    return round(float(np.copysign(whole + np.rint((size - whole) * 1e8) / 1e8, value)), 8)


@pytest.mark.slow
def test_the_models_of_an_evaluation_are_those_of_a_replay_byte_for_byte(
    replayed: Path, evaluated: tuple[History, list[Training], Said]
) -> None:
    ours = {
        (model.version, model.sha256, model.decision.promote, model.decision.reason)
        for training in evaluated[1]
        for model in training.models
    }
    theirs = {tuple(row) for row in ask(replayed, MODELS)}
    assert ours == theirs
    assert any(promoted for _, _, promoted, _ in ours)


@pytest.mark.slow
def test_every_forecast_of_a_replay_is_that_of_an_evaluation(
    replayed: Path, evaluated: tuple[History, list[Training], Said]
) -> None:
    history, _, said = evaluated
    rows = ask(replayed, FORECASTS.replace("%s", "ARRAY[5, 15, 30, 60]"))
    frame = history.frame
    place = {
        (frame.symbols[symbol], int(opened)): row
        for row, (symbol, opened) in enumerate(zip(frame.symbol_index, frame.open_time_ms, strict=True))
    }
    modelled = 0
    for symbol, horizon, created_at, predicted, confidence, version, *bounds, regime in rows:
        row = place[symbol, at_ms(created_at) - MINUTE_MS]
        column = said.horizons.index(horizon)
        assert as_column(said.predicted_pct[row, column]) == predicted
        assert hundredths(said.confidence[row, column]) / 100 == pytest.approx(confidence, abs=1e-9)
        assert said.models[said.model_index[row, column]] == version
        ours = [as_column(said.bounds[name][row, column]) for name in serving.BOUNDS]
        assert ours == bounds, (symbol, horizon, created_at)
        assert said.regimes[said.regime[row]] == regime
        modelled += version != "last_value"
    assert len(rows) == 4 * int(said.is_stated.sum())
    assert modelled > 300


@pytest.mark.slow
def test_every_trade_of_a_replay_is_that_of_an_evaluation(
    replayed: Path, evaluated: tuple[History, list[Training], Said]
) -> None:
    theirs = {(row[0], at_ms(row[1])): row[2:] for row in ask(replayed, TRADES)}
    ours = {
        (trade["symbol"], trade["created_at"]): trade
        for trade in evaluated[2].trades
        if trade["strategy"] == "main"
    }
    assert len(ours) > 10
    assert set(ours) == set(theirs)
    for key, row in theirs.items():
        trade = ours[key]
        prices = ("entry_price", "tp_price", "sl_price", "current_price")
        assert [trade["signal_type"], *(round(trade[name], 8) for name in prices)] == row[:5]
        assert trade["confidence"] == row[5]
        assert round(trade["real_time_pnl"], 4) == pytest.approx(row[6], abs=1e-9)
        is_over = trade["completed_at"] != NULL_MS
        assert (round(trade["exit_price"], 8) if is_over else None) == row[7]
        assert trade["exit_reason"] == row[8]
        assert (trade["completed_at"] if is_over else None) == (at_ms(row[9]) if row[9] else None)
        assert trade["model_version"] == row[10]

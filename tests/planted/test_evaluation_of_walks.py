"""What `tidecast evaluate` says of markets in which nothing can be foreseen."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .markets import Candles
from .walks import clustered_walk

ROOT = Path(__file__).parents[2]
#: A threshold below every confidence, so that there are trades at all.
SETTINGS = """
[training]
window_size = 1440
retrain_every_minutes = 1440
model_types = ["ensemble"]
[inference]
confidence_threshold = 0
ensemble_weights = {xgboost = 1, ridge = 1}
"""


def record(folder: Path, candles: Candles) -> Path:
    folder.mkdir()
    for place, symbol in enumerate(candles.symbols):
        columns = {"timestamp": pa.array(candles.open_time_ms, pa.timestamp("ms", "UTC"))}
        for column, name in enumerate(("open", "high", "low", "close", "volume")):
            columns[name] = pa.array(candles.ohlcv[:, place, column])
        pq.write_table(pa.table(columns), folder / f"{symbol}-1m.parquet")
    return folder


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The whole answer over four days of three symbols.

    One in twenty intervals leaves out one half by chance; of 40 over seeds 1 to 10 one did.
    """
    base = tmp_path_factory.mktemp("walk")
    recording = record(base / "recorded", clustered_walk(symbols=3, days=4, seed=4))
    (base / "settings.toml").write_text(SETTINGS)
    words = ("evaluate", recording, "--config", base / "settings.toml", "--families", "ensemble", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, words)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("TIDECAST_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=1_200,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_no_horizon_is_called_skill_and_half_of_the_directions_are_right(answer: dict[str, Any]) -> None:
    assert answer["verdict"] == "no evidence of skill"
    horizons = answer["families"]["ensemble"]["horizons"]
    assert set(horizons) == {"5", "15", "30", "60"}
    for told in horizons.values():
        assert not told["evidence"]
        low, high = told["accuracy_ci"]
        assert low is None or low <= 0.5 <= high


@pytest.mark.slow
def test_trading_it_costs_what_trades_cost(answer: dict[str, Any]) -> None:
    costs_pct = 0.24
    traded = answer["families"]["ensemble"]["always"]["pnl_by_horizon"]
    assert set(traded) == {"5", "15", "30", "60"}
    for horizon, money in traded.items():
        assert money["trades"] > 50
        # a move of the walk over the horizon, over the root of the trades; half of the variance is common
        spread_pct = 100 * 0.0006 * math.sqrt(int(horizon)) * math.sqrt(2.0 / money["trades"])
        assert money["mean_net_pct"] == pytest.approx(-costs_pct, abs=4 * spread_pct)
        assert money["return_pct"] < 0
        # a coin that chooses the directions does as well
        assert money["coin_flip_p"] > 0.001

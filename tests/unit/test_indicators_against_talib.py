"""TA-Lib, written by others in another language, agrees wherever it defines the same thing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from domain.features.benchmarks import random_walk
from domain.indicators import load

talib = pytest.importorskip("talib", reason="the oracle TA-Lib is not installed")

RELATIVE = 1e-9


def recorded() -> Path:
    folder = os.environ.get("TIDECAST_RECORDED") or Path(__file__).parents[2].parent / "shared" / "data"
    return Path(folder) / "six-2021-04" / "BTCUSDT-1m.parquet"


@pytest.fixture(params=["made up", "recorded"])
def candles(request: pytest.FixtureRequest) -> np.ndarray:
    if request.param == "made up":
        rows = random_walk(np.random.default_rng(7), 5_000, 1)[:, 0]
        rows[:, 4] *= 100.0  # TA-Lib MFI calls money below 1 none
        return np.ascontiguousarray(rows)
    if not recorded().exists():
        pytest.skip(f"no recorded candles at {recorded()}")
    import pyarrow.parquet as pq

    table = pq.read_table(recorded()).slice(0, 5_000)
    return np.column_stack([table[c].to_numpy() for c in ("open", "high", "low", "close", "volume")])


def run(name: str, rows: np.ndarray, *parameters: float) -> np.ndarray:
    indicator = load(name)
    state = np.zeros(indicator.SPEC.state_size(*parameters))
    out = np.empty((len(rows), len(indicator.SPEC.outputs)))
    for candle, values in zip(rows, out, strict=True):
        indicator.update(state, candle, values, *parameters)
    return out


def agree(ours: np.ndarray, theirs: np.ndarray, floor: float = 0.0) -> None:
    # `floor`: what counts as the size of a value that crosses zero.
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=RELATIVE * floor)


@pytest.mark.parametrize("period", [2, 14, 50])
def test_rsi(candles: np.ndarray, period: int) -> None:
    agree(run("rsi", candles, period)[:, 0], talib.RSI(candles[:, 3], period), floor=100)


@pytest.mark.parametrize(("fast", "slow", "signal"), [(12, 26, 9), (3, 10, 4)])
def test_macd(candles: np.ndarray, fast: int, slow: int, signal: int) -> None:
    theirs = talib.MACD(candles[:, 3], fast, slow, signal)

    ours = run("macd", candles, fast, slow, signal)

    for column in range(3):
        agree(ours[:, column], theirs[column], floor=candles[0, 3])


@pytest.mark.parametrize(("period", "deviations"), [(20, 2.0), (5, 1.5)])
def test_bollinger_bands(candles: np.ndarray, period: int, deviations: float) -> None:
    theirs = talib.BBANDS(candles[:, 3], period, deviations, deviations)

    ours = run("bollinger", candles, period, deviations)

    for column in range(3):
        agree(ours[:, column], theirs[column])


@pytest.mark.parametrize(("k", "d"), [(14, 3), (5, 1)])
def test_stochastic(candles: np.ndarray, k: int, d: int) -> None:
    theirs = talib.STOCHF(candles[:, 1], candles[:, 2], candles[:, 3], k, d)

    ours = run("stochastic", candles, k, d)

    for column in range(2):
        agree(ours[:, column], theirs[column], floor=100)


def test_average_true_range(candles: np.ndarray) -> None:
    _, high, low, close, _ = candles.T
    agree(run("atr", candles, 14)[:, 0], talib.ATR(high, low, close, 14))


def test_directional_movement(candles: np.ndarray) -> None:
    _, high, low, close, _ = candles.T

    ours = run("adx", candles, 14)

    agree(ours[:, 0], talib.ADX(high, low, close, 14))
    warm = slice(27, None)
    agree(ours[warm, 1], talib.PLUS_DI(high, low, close, 14)[warm])
    agree(ours[warm, 2], talib.MINUS_DI(high, low, close, 14)[warm])


def test_commodity_channel_index(candles: np.ndarray) -> None:
    _, high, low, close, _ = candles.T
    agree(run("cci", candles, 20)[:, 0], talib.CCI(high, low, close, 20), floor=100)


def test_money_flow_index(candles: np.ndarray) -> None:
    _, high, low, close, volume = candles.T
    agree(run("mfi", candles, 14)[:, 0], talib.MFI(high, low, close, volume, 14), floor=100)


def test_slope_of_the_on_balance_volume(candles: np.ndarray) -> None:
    close, volume = candles[:, 3], candles[:, 4]
    theirs = talib.LINEARREG_SLOPE(talib.OBV(close, volume), 20) / talib.SMA(volume, 20)
    agree(run("obv_slope", candles, 20)[:, 0], theirs, floor=1)


def test_exponential_average(candles: np.ndarray) -> None:
    agree(run("ema", candles, 21)[:, 0], talib.EMA(candles[:, 3], 21))


def test_position_in_the_range(candles: np.ndarray) -> None:
    highest, lowest = talib.MAX(candles[:, 1], 60), talib.MIN(candles[:, 2], 60)
    theirs = (candles[:, 3] - lowest) / (highest - lowest)
    agree(run("range_position", candles, 60)[:, 0], theirs, floor=1)

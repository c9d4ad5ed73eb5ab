"""pandas and pandas-ta-classic agree: at once where they seed alike, else once the seed is forgotten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pandas_ta_classic as ta
import pytest

from domain.features.benchmarks import random_walk
from domain.indicators import load

RELATIVE = 1e-9


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rows = random_walk(np.random.default_rng(3), 2_000, 1)[:, 0]
    return pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume"])


def run(name: str, frame: pd.DataFrame) -> np.ndarray:
    indicator = load(name)
    parameters = indicator.SPEC.defaults
    state = np.zeros(indicator.SPEC.state_size(*parameters))
    out = np.empty((len(frame), len(indicator.SPEC.outputs)))
    for candle, values in zip(frame.to_numpy(), out, strict=True):
        indicator.update(state, candle, values, *parameters)
    return out


def agree(ours: np.ndarray, theirs: pd.Series, start: int, floor: float) -> None:
    np.testing.assert_allclose(ours[start:], theirs.to_numpy()[start:], rtol=RELATIVE, atol=RELATIVE * floor)


SAME = {
    "bollinger": lambda f: ta.bbands(f.close, length=20, std=2, talib=False)[
        ["BBU_20_2.0", "BBM_20_2.0", "BBL_20_2.0"]
    ],
    "stochastic": lambda f: ta.stoch(f.high, f.low, f.close, k=14, d=3, smooth_k=1, talib=False),
    "cci": lambda f: ta.cci(f.high, f.low, f.close, length=20, talib=False),
    "mfi": lambda f: ta.mfi(f.high, f.low, f.close, f.volume, length=14, talib=False),
    "ema": lambda f: ta.ema(f.close, length=21, talib=False),
    "volatility": lambda f: f.close.pct_change().rolling(5).std(),
    "volume_zscore": lambda f: pd.concat(
        [ta.zscore(f.volume, length=20, std=1, talib=False, ddof=1), f.volume.rolling(20).mean()], axis=1
    ),
    "realized_volatility": lambda f: pd.concat(
        [100 * np.log(f.close).diff().rolling(n).std() for n in (5, 15, 60)], axis=1
    ),
    "vwap_distance": lambda f: (
        100
        * (
            f.close
            * f.volume.rolling(60).sum()
            / (ta.hlc3(f.high, f.low, f.close) * f.volume).rolling(60).sum()
            - 1
        )
    ),
    "volume_imbalance": lambda f: (
        (np.sign(f.close.diff()) * f.volume).rolling(20).sum() / f.volume.rolling(20).sum()
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_from_the_first_value(name: str, frame: pd.DataFrame) -> None:
    theirs = pd.DataFrame(SAME[name](frame))

    ours = run(name, frame)

    warm = load(name).SPEC.warm_up(*load(name).SPEC.defaults) - 1
    for column in range(theirs.shape[1]):
        agree(ours[:, column], theirs.iloc[:, column], start=warm, floor=1.0)


SEEDED_OTHERWISE: dict[str, tuple[int, Callable[[pd.DataFrame], pd.Series | pd.DataFrame]]] = {
    "rsi": (350, lambda f: ta.rsi(f.close, length=14, talib=False)),
    "macd": (
        350,
        lambda f: ta.macd(f.close, talib=False)[["MACD_12_26_9", "MACDs_12_26_9", "MACDh_12_26_9"]],
    ),
    "atr": (350, lambda f: ta.atr(f.high, f.low, f.close, length=14, talib=False)),
}


@pytest.mark.parametrize("name", SEEDED_OTHERWISE)
def test_the_same_once_another_seed_is_forgotten(name: str, frame: pd.DataFrame) -> None:
    start, rule = SEEDED_OTHERWISE[name]
    theirs = pd.DataFrame(rule(frame))

    ours = run(name, frame)

    for column in range(theirs.shape[1]):
        agree(ours[:, column], theirs.iloc[:, column], start=start, floor=100.0)

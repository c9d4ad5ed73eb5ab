"""Every feature of the vector, written a second time with pandas from its documented formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from domain.features.benchmarks import random_walk
from domain.features.engine import FeatureEngine
from domain.features.history import compute_history
from domain.features.schema import NAMES
from domain.indicators import load
from schemas.frames import MINUTE_MS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "ADAUSDT")
MINUTES = 1_800
#: The slow ones, a rank or a bar by bar at every minute, are compared over the last of them only.
NEWEST = slice(-150, None)
SLOW = ("_5m", "_15m", "_60m", "cone_5", "cone_15", "cone_60")
FIRST_MS = 27_000_017 * MINUTE_MS
TIMES = FIRST_MS + MINUTE_MS * np.arange(MINUTES)


def series(name: str, frame: pd.DataFrame, *parameters: float) -> pd.DataFrame:
    """Run an indicator; its own tests hold it against other libraries."""
    indicator = load(name)
    parameters = parameters or indicator.SPEC.defaults
    state = np.zeros(indicator.SPEC.state_size(*parameters))
    out = np.empty((len(frame), len(indicator.SPEC.outputs)))
    for candle, values in zip(frame.to_numpy(), out, strict=True):
        indicator.update(state, candle, values, *parameters)
    return pd.DataFrame(out, columns=list(indicator.SPEC.outputs), index=frame.index)


def slope(values: pd.Series) -> pd.Series:
    return values - values.shift(5)


def time_frame(f: pd.DataFrame, minutes: int) -> dict[str, pd.Series]:
    bars = f.resample(f"{minutes}min").agg({"high": "max", "low": "min", "close": "last"})
    previous = bars.close.shift()
    reach = np.maximum(bars.high, previous) - np.minimum(bars.low, previous)
    rsi, trend, atr = [], [], []
    for moment, close in f.close[NEWEST].items():
        closed = bars.loc[: moment.floor(f"{minutes}min")].iloc[:-1]
        if len(closed) < 15:
            rsi.append(np.nan)
            trend.append(np.nan)
            atr.append(np.nan)
            continue
        points = np.append(closed.close.to_numpy()[-14:], close)
        steps = np.diff(points)
        rsi.append(100 * steps[steps > 0].sum() / np.abs(steps).sum())
        trend.append(100 * np.polyfit(np.arange(10), points[-10:], 1)[0] / close)
        atr.append(100 * reach.loc[closed.index[-14:]].mean() / close)
    return {
        f"rsi_{minutes}m": pd.Series(rsi, f.index[NEWEST]).reindex(f.index),
        f"trend_{minutes}m": pd.Series(trend, f.index[NEWEST]).reindex(f.index),
        f"atr_{minutes}m": pd.Series(atr, f.index[NEWEST]).reindex(f.index),
    }


def cone(sigma: pd.Series) -> pd.Series:
    samples = sigma[sigma.index.minute % 15 == 0]
    ranks = []
    for moment, value in sigma[NEWEST].items():
        last_day = samples[samples.index < moment].iloc[-96:]
        enough = len(last_day) == 96 and last_day.notna().all()
        below = (last_day < value).mean() + 0.5 * (last_day == value).mean()
        ranks.append(below if enough else np.nan)
    return pd.Series(ranks, sigma.index[NEWEST]).reindex(sigma.index)


def market(frames: dict[str, pd.DataFrame]) -> dict[str, pd.Series]:
    logs = pd.DataFrame({name: 100 * np.log(f.close) for name, f in frames.items()})
    leader = logs["BTCUSDT"]
    known = {f"leader_return_{n}": leader.diff(n) for n in (1, 5, 15)}
    known |= {
        f"breadth_{n}": np.sign(logs.diff(n)).mean(axis=1).where(logs.diff(n).notna().all(axis=1))
        for n in (1, 15)
    }
    known["market_return_15"] = logs.diff(15).mean(axis=1)
    known["market_return_60"] = logs.diff(60).mean(axis=1)
    return {name: values.shift(1) for name, values in known.items()}


def expected(f: pd.DataFrame, frames: dict[str, pd.DataFrame]) -> dict[str, pd.Series]:
    log = 100 * np.log(f.close)
    own = log.diff()
    result = {f"return_{n}": log.diff(n) for n in (1, 3, 5, 10, 15, 30, 60, 120, 240)}
    macd, bands, stochastic = series("macd", f), series("bollinger", f), series("stochastic", f)
    adx, cci, mfi = series("adx", f), series("cci", f).cci, series("mfi", f).mfi
    width = bands.bollinger_upper - bands.bollinger_lower
    result["rsi"] = series("rsi", f).rsi
    result["macd"] = 100 * macd.macd / f.close
    result["macd_histogram"] = 100 * macd.macd_histogram / f.close
    result["bollinger_percent_b"] = (f.close - bands.bollinger_lower) / width
    result["bollinger_bandwidth"] = 100 * width / bands.bollinger_middle
    result["stochastic_k"], result["stochastic_d"] = stochastic.stochastic_k, stochastic.stochastic_d
    result["cci"], result["mfi"] = cci, mfi
    result["atr"] = 100 * series("atr", f).atr / f.close
    result["adx"], result["di_spread"] = adx.adx, adx.plus_di - adx.minus_di
    average = series("ema", f).ema
    result["ema_distance"] = 100 * (f.close / average - 1)
    result["ema_slope"] = 100 * slope(average) / f.close
    for name in ("rsi", "macd_histogram", "stochastic_d", "cci", "mfi", "atr", "adx"):
        result[f"{name}_slope"] = slope(result[name])
    result["obv_slope"] = series("obv_slope", f).obv_slope
    result["vwap_distance_15"] = series("vwap_distance", f, 15).vwap_distance
    result["vwap_distance_60"] = series("vwap_distance", f, 60).vwap_distance
    for n in (20, 60):
        result[f"volume_zscore_{n}"] = (f.volume - f.volume.rolling(n).mean()) / f.volume.rolling(n).std()
    result["volume_ratio"] = f.volume.rolling(20).mean() / f.volume.rolling(60).mean()
    result["volume_imbalance"] = series("volume_imbalance", f).volume_imbalance
    reach = f.high - f.low
    result["candle_body"] = (f.close - f.open) / reach
    result["candle_upper_wick"] = (f.high - f[["open", "close"]].max(axis=1)) / reach
    result["candle_lower_wick"] = (f[["open", "close"]].min(axis=1) - f.low) / reach
    result["candle_range"] = 100 * reach / f.close
    result["candle_gap"] = 100 * (f.open / f.close.shift() - 1)
    lowest, highest = f.low.rolling(60).min(), f.high.rolling(60).max()
    result["range_position"] = (f.close - lowest) / (highest - lowest)
    result["volatility"] = 100 * f.close.pct_change().rolling(5).std()
    for n in (15, 60):
        result[f"volatility_{n}"] = own.rolling(n).std()
    for n in (5, 15, 60):
        result[f"volatility_cone_{n}"] = cone(own.rolling(n).std().where(own.rolling(60).std().notna()))
        result |= time_frame(f, n)
    around = market(frames)
    lead = 100 * np.log(frames["BTCUSDT"].close).diff()
    result["leader_beta"] = (own.rolling(60).cov(lead) / lead.rolling(60).var()).shift(1)
    result["leader_correlation"] = own.rolling(60).corr(lead).shift(1)
    result["leader_lead"] = own.rolling(60).corr(lead.shift(1))
    result["relative_strength_60"] = log.diff(60) - around.pop("market_return_60")
    result |= around
    minute = f.index.hour * 60 + f.index.minute
    week = f.index.day_of_week * 1_440 + minute
    for name, turn in (("day", minute / 1_440), ("week", week / 10_080)):
        result[f"{name}_sine"] = pd.Series(np.sin(2 * np.pi * turn), f.index)
        result[f"{name}_cosine"] = pd.Series(np.cos(2 * np.pi * turn), f.index)
    return result


@pytest.fixture(scope="module")
def both() -> tuple[np.ndarray, dict[str, pd.Series]]:
    rows = random_walk(np.random.default_rng(21), MINUTES, len(SYMBOLS))
    frames = {
        name: pd.DataFrame(
            rows[:, i],
            columns=["open", "high", "low", "close", "volume"],
            index=pd.DatetimeIndex(TIMES.astype("datetime64[ms]")),
        )
        for i, name in enumerate(SYMBOLS)
    }
    engine = FeatureEngine(symbols=SYMBOLS, references=SYMBOLS, leader="BTCUSDT")
    vectors = compute_history(
        engine,
        open_time_ms=dict.fromkeys(SYMBOLS, TIMES),
        ohlcv={name: frame.to_numpy() for name, frame in frames.items()},
    )
    return vectors["ADAUSDT"].vector, expected(frames["ADAUSDT"], frames)


@pytest.mark.parametrize("name", NAMES)
def test_the_vector_holds_what_its_formula_says(
    name: str, both: tuple[np.ndarray, dict[str, pd.Series]]
) -> None:
    vector, formulas = both
    rows = NEWEST if name.endswith(SLOW) else slice(None)
    ours, theirs = vector[rows, NAMES.index(name)], formulas[name].to_numpy()[rows]
    there = ~np.isnan(ours)

    assert there.any()
    size = np.nanmax(np.abs(theirs))
    np.testing.assert_allclose(ours[there], theirs[there], rtol=1e-5, atol=1e-6 * size)

"""Features of pandas and numpy that look back only."""

from __future__ import annotations

import numpy as np
import pandas as pd


def rolling_zscore(f: pd.DataFrame) -> pd.Series:
    return (f.close - f.close.rolling(50).mean()) / f.close.rolling(50).std()


def expanding_rank(f: pd.DataFrame) -> pd.Series:
    return f.volume.expanding(20).rank(pct=True)


def expanding_mean_known_before(f: pd.DataFrame) -> pd.Series:
    return f.close / f.close.expanding().mean().shift(1) - 1


def exponential_average(f: pd.DataFrame) -> pd.Series:
    return f.close.ewm(span=30, adjust=False).mean()


def exponential_deviation(f: pd.DataFrame) -> pd.Series:
    return np.log(f.close).diff().ewm(halflife=45).std()


def rolling_skew_and_kurtosis(f: pd.DataFrame) -> pd.DataFrame:
    moves = np.log(f.close).diff()
    return pd.DataFrame({"skew": moves.rolling(60).skew(), "kurtosis": moves.rolling(60).kurt()})


def rolling_correlation_with_volume(f: pd.DataFrame) -> pd.Series:
    return f.close.diff().rolling(30).corr(f.volume.diff())


def rolling_quantile(f: pd.DataFrame) -> pd.Series:
    return f.close.rolling(120, min_periods=10).quantile(0.9)


def window_by_time(f: pd.DataFrame) -> pd.Series:
    return f.volume.rolling("30min").sum()


def hour_bars_that_are_over(f: pd.DataFrame) -> pd.Series:
    bars = f.close.resample("60min", label="right", closed="left").last()
    return bars.reindex(f.index, method="ffill").where(f.index >= f.index[0].ceil("60min"))


def volume_so_far_today(f: pd.DataFrame) -> pd.Series:
    return f.volume.groupby(f.index.date).cumsum()


def price_of_the_day_by_volume(f: pd.DataFrame) -> pd.Series:
    days = f.index.date
    return (f.close * f.volume).groupby(days).cumsum() / f.volume.groupby(days).cumsum()


def last_price_that_was_traded(f: pd.DataFrame) -> pd.Series:
    return f.close.where(f.volume > 0).ffill()


def hour_of_the_day(f: pd.DataFrame) -> np.ndarray:
    return np.sin(2 * np.pi * f.index.hour / 24)


def mean_volume_of_the_hour_on_earlier_candles(f: pd.DataFrame) -> pd.Series:
    return f.volume.groupby(f.index.hour).transform(lambda v: v.expanding().mean().shift(1))


def one_sided_filter_by_fft(f: pd.DataFrame) -> np.ndarray:
    kernel = 0.9 ** np.arange(100)
    size = len(f) + len(kernel)
    return np.fft.irfft(np.fft.rfft(f.close.to_numpy(), size) * np.fft.rfft(kernel, size), size)[: len(f)]


def one_sided_convolution(f: pd.DataFrame) -> np.ndarray:
    return np.convolve(f.close.to_numpy(), np.full(9, 1 / 9))[: len(f)]


def slope_by_matrix_product(f: pd.DataFrame) -> np.ndarray:
    if len(f) < 30:
        return np.full(len(f), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(f.close.to_numpy(), 30)
    steps = np.arange(30) - 14.5
    return np.concatenate([np.full(29, np.nan), windows @ steps / (steps @ steps)])


def differences_of_cumulated_sums(f: pd.DataFrame) -> np.ndarray:
    sums = np.cumsum(f.close.to_numpy())
    return np.concatenate([np.full(20, np.nan), (sums[20:] - sums[:-20]) / 20])[: len(f)]


def fixed_noise_on_the_close(f: pd.DataFrame) -> np.ndarray:
    return f.close.to_numpy() + np.random.default_rng(7).standard_normal(len(f))


def time_since_the_last_gap(f: pd.DataFrame) -> pd.Series:
    starts = f.index.to_series().diff() > pd.Timedelta(minutes=1)
    return starts.groupby(starts.cumsum()).cumcount().astype(float)


def nothing_at_all(f: pd.DataFrame) -> pd.Series:
    return pd.Series(np.nan, f.index)


def only_the_candles_that_have_volume(f: pd.DataFrame) -> pd.Series:
    return f.volume[f.volume > 0].diff()

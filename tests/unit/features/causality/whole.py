"""Features that are made with the whole history."""

from __future__ import annotations

import numpy as np
import pandas as pd


def returns_of(f: pd.DataFrame) -> pd.Series:
    return np.log(f.close).diff()


def normalises_by_the_whole_mean_and_deviation(f: pd.DataFrame) -> pd.Series:
    return (f.close - f.close.mean()) / f.close.std()


def normalises_by_the_whole_minimum_and_maximum(f: pd.DataFrame) -> pd.Series:
    return (f.close - f.close.min()) / (f.close.max() - f.close.min())


def divides_by_the_largest_volume_of_all(f: pd.DataFrame) -> pd.Series:
    return f.volume / f.volume.max()


def ranks_among_all_candles(f: pd.DataFrame) -> pd.Series:
    return f.close.rank(pct=True)


def bins_by_quantiles_of_the_whole(f: pd.DataFrame) -> pd.Series:
    return pd.qcut(f.volume.rank(method="first"), 10, labels=False).astype(float)


def clips_at_quantiles_of_the_whole(f: pd.DataFrame) -> pd.Series:
    moves = returns_of(f)
    return moves.clip(moves.quantile(0.01), moves.quantile(0.99))


def fills_gaps_with_the_whole_median(f: pd.DataFrame) -> pd.Series:
    return f.volume.where(f.volume > 0).fillna(f.volume.median())


def projects_on_components_of_the_whole(f: pd.DataFrame) -> np.ndarray:
    table = f.to_numpy()
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    _, _, axes = np.linalg.svd(table, full_matrices=False)
    return table @ axes[0] * np.sign(axes[0][0])


def takes_off_a_trend_fitted_to_the_whole(f: pd.DataFrame) -> np.ndarray:
    steps = np.arange(len(f))
    return f.close.to_numpy() - np.polyval(np.polyfit(steps, f.close.to_numpy(), 1), steps)


def encodes_the_hour_by_its_mean_target(f: pd.DataFrame) -> pd.Series:
    target = (f.close.shift(-5) > f.close).astype(float)
    return target.groupby(f.index.hour).transform("mean")


def compares_volume_with_the_hour_of_all_days(f: pd.DataFrame) -> pd.Series:
    return f.volume / f.volume.groupby(f.index.hour).transform("mean")


def smooths_in_the_frequency_domain(f: pd.DataFrame) -> np.ndarray:
    spectrum = np.fft.rfft(f.close.to_numpy())
    spectrum[40:] = 0.0
    return np.fft.irfft(spectrum, len(f))


def filters_forth_and_back(f: pd.DataFrame) -> pd.Series:
    forth = f.close.ewm(span=20).mean()
    return forth[::-1].ewm(span=20).mean()[::-1]


def sorts_the_candles(f: pd.DataFrame) -> np.ndarray:
    return np.sort(f.close.to_numpy())


def gives_each_candle_its_place_in_the_order(f: pd.DataFrame) -> np.ndarray:
    return np.argsort(np.argsort(f.volume.to_numpy())).astype(float)


def starts_an_average_at_the_whole_mean(f: pd.DataFrame) -> np.ndarray:
    average, values = float(f.close.mean()), []
    for close in f.close:
        average += 0.1 * (close - average)
        values.append(average)
    return np.array(values)


def counts_from_the_end(f: pd.DataFrame) -> np.ndarray:
    return np.arange(len(f))[::-1].astype(float)


def divides_by_the_length_of_the_history(f: pd.DataFrame) -> pd.Series:
    return f.close.cumsum() / len(f)


def marks_the_newest_candle(f: pd.DataFrame) -> np.ndarray:
    return (f.index == f.index[-1]).astype(float)


def compares_with_the_last_close(f: pd.DataFrame) -> pd.Series:
    return f.close / f.close.iloc[-1]


def adds_up_from_the_end(f: pd.DataFrame) -> pd.Series:
    return f.volume[::-1].cumsum()[::-1]


def fills_the_start_from_behind(f: pd.DataFrame) -> pd.Series:
    return f.close.rolling(20).mean().bfill()


def bases_the_index_on_a_later_candle(f: pd.DataFrame) -> pd.Series:
    return f.close / f.close.iloc[min(350, len(f) - 1)]


def picks_the_best_length_by_hindsight(f: pd.DataFrame) -> pd.Series:
    ahead = returns_of(f).shift(-1)
    candidates = [f.close / f.close.rolling(n).mean() - 1 for n in (5, 10, 20, 40)]
    return max(candidates, key=lambda column: float(column.corr(ahead)))

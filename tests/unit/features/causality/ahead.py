"""Features that look a stated number of candles ahead."""

from __future__ import annotations

import numpy as np
import pandas as pd


def peeks_one_candle_ahead(f: pd.DataFrame) -> pd.Series:
    return f.close.shift(-1) / f.close - 1


def says_whether_the_next_candle_rises(f: pd.DataFrame) -> pd.Series:
    return (f.close.shift(-1) > f.close).astype(float)


def centres_its_window(f: pd.DataFrame) -> pd.Series:
    return f.close.rolling(11, center=True).mean()


def joins_the_label_of_an_hour_later(f: pd.DataFrame) -> pd.Series:
    return f.close.shift(-60) / f.close - 1


def looks_a_day_ahead(f: pd.DataFrame) -> pd.Series:
    return f.close.shift(-1_440)


def takes_the_next_known_price_by_an_asof_join(f: pd.DataFrame) -> np.ndarray:
    left = pd.DataFrame({"at": (f.index + pd.Timedelta(minutes=7)).as_unit("ms")})
    right = pd.DataFrame({"at": f.index, "price": f.close.to_numpy()})
    return pd.merge_asof(left, right, on="at", direction="forward").price.to_numpy()


def takes_the_nearest_price_by_an_asof_join(f: pd.DataFrame) -> np.ndarray:
    quarter = f.close[f.index.minute % 15 == 0]
    right = pd.DataFrame({"at": quarter.index, "price": quarter.to_numpy()})
    return pd.merge_asof(pd.DataFrame({"at": f.index}), right, on="at", direction="nearest").price.to_numpy()


def sees_the_whole_bar(f: pd.DataFrame, minutes: int) -> pd.Series:
    return f.close.resample(f"{minutes}min").last().reindex(f.index, method="ffill")


def stamps_5_minute_bars_at_their_start(f: pd.DataFrame) -> pd.Series:
    return sees_the_whole_bar(f, 5)


def stamps_15_minute_bars_at_their_start(f: pd.DataFrame) -> pd.Series:
    return sees_the_whole_bar(f, 15)


def stamps_60_minute_bars_at_their_start(f: pd.DataFrame) -> pd.Series:
    return sees_the_whole_bar(f, 60)


def knows_the_range_of_the_day_from_its_morning(f: pd.DataFrame) -> pd.Series:
    days = f.groupby(f.index.date)
    return days.high.transform("max") - days.low.transform("min")


def interpolates_between_quarters_of_an_hour(f: pd.DataFrame) -> pd.Series:
    return f.close.where(f.index.minute % 15 == 0).interpolate()


def marks_the_turning_points(f: pd.DataFrame) -> pd.Series:
    return ((f.high > f.high.shift(1)) & (f.high > f.high.shift(-1))).astype(float)


def takes_the_slope_by_central_differences(f: pd.DataFrame) -> np.ndarray:
    return np.gradient(f.close.to_numpy())


def convolves_with_a_symmetric_kernel(f: pd.DataFrame) -> np.ndarray:
    return np.convolve(f.close.to_numpy(), np.full(9, 1 / 9), mode="same")


def rolls_over_the_end(f: pd.DataFrame) -> np.ndarray:
    # The newest candles go round and stand before the oldest.
    return np.roll(f.close.to_numpy(), 3)


def labels_by_the_barrier_that_is_hit_first(f: pd.DataFrame) -> np.ndarray:
    close = f.close.to_numpy()
    labels = np.zeros(len(close))
    for i in range(len(close)):
        ahead = close[i + 1 : i + 31] / close[i] - 1
        hit = np.flatnonzero(np.abs(ahead) > 0.001)
        labels[i] = np.sign(ahead[hit[0]]) if len(hit) else 0.0
    return labels


def peeks_by_a_billionth(f: pd.DataFrame) -> pd.Series:
    return f.close.rolling(20).mean() * (1 + 1e-9 * np.sign(f.close.shift(-1) - f.close))

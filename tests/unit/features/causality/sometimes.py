"""Features that leak one candle ahead, but only under some condition."""

from __future__ import annotations

import numpy as np
import pandas as pd


def peek_where(f: pd.DataFrame, condition: pd.Series | np.ndarray) -> pd.Series:
    return f.close.where(~np.asarray(condition, bool), f.close.shift(-1))


def missing_before(f: pd.DataFrame) -> pd.Series:
    return f.index.to_series().diff() > pd.Timedelta(minutes=1)


def peeks_only_after_a_gap(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, missing_before(f))


def peeks_only_before_a_gap(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, missing_before(f).shift(-1, fill_value=False))


def peeks_only_in_the_last_minute_of_a_day(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, (f.index.hour == 23) & (f.index.minute == 59))


def peeks_only_in_the_first_minute_of_a_day(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, (f.index.hour == 0) & (f.index.minute == 0))


def peeks_only_at_the_full_hour(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, f.index.minute == 0)


def peeks_only_at_the_cheapest_symbol(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, f.close < 0.2)


def peeks_only_at_volume(f: pd.DataFrame) -> pd.Series:
    return f.close.rolling(5).mean() + 0.0 * f.open + np.sign(f.volume.shift(-1) - f.volume)


def peeks_only_in_a_surge_of_volume(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, f.volume > 50 * f.volume.rolling(60, min_periods=1).median())


def peeks_only_in_quiet_minutes(f: pd.DataFrame) -> pd.Series:
    return peek_where(f, f.volume == 0)


def fills_quiet_minutes_from_behind(f: pd.DataFrame) -> pd.Series:
    return f.volume.where(f.volume > 0).bfill()


def interpolates_quiet_minutes(f: pd.DataFrame) -> pd.Series:
    return f.volume.where(f.volume > 0).interpolate()


def peeks_only_when_the_future_is_wild(f: pd.DataFrame) -> pd.Series:
    ahead = f.close.shift(-1) / f.close - 1
    return f.close.where(~(ahead.abs() > 0.1), 0.0)


def peeks_only_in_a_long_history(f: pd.DataFrame) -> pd.Series:
    return f.close.shift(-1) if len(f) > 2_000 else f.close.where(f.index < f.index[-1])

"""Features that look at other symbols, and at what of them is not in yet."""

from __future__ import annotations

import numpy as np
import pandas as pd

Frames = dict[str, pd.DataFrame]
Values = dict[str, pd.Series]


def closes_of(frames: Frames) -> pd.DataFrame:
    return pd.DataFrame({name: f.close for name, f in frames.items()}).ffill()


def takes_the_leader_of_the_same_minute(frames: Frames) -> Values:
    leader = frames["BTCUSDT"].close.pct_change(fill_method=None)
    return {name: leader.reindex(f.index) for name, f in frames.items()}


def ranks_the_symbols_within_a_minute(frames: Frames) -> Values:
    moves = closes_of(frames).pct_change(5, fill_method=None).rank(axis=1)
    return {name: moves[name].reindex(f.index) for name, f in frames.items()}


def takes_the_mean_of_all_symbols_of_the_same_minute(frames: Frames) -> Values:
    mean = np.log(closes_of(frames)).diff().mean(axis=1)
    return {name: mean.reindex(f.index) for name, f in frames.items()}


def takes_the_next_minute_of_the_leader(frames: Frames) -> Values:
    leader = frames["BTCUSDT"].close.shift(-1)
    return {name: leader.reindex(f.index) for name, f in frames.items()}


def correlates_over_the_whole_with_the_leader(frames: Frames) -> Values:
    moves = closes_of(frames).pct_change(fill_method=None)
    correlation = moves.corr()["BTCUSDT"]
    return {name: pd.Series(correlation[name], f.index) for name, f in frames.items()}


def peeks_at_one_symbol_only(frames: Frames) -> Values:
    return {name: f.close.shift(-1 if name == "ETHUSDT" else 0) for name, f in frames.items()}


def fills_gaps_of_others_from_behind(frames: Frames) -> Values:
    closes = pd.DataFrame({name: f.close for name, f in frames.items()}).bfill().shift(1)
    others = {name: closes.drop(columns=name).mean(axis=1) for name in frames}
    return {name: others[name].reindex(f.index) for name, f in frames.items()}


def honest_leader_of_the_previous_minute(frames: Frames) -> Values:
    leader = frames["BTCUSDT"].close.pct_change(5, fill_method=None)
    leader.index += pd.Timedelta(minutes=1)
    return {name: leader.reindex(f.index, method="ffill") for name, f in frames.items()}


def honest_breadth_of_the_previous_minute(frames: Frames) -> Values:
    closes = closes_of(frames)
    rising = (closes.diff(15) > 0).mean(axis=1)
    rising.index += pd.Timedelta(minutes=1)
    return {name: rising.reindex(f.index, method="ffill") for name, f in frames.items()}
